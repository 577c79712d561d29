//! Gives every record a number from 0 to 1 for how much its best caption says.
//!
//! `length * variety * letters`: words up to `good_words`, distinct words among all, letters among all that is no space.

use std::collections::HashSet;

use heddle_plugin_sdk::{
    Batch, ColumnType, Config, Description, Error, Score, Texts, reads, stateless, words,
};
use serde::Deserialize;

/// The number of words that is enough.
#[derive(Deserialize)]
#[serde(default)]
pub struct CaptionQuality {
    good_words: usize,
}

impl Default for CaptionQuality {
    fn default() -> Self {
        Self { good_words: 12 }
    }
}

impl CaptionQuality {
    /// The number of one caption.
    pub fn quality(&self, text: &str) -> f32 {
        let all = words::split(text);
        let solid = text.chars().filter(|c| !c.is_whitespace()).count();
        if all.is_empty() || solid == 0 {
            return 0.0;
        }
        let length = (all.len() as f32 / self.good_words as f32).min(1.0);
        let variety = all.iter().collect::<HashSet<_>>().len() as f32 / all.len() as f32;
        let letters = text.chars().filter(|c| c.is_alphabetic()).count() as f32 / solid as f32;
        length * variety * letters
    }
}

impl Score for CaptionQuality {
    fn describe() -> Description {
        Description {
            reads: reads(&[("captions", ColumnType::Texts, true, false)]),
            writes: reads(&[("score", ColumnType::F32s, false, true)]),
            ..stateless(
                "caption-quality",
                "gives every record a number for how much its best caption says",
                include_str!("../config.schema.json"),
            )
        }
    }

    fn open(config: Config<'_>, _: u64) -> Result<Self, Error> {
        config.read()
    }

    fn apply(&mut self, batch: &Batch) -> Result<Vec<f32>, Error> {
        let captions = Texts::of(batch, "captions")?;
        let best = |row: usize| captions.cell(row).map(|text| self.quality(text)).fold(0.0, f32::max);
        Ok((0..batch.rows as usize).map(best).collect())
    }
}

heddle_plugin_sdk::export_score!(CaptionQuality);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_and_richer_captions_score_higher() {
        let rule = CaptionQuality { good_words: 4 };
        assert_eq!(rule.quality(""), 0.0);
        assert_eq!(rule.quality("a small red apple"), 1.0);
        assert!(rule.quality("apple apple apple apple") < rule.quality("red apple"));
        assert!(rule.quality("apple 123456789") < rule.quality("red apple"));
    }
}
