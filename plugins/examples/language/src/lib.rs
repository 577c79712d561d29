//! Drops records whose captions are not in the language that they claim, or in none that is wanted.
//!
//! Short captions are the rule in image data, and guessing their language is mostly wrong. So a script that contradicts the
//! claim decides at once; within one script a guess counts only from `min_chars` letters on.

use heddle_plugin_sdk::{Batch, Config, Description, Error, Filter, captions, reasons, stateless};
use serde::Deserialize;
use whichlang::Lang;

/// What is wanted.
#[derive(Deserialize)]
#[serde(default)]
pub struct Language {
    accept: Vec<String>,
    min_chars: usize,
    drop: captions::Drop,
}

impl Default for Language {
    fn default() -> Self {
        Self { accept: Vec::new(), min_chars: 20, drop: captions::Drop::All }
    }
}

const WRONG: u8 = 0;
const UNWANTED: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    Latin,
    Han,
    Kana,
    Hangul,
    Arabic,
    Cyrillic,
    Devanagari,
    Other,
}

fn script(c: char) -> Script {
    match u32::from(c) {
        0x41..=0x5a | 0x61..=0x7a | 0xc0..=0x24f | 0x1e00..=0x1eff => Script::Latin,
        0x3040..=0x30ff | 0x31f0..=0x31ff | 0xff66..=0xff9f => Script::Kana,
        0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x3ffff => Script::Han,
        0x1100..=0x11ff | 0xac00..=0xd7af => Script::Hangul,
        0x600..=0x6ff | 0x750..=0x77f | 0x8a0..=0x8ff | 0xfb50..=0xfdff | 0xfe70..=0xfeff => Script::Arabic,
        0x400..=0x52f => Script::Cyrillic,
        0x900..=0x97f => Script::Devanagari,
        _ => Script::Other,
    }
}

/// Scripts that a language is written in; `None` for languages that are not known here.
fn scripts(language: &str) -> Option<&'static [Script]> {
    Some(match language.split('-').next().unwrap_or(language) {
        "en" | "de" | "fr" | "it" | "es" | "pt" | "nl" | "sv" | "tr" | "vi" => &[Script::Latin],
        "zh" => &[Script::Han],
        "ja" => &[Script::Kana, Script::Han],
        "ko" => &[Script::Hangul, Script::Han],
        "ar" | "fa" | "ur" => &[Script::Arabic],
        "ru" | "uk" | "bg" => &[Script::Cyrillic],
        "hi" => &[Script::Devanagari],
        _ => return None,
    })
}

fn tag(lang: Lang) -> &'static str {
    match lang {
        Lang::Ara => "ar",
        Lang::Cmn => "zh",
        Lang::Deu => "de",
        Lang::Eng => "en",
        Lang::Fra => "fr",
        Lang::Hin => "hi",
        Lang::Ita => "it",
        Lang::Jpn => "ja",
        Lang::Kor => "ko",
        Lang::Nld => "nl",
        Lang::Por => "pt",
        Lang::Rus => "ru",
        Lang::Spa => "es",
        Lang::Swe => "sv",
        Lang::Tur => "tr",
        Lang::Vie => "vi",
    }
}

impl Language {
    /// The language of a text, if its script or its length tells.
    pub fn identify(&self, text: &str) -> Option<&'static str> {
        let count = |wanted: Script| text.chars().filter(|c| script(*c) == wanted).count();
        let letters = text.chars().filter(|c| c.is_alphabetic()).count();
        if letters == 0 {
            return None;
        }
        let most = |wanted: Script| 2 * count(wanted) > letters;
        if count(Script::Kana) > 0 && 2 * (count(Script::Kana) + count(Script::Han)) > letters {
            return Some("ja");
        }
        match () {
            () if most(Script::Han) => Some("zh"),
            () if most(Script::Hangul) => Some("ko"),
            () if most(Script::Arabic) => Some("ar"),
            () if most(Script::Devanagari) => Some("hi"),
            () if most(Script::Cyrillic) => Some("ru"),
            () if most(Script::Latin) && letters >= self.min_chars => {
                Some(tag(whichlang::detect_language(text)))
            }
            () => None,
        }
    }

    /// The reason to drop a caption, if there is one.
    pub fn judge(&self, text: &str, claimed: Option<&str>) -> Option<u8> {
        let found = self.identify(text);
        if let Some(claimed) = claimed {
            let base = claimed.split('-').next().unwrap_or(claimed);
            if let Some(scripts) = scripts(base) {
                let letters: Vec<Script> = text.chars().filter(|c| c.is_alphabetic()).map(script).collect();
                let right = letters.iter().filter(|script| scripts.contains(script)).count();
                if !letters.is_empty() && 2 * right < letters.len() {
                    return Some(WRONG);
                }
                // Han alone is Chinese or Japanese; one of the two is no contradiction of the other.
                let han = matches!((base, found), ("ja", Some("zh")) | ("ko", Some("zh")));
                if !han && found.is_some_and(|found| found != base) && scripts[0] == Script::Latin {
                    return Some(WRONG);
                }
                if base == "zh" && found == Some("ja") {
                    return Some(WRONG);
                }
            }
        }
        let language = claimed.or(found);
        let wanted = |language: &str| self.accept.iter().any(|accepted| accepted == language);
        (!self.accept.is_empty() && !language.is_some_and(wanted)).then_some(UNWANTED)
    }
}

impl Filter for Language {
    fn describe() -> Description {
        Description {
            reads: captions::reads(),
            reasons: reasons(&[
                ("wrong-language", "captions are not in the language that they claim"),
                ("unwanted-language", "captions are in no language of `accept`"),
            ]),
            ..stateless(
                "language",
                "drops records whose captions are not in the language that they claim, or in none that is wanted",
                include_str!("../config.schema.json"),
            )
        }
    }

    fn open(config: Config<'_>, _: u64) -> Result<Self, Error> {
        config.read()
    }

    fn apply(&mut self, batch: &Batch) -> Result<Vec<u8>, Error> {
        captions::judge(batch, self.drop, |text, language| self.judge(text, language))
    }
}

heddle_plugin_sdk::export_filter!(Language);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_decide_at_once_and_guesses_need_length() {
        let rule = Language::default();
        for (text, claimed, verdict) in [
            ("cat face", "en", None),
            ("faccina gatto", "en", None),
            ("una faccina di gatto che ride con gli occhi chiusi", "en", Some(WRONG)),
            ("a cat that laughs with its eyes closed tight", "en", None),
            ("猫の顔", "ja", None),
            ("红苹果", "ja", None),
            ("りんごの絵", "zh", Some(WRONG)),
            ("red apple", "zh", Some(WRONG)),
            ("تفاحة حمراء", "ar", None),
            ("تفاحة حمراء", "it", Some(WRONG)),
            ("2024", "en", None),
        ] {
            assert_eq!(rule.judge(text, Some(claimed)), verdict, "{text} as {claimed}");
        }
    }

    #[test]
    fn languages_that_are_not_accepted_go() {
        let rule = Language { accept: vec!["en".into(), "zh".into()], ..Language::default() };
        assert_eq!(rule.judge("红苹果", None), None);
        assert_eq!(rule.judge("りんごの絵", None), Some(UNWANTED));
        assert_eq!(rule.judge("red apple", None), Some(UNWANTED));
    }
}
