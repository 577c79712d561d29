//! Drops records whose images are too small, too long or too large.

use heddle_plugin_sdk::{
    Batch, ColumnType, Config, Description, Error, Filter, Numbers, reads, reasons, stateless,
};
use serde::Deserialize;

/// What becomes of records whose size is not known.
#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Unknown {
    Keep,
    Drop,
}

/// The limits; 0 as a maximum is none.
#[derive(Deserialize)]
#[serde(default)]
pub struct ImageShape {
    min_side: u32,
    max_aspect: f64,
    max_pixels: u64,
    unknown: Unknown,
}

impl Default for ImageShape {
    fn default() -> Self {
        Self { min_side: 64, max_aspect: 3.0, max_pixels: 0, unknown: Unknown::Drop }
    }
}

impl ImageShape {
    /// The verdict on a size in pixels.
    pub fn judge(&self, size: Option<(u32, u32)>) -> u8 {
        let Some((width, height)) = size else { return if self.unknown == Unknown::Keep { 0 } else { 4 } };
        let (short, long) = (width.min(height), width.max(height));
        match () {
            () if short < self.min_side => 1,
            () if f64::from(long) > self.max_aspect * f64::from(short) => 2,
            () if self.max_pixels > 0 && u64::from(width) * u64::from(height) > self.max_pixels => 3,
            () => 0,
        }
    }
}

impl Filter for ImageShape {
    fn describe() -> Description {
        Description {
            reads: reads(&[
                ("width", ColumnType::U32s, false, true),
                ("height", ColumnType::U32s, false, true),
            ]),
            reasons: reasons(&[
                ("too-small", "a side has fewer pixels than the config asks for"),
                ("too-long", "the sides differ more than the config allows"),
                ("too-large", "there are more pixels than the config allows"),
                ("unknown-size", "the size is not known; `data.decode` finds it"),
            ]),
            ..stateless(
                "image-shape",
                "drops records whose images are too small or too long",
                include_str!("../config.schema.json"),
            )
        }
    }

    fn open(config: Config<'_>, _: u64) -> Result<Self, Error> {
        config.read()
    }

    fn apply(&mut self, batch: &Batch) -> Result<Vec<u8>, Error> {
        let (width, height) = (Numbers::<u32>::of(batch, "width")?, Numbers::<u32>::of(batch, "height")?);
        Ok((0..batch.rows as usize).map(|row| self.judge(width.get(row).zip(height.get(row)))).collect())
    }
}

heddle_plugin_sdk::export_filter!(ImageShape);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_limits() {
        let rule = ImageShape { min_side: 32, max_aspect: 2.0, max_pixels: 10_000, unknown: Unknown::Drop };
        for (size, verdict) in
            [(Some((64, 64)), 0), (Some((31, 64)), 1), (Some((32, 65)), 2), (Some((101, 100)), 3), (None, 4)]
        {
            assert_eq!(rule.judge(size), verdict, "{size:?}");
        }
    }
}
