//! Drops records whose captions are too short or in other languages.

use heddle_plugin_sdk::{Batch, Config, Description, Error, Filter, captions, reasons, stateless};
use serde::Deserialize;

/// What the config asks for.
#[derive(Deserialize)]
#[serde(default)]
pub struct Rule {
    min_words: usize,
    languages: Vec<String>,
}

impl Default for Rule {
    fn default() -> Self {
        Self { min_words: 2, languages: Vec::new() }
    }
}

const TOO_SHORT: u8 = 0;
const WRONG_LANGUAGE: u8 = 1;

impl Rule {
    /// The reason to drop a caption, if there is one.
    pub fn fault(&self, text: &str, language: Option<&str>) -> Option<u8> {
        if count_words(text) < self.min_words {
            return Some(TOO_SHORT);
        }
        let listed = |language: &str| self.languages.iter().any(|listed| listed == language);
        let wrong = language.is_some_and(|language| !self.languages.is_empty() && !listed(language));
        wrong.then_some(WRONG_LANGUAGE)
    }
}

/// Runs of characters between spaces, and every letter of a script without spaces.
pub fn count_words(text: &str) -> usize {
    let (mut words, mut inside) = (0, false);
    for c in text.chars() {
        let dense = is_dense(c);
        words += usize::from(dense || (!is_space(c) && !inside));
        inside = !dense && !is_space(c);
    }
    words
}

fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ' | '\u{a0}' | '\u{3000}')
}

/// Scripts without spaces between words: Thai and its like, Kana, Han.
fn is_dense(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

impl Filter for Rule {
    fn describe() -> Description {
        Description {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            reads: captions::reads(),
            reasons: reasons(&[
                ("too-short", "captions have fewer words than the config asks for"),
                ("wrong-language", "captions are tagged with languages that the config does not list"),
            ]),
            ..stateless(
                env!("CARGO_PKG_NAME"),
                "drops records whose captions are too short or in other languages",
                include_str!("../config.schema.json"),
            )
        }
    }

    fn open(config: Config<'_>, _seed: u64) -> Result<Self, Error> {
        let rule: Self = config.read()?;
        if rule.min_words == 0 && rule.languages.is_empty() {
            return Err(Config::wrong("", "nothing would be dropped: set `min_words` or `languages`"));
        }
        Ok(rule)
    }

    fn apply(&mut self, batch: &Batch) -> Result<Vec<u8>, Error> {
        // A record goes if all of its captions fail, for the first one's reason; one without captions stays.
        captions::judge(batch, captions::Drop::All, |text, language| self.fault(text, language))
    }
}

heddle_plugin_sdk::export_filter!(Rule);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_in_every_script() {
        for (text, words) in [("", 0), ("a red  apple", 3), ("红苹果", 3), ("red苹", 2), ("red\u{3000}apple", 2)] {
            assert_eq!(count_words(text), words, "{text}");
        }
    }

    #[test]
    fn languages_count_where_there_is_a_tag() {
        let rule = Rule { min_words: 1, languages: vec!["en".into()] };
        assert_eq!(rule.fault("mela", Some("it")), Some(WRONG_LANGUAGE));
        assert_eq!(rule.fault("mela", None), None);
        assert_eq!(rule.fault("", Some("it")), Some(TOO_SHORT));
    }
}
