//! Drops records whose captions have words of a list. The list is the node's; none comes with the plugin.

use heddle_plugin_sdk::{
    Batch, Config, Description, Error, Filter, captions, count, reasons, stateless, words,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Settings {
    words: Vec<String>,
    #[serde(default = "any")]
    drop: captions::Drop,
}

fn any() -> captions::Drop {
    captions::Drop::Any
}

/// The list, split into words.
pub struct OffensiveWords {
    phrases: Vec<Vec<String>>,
    drop: captions::Drop,
}

impl OffensiveWords {
    /// A list of words and phrases.
    pub fn new(list: &[String], drop: captions::Drop) -> Self {
        Self { phrases: list.iter().map(|phrase| words::split(phrase)).collect(), drop }
    }

    /// The reason to drop a caption, if there is one: whole words count, in scripts without spaces every run of letters.
    pub fn judge(&self, text: &str) -> Option<u8> {
        let all = words::split(text);
        let has = |phrase: &Vec<String>| all.windows(phrase.len()).any(|window| window == phrase.as_slice());
        self.phrases.iter().any(has).then_some(0)
    }
}

impl Filter for OffensiveWords {
    fn describe() -> Description {
        Description {
            reads: captions::reads(),
            reasons: reasons(&[("offensive", "captions have a word of the list")]),
            ..stateless(
                "offensive-words",
                "drops records whose captions have words of a list",
                include_str!("../config.schema.json"),
            )
        }
    }

    fn open(config: Config<'_>, _: u64) -> Result<Self, Error> {
        let Settings { words: list, drop } = config.read()?;
        match list.iter().position(|phrase| words::count(phrase) == 0) {
            Some(place) => Err(Config::wrong(&format!("/words/{place}"), "there is no letter in it")),
            None => Ok(Self::new(&list, drop)),
        }
    }

    fn apply(&mut self, batch: &Batch) -> Result<Vec<u8>, Error> {
        let verdicts = captions::judge(batch, self.drop, |text, _| self.judge(text))?;
        count("offensive", verdicts.iter().filter(|verdict| **verdict != 0).count() as u64);
        Ok(verdicts)
    }
}

heddle_plugin_sdk::export_filter!(OffensiveWords);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_and_phrases_are_found_whatever_their_case() {
        let list = ["Grawlix", "bad word", "坏话"].map(String::from);
        let rule = OffensiveWords::new(&list, captions::Drop::Any);
        for (text, verdict) in [
            ("what a GRAWLIX!", Some(0)),
            ("grawlixes", None),
            ("a bad, word", Some(0)),
            ("bad sword", None),
            ("他说坏话了", Some(0)),
            ("a cat", None),
        ] {
            assert_eq!(rule.judge(text), verdict, "{text}");
        }
    }
}
