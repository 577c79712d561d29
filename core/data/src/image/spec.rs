//! What a model wants to see: size, how to get there, and the constants of normalisation.
//!
//! Plain data; `prepared` carries it out.

use serde::{Deserialize, Serialize};

use super::Filter;

/// How a picture of any shape becomes one of the model's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Stretch to the size (InternVL: retrieval, captioning).
    #[default]
    Square,
    /// Scale until the picture covers the size, then cut out the centre (InternVL: classification).
    ShortSide,
    /// Pad to a square with the mean colour, then scale (InternVL: chat).
    PadSquare,
}

/// The preprocessing of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageSpec {
    /// Height and width in pixels.
    pub size: [u32; 2],
    /// How to get to that size.
    pub resize: Resize,
    /// The resampling kernel.
    pub filter: Filter,
    /// Mean of R, G, B, of values in 0..1.
    pub mean: [f32; 3],
    /// Standard deviation of R, G, B, of values in 0..1; not zero.
    pub std: [f32; 3],
    /// Colour that shows through transparent pixels, composited before resizing.
    pub background: [u8; 3],
}

impl Default for ImageSpec {
    /// InternVL's constants (those of ImageNet), 224 x 224, on white.
    fn default() -> Self {
        Self {
            size: [224, 224],
            resize: Resize::Square,
            filter: Filter::Bicubic,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            background: [255; 3],
        }
    }
}

/// A spec that no picture can meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Height or width is 0, or so large that a picture does not fit in memory.
    #[error("the image size must lie in 1..=16384 on both sides")]
    Size,
    /// A mean or a deviation is not finite, or a deviation is not positive.
    #[error("mean and std must be finite, and std positive")]
    Normalisation,
}

impl ImageSpec {
    /// Checks the spec once, where it is written down; what follows relies on it.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn check(&self) -> Result<(), SpecError> {
        if self.size.iter().any(|side| !(1..=16384).contains(side)) {
            return Err(SpecError::Size);
        }
        let finite = self.mean.iter().chain(&self.std).all(|value| value.is_finite());
        match finite && self.std.iter().all(|std| *std > 0.0) {
            true => Ok(()),
            false => Err(SpecError::Normalisation),
        }
    }

    /// Height times width.
    pub fn pixels(&self) -> usize {
        self.size[0] as usize * self.size[1] as usize
    }

    /// The value of an 8-bit sample of one channel after normalisation.
    pub fn normalised(&self, channel: usize, sample: u8) -> f32 {
        (f32::from(sample) / 255.0 - self.mean[channel]) / self.std[channel]
    }

    /// The mean as a colour, rounded down as LLaVA's padding does.
    pub(crate) fn mean_colour(&self) -> [u8; 3] {
        self.mean.map(|mean| (mean * 255.0) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_specs_are_refused() {
        let with = |size, std| ImageSpec { size, std, ..ImageSpec::default() }.check();
        assert_eq!(with([32, 32], [1.0; 3]), Ok(()));
        assert_eq!(with([0, 32], [1.0; 3]), Err(SpecError::Size));
        assert_eq!(with([32, 32], [1.0, 0.0, 1.0]), Err(SpecError::Normalisation));
        assert_eq!(with([32, 32], [f32::NAN; 3]), Err(SpecError::Normalisation));
    }
}
