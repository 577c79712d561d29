//! Drops records whose captions only stand in for one: `image`, `untitled`, a date, a number.

use heddle_plugin_sdk::{Batch, Config, Description, Error, Filter, captions, reasons, stateless, words};
use serde::Deserialize;

/// What counts as a placeholder, beside the built-in ones.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Placeholder {
    words: Vec<String>,
    drop: captions::Drop,
}

const STANDS_IN: u8 = 0;
const NUMBER: u8 = 1;

const WORDS: [&str; 48] = [
    "image",
    "images",
    "photo",
    "photograph",
    "picture",
    "pic",
    "img",
    "untitled",
    "no title",
    "title",
    "caption",
    "no caption",
    "thumbnail",
    "icon",
    "logo",
    "avatar",
    "banner",
    "n/a",
    "na",
    "none",
    "null",
    "nan",
    "undefined",
    "unknown",
    "test",
    "default",
    "placeholder",
    "image not available",
    "no image",
    "loading",
    "screenshot",
    "图片",
    "图像",
    "照片",
    "无标题",
    "画像",
    "写真",
    "無題",
    "タイトルなし",
    "صورة",
    "بدون عنوان",
    "immagine",
    "foto",
    "senza titolo",
    "nessun titolo",
    "photo of",
    "image of",
    "picture of",
];

impl Placeholder {
    /// The reason to drop a caption, if there is one.
    pub fn judge(&self, text: &str) -> Option<u8> {
        let plain = plain(text);
        if plain.is_empty()
            || WORDS.contains(&plain.as_str())
            || self.words.iter().any(|word| word.to_lowercase() == plain)
            || plain.starts_with("lorem ipsum")
            || plain.starts_with("thumbnail for version as of")
        {
            return Some(STANDS_IN);
        }
        let first_is_word = |word: &str| {
            WORDS.contains(&word.trim_end_matches(|c: char| c.is_ascii_digit() || "_-# ".contains(c)))
        };
        if first_is_word(&plain) {
            return Some(STANDS_IN);
        }
        let all = words::split(text);
        (!all.is_empty() && all.iter().all(|word| is_number_or_month(word))).then_some(NUMBER)
    }
}

/// Lower case, without marks and spaces around it.
fn plain(text: &str) -> String {
    text.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase()
}

fn is_number_or_month(word: &str) -> bool {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    const NAMES: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let digits =
        word.trim_end_matches("st").trim_end_matches("nd").trim_end_matches("rd").trim_end_matches("th");
    (!digits.is_empty() && digits.chars().all(|c| c.is_numeric() || c == '-'))
        || MONTHS.contains(&word)
        || NAMES.contains(&word)
        || matches!(word, "年" | "月" | "日")
}

impl Filter for Placeholder {
    fn describe() -> Description {
        Description {
            reads: captions::reads(),
            reasons: reasons(&[
                ("placeholder", "captions only stand in for one"),
                ("number-or-date", "captions are numbers or dates"),
            ]),
            ..stateless(
                "placeholder",
                "drops records whose captions only stand in for one",
                include_str!("../config.schema.json"),
            )
        }
    }

    fn open(config: Config<'_>, _: u64) -> Result<Self, Error> {
        config.read()
    }

    fn apply(&mut self, batch: &Batch) -> Result<Vec<u8>, Error> {
        captions::judge(batch, self.drop, |text, _| self.judge(text))
    }
}

heddle_plugin_sdk::export_filter!(Placeholder);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_go_and_captions_stay() {
        let rule = Placeholder::default();
        for (text, verdict) in [
            ("Untitled", Some(STANDS_IN)),
            ("  [Image] ", Some(STANDS_IN)),
            ("image 12", Some(STANDS_IN)),
            ("图片", Some(STANDS_IN)),
            ("senza titolo", Some(STANDS_IN)),
            ("Lorem ipsum dolor", Some(STANDS_IN)),
            ("12 March 2019", Some(NUMBER)),
            ("2019-03-12", Some(NUMBER)),
            ("2019年3月12日", Some(NUMBER)),
            ("picture frame", None),
            ("3 cats", None),
            ("照片墙", None),
        ] {
            assert_eq!(rule.judge(text), verdict, "{text}");
        }
    }
}
