//! Drops records whose captions have too few or too many words or characters.

use heddle_plugin_sdk::{Batch, Config, Description, Error, Filter, captions, reasons, stateless, words};
use serde::Deserialize;

/// The limits; 0 as a maximum is none.
#[derive(Deserialize)]
#[serde(default)]
pub struct CaptionLength {
    min_words: usize,
    max_words: usize,
    min_chars: usize,
    max_chars: usize,
    drop: captions::Drop,
}

impl Default for CaptionLength {
    fn default() -> Self {
        Self { min_words: 2, max_words: 0, min_chars: 0, max_chars: 0, drop: captions::Drop::All }
    }
}

const SHORT: u8 = 0;
const LONG: u8 = 1;

impl CaptionLength {
    /// The reason to drop a caption, if there is one.
    pub fn judge(&self, text: &str) -> Option<u8> {
        let words = if self.min_words > 0 || self.max_words > 0 { words::count(text) } else { 0 };
        let chars = if self.min_chars > 0 || self.max_chars > 0 { text.chars().count() } else { 0 };
        if words < self.min_words || chars < self.min_chars {
            return Some(SHORT);
        }
        let over = |count: usize, most: usize| most > 0 && count > most;
        (over(words, self.max_words) || over(chars, self.max_chars)).then_some(LONG)
    }
}

impl Filter for CaptionLength {
    fn describe() -> Description {
        Description {
            reads: captions::reads(),
            reasons: reasons(&[
                ("too-short", "captions have fewer words or characters than the config asks for"),
                ("too-long", "captions have more words or characters than the config allows"),
            ]),
            ..stateless(
                "caption-length",
                "drops records whose captions are too short or too long",
                include_str!("../config.schema.json"),
            )
        }
    }

    fn open(config: Config<'_>, _: u64) -> Result<Self, Error> {
        let rule: Self = config.read()?;
        if rule.max_words > 0 && rule.min_words > rule.max_words {
            return Err(Config::wrong("/max_words", "it is less than `min_words`"));
        }
        if rule.max_chars > 0 && rule.min_chars > rule.max_chars {
            return Err(Config::wrong("/max_chars", "it is less than `min_chars`"));
        }
        Ok(rule)
    }

    fn apply(&mut self, batch: &Batch) -> Result<Vec<u8>, Error> {
        captions::judge(batch, self.drop, |text, _| self.judge(text))
    }
}

heddle_plugin_sdk::export_filter!(CaptionLength);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_characters_have_limits() {
        let rule = CaptionLength { min_words: 2, max_words: 4, max_chars: 20, ..CaptionLength::default() };
        for (text, verdict) in [
            ("cat", Some(SHORT)),
            ("a cat", None),
            ("猫", Some(SHORT)),
            ("红苹果", None),
            ("one two three four five", Some(LONG)),
            ("uncharacteristically long", Some(LONG)),
        ] {
            assert_eq!(rule.judge(text), verdict, "{text}");
        }
    }
}
