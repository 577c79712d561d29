//! Tidies captions: spaces, HTML entities, addresses.

use heddle_plugin_sdk::{
    Batch, Column, ColumnType, Config, Description, Error, Texts, Transform, columns_of, reads, stateless,
};
use serde::Deserialize;

/// What is tidied.
#[derive(Deserialize)]
#[serde(default)]
pub struct NormaliseCaptions {
    strip_urls: bool,
}

impl Default for NormaliseCaptions {
    fn default() -> Self {
        Self { strip_urls: true }
    }
}

const ENTITIES: [(&str, &str); 6] =
    [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];

impl NormaliseCaptions {
    /// The caption with entities read, addresses out and one space between words.
    pub fn tidy(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (entity, character) in ENTITIES {
            text = text.replace(entity, character);
        }
        let is_url = |word: &str| {
            let lower = word.to_lowercase();
            ["http://", "https://", "www."].iter().any(|start| lower.starts_with(start))
        };
        let words = text.split_whitespace().filter(|word| !self.strip_urls || !is_url(word));
        words.collect::<Vec<_>>().join(" ")
    }
}

impl Transform for NormaliseCaptions {
    fn describe() -> Description {
        let captions = reads(&[("captions", ColumnType::Texts, true, false)]);
        Description {
            writes: captions.clone(),
            reads: captions,
            ..stateless(
                "normalise-captions",
                "tidies captions: spaces, HTML entities, addresses",
                include_str!("../config.schema.json"),
            )
        }
    }

    fn open(config: Config<'_>, _: u64) -> Result<Self, Error> {
        config.read()
    }

    fn apply(&mut self, batch: &Batch) -> Result<Vec<Column>, Error> {
        let captions = Texts::of(batch, "captions")?;
        let tidy = |row: usize| captions.cell(row).map(|text| self.tidy(text)).collect();
        Ok(vec![columns_of("captions", (0..batch.rows as usize).map(tidy))])
    }
}

heddle_plugin_sdk::export_transform!(NormaliseCaptions);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_tidied() {
        let rule = NormaliseCaptions::default();
        assert_eq!(rule.tidy("  a\u{a0}cat &amp;\n dog  https://x.org/y "), "a cat & dog");
        assert_eq!(rule.tidy("红 苹果"), "红 苹果");
    }
}
