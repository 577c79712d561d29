//! Counts captions, their words and their languages.

use std::collections::BTreeMap;

use heddle_plugin_sdk::{Batch, Coded, Config, Description, Error, Fold, Texts, captions, stateless, words};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(default)]
struct Settings {
    bins: Vec<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { bins: vec![2, 5, 10, 20, 50] }
    }
}

/// What was counted.
#[derive(Serialize, Deserialize, Default, Debug, PartialEq)]
struct Counts {
    records: u64,
    captions: u64,
    words: u64,
    languages: BTreeMap<String, u64>,
    /// Captions of at most so many words; the last bin has the rest.
    lengths: Vec<u64>,
}

/// The statistics in the making.
pub struct CaptionStatistics {
    bins: Vec<usize>,
    counts: Counts,
}

impl CaptionStatistics {
    fn caption(&mut self, text: &str, language: Option<&str>) {
        let words = words::count(text);
        let bin = self.bins.iter().position(|most| words <= *most).unwrap_or(self.bins.len());
        self.counts.captions += 1;
        self.counts.words += words as u64;
        self.counts.lengths[bin] += 1;
        *self.counts.languages.entry(language.unwrap_or("und").to_owned()).or_default() += 1;
    }
}

fn failed(error: serde_json::Error) -> Error {
    Error::Failed(error.to_string())
}

impl Fold for CaptionStatistics {
    fn describe() -> Description {
        Description {
            reads: captions::reads(),
            ..stateless(
                "caption-statistics",
                "counts captions, their lengths and languages",
                include_str!("../config.schema.json"),
            )
        }
    }

    fn open(config: Config<'_>, _: u64) -> Result<Self, Error> {
        let Settings { bins } = config.read()?;
        if !bins.is_sorted() {
            return Err(Config::wrong("/bins", "the bounds do not rise"));
        }
        let counts = Counts { lengths: vec![0; bins.len() + 1], ..Counts::default() };
        Ok(Self { bins, counts })
    }

    fn update(&mut self, batch: &Batch) -> Result<(), Error> {
        let (texts, languages) = (Texts::of(batch, "captions")?, Coded::of(batch, "captions.language")?);
        for row in 0..batch.rows as usize {
            self.counts.records += 1;
            for (text, language) in texts.cell(row).zip(languages.cell(row)) {
                self.caption(text, language);
            }
        }
        Ok(())
    }

    fn partial(&mut self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(&self.counts).map_err(failed)
    }

    fn merge(&mut self, other: &[u8]) -> Result<(), Error> {
        let other: Counts = serde_json::from_slice(other).map_err(failed)?;
        self.counts.records += other.records;
        self.counts.captions += other.captions;
        self.counts.words += other.words;
        for (language, count) in other.languages {
            *self.counts.languages.entry(language).or_default() += count;
        }
        for (own, other) in self.counts.lengths.iter_mut().zip(other.lengths) {
            *own += other;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<String, Error> {
        serde_json::to_string(&self.counts).map_err(failed)
    }
}

heddle_plugin_sdk::export_fold!(CaptionStatistics);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole() {
        let open = || CaptionStatistics::open(Config::new("{}"), 0).unwrap();
        let (mut whole, mut first, mut second) = (open(), open(), open());
        whole.caption("a cat", Some("en"));
        whole.caption("红苹果", Some("zh"));
        first.caption("a cat", Some("en"));
        second.caption("红苹果", Some("zh"));
        let mut merged = open();
        merged.merge(&first.partial().unwrap()).unwrap();
        merged.merge(&second.partial().unwrap()).unwrap();
        assert_eq!(merged.counts, whole.counts);
        assert_eq!(merged.counts.words, 5);
    }
}
