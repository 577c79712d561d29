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

impl ImageSpec {
    /// Height times width.
    pub fn pixels(&self) -> usize {
        self.size[0] as usize * self.size[1] as usize
    }

    /// The value of an 8-bit sample of one channel after normalisation.
    pub fn normalised(&self, channel: usize, sample: u8) -> f32 {
        self.normalise(channel, f32::from(sample) / 255.0)
    }

    /// The value of a sample in 0..1 of one channel after normalisation.
    pub(crate) fn normalise(&self, channel: usize, sample: f32) -> f32 {
        (sample - self.mean[channel]) / self.std[channel]
    }

    /// The mean as a colour, rounded down as LLaVA's padding does.
    pub(crate) fn mean_colour(&self) -> [u8; 3] {
        self.mean.map(|mean| (mean * 255.0) as u8)
    }
}
