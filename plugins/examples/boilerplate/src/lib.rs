//! Drops records whose captions are boilerplate: what a page says on every page, addresses, file names, source code.

use heddle_plugin_sdk::{Batch, Config, Description, Error, Filter, captions, reasons, stateless};
use serde::Deserialize;

/// What counts as boilerplate.
#[derive(Deserialize)]
#[serde(default)]
pub struct Boilerplate {
    phrases: Vec<String>,
    code: bool,
    drop: captions::Drop,
}

impl Default for Boilerplate {
    fn default() -> Self {
        Self { phrases: Vec::new(), code: true, drop: captions::Drop::All }
    }
}

const PHRASE: u8 = 0;
const FILE_NAME: u8 = 1;
const CODE: u8 = 2;

const PHRASES: [&str; 27] = [
    "all rights reserved",
    "click here",
    "cookie policy",
    "privacy policy",
    "terms of use",
    "terms of service",
    "image may contain",
    "stock photo",
    "free download",
    "add to cart",
    "sign up",
    "log in",
    "subscribe to",
    "javascript is disabled",
    "page not found",
    "powered by",
    "http://",
    "https://",
    "www.",
    "版权所有",
    "点击这里",
    "利用規約",
    "著作権",
    "جميع الحقوق محفوظة",
    "tutti i diritti riservati",
    "clicca qui",
    "informativa sulla privacy",
];

const ENDINGS: [&str; 8] = [".jpg", ".jpeg", ".png", ".gif", ".webp", ".svg", ".bmp", ".tif"];

impl Boilerplate {
    /// The reason to drop a caption, if there is one.
    pub fn judge(&self, text: &str) -> Option<u8> {
        let lower = text.to_lowercase();
        if PHRASES.iter().any(|phrase| lower.contains(phrase))
            || self.phrases.iter().any(|phrase| lower.contains(&phrase.to_lowercase()))
        {
            return Some(PHRASE);
        }
        let trimmed = lower.trim();
        if ENDINGS.iter().any(|ending| trimmed.ends_with(ending)) || is_camera_name(trimmed) {
            return Some(FILE_NAME);
        }
        (self.code && is_code(text)).then_some(CODE)
    }
}

/// `IMG_1234`, `DSC00017`, `P1040321`.
fn is_camera_name(text: &str) -> bool {
    let rest = ["img", "dsc", "dscn", "pict", "mvi", "p", "screenshot"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix));
    rest.is_some_and(|rest| {
        let digits = rest.trim_start_matches(['_', '-', ' ']);
        digits.len() >= 4 && digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'_' | b'-'))
    })
}

/// Markup, or at least two marks of a programming language.
fn is_code(text: &str) -> bool {
    let markup = text.contains("</")
        || text.contains("/>")
        || text.contains("<?")
        || text.contains("<div")
        || text.contains("&nbsp;");
    let marks = [
        "function(",
        "function (",
        "=>",
        "();",
        "){",
        ") {",
        "var ",
        "const ",
        "let ",
        "def ",
        "import ",
        "#include",
        "return ",
        "==",
        "!=",
        "&&",
        "||",
        "};",
        "[]",
        "\":",
        "std::",
        "print(",
        "self.",
    ];
    markup || marks.iter().filter(|mark| text.contains(**mark)).count() >= 2
}

impl Filter for Boilerplate {
    fn describe() -> Description {
        Description {
            reads: captions::reads(),
            reasons: reasons(&[
                ("boilerplate", "captions are what a page says on every page"),
                ("file-name", "captions are names of files"),
                ("source-code", "captions are markup or source code"),
            ]),
            ..stateless(
                "boilerplate",
                "drops records whose captions are boilerplate, addresses, file names or source code",
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

heddle_plugin_sdk::export_filter!(Boilerplate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boilerplate_goes_and_captions_stay() {
        let rule = Boilerplate::default();
        for (text, verdict) in [
            ("a red apple on a table", None),
            ("photo of a dog, let me in", None),
            ("© 2020 Acme. All Rights Reserved.", Some(PHRASE)),
            ("visit www.example.org", Some(PHRASE)),
            ("版权所有 2020", Some(PHRASE)),
            ("IMG_20190304", Some(FILE_NAME)),
            ("sunset-final.JPG", Some(FILE_NAME)),
            ("<div class=\"x\">cat</div>", Some(CODE)),
            ("function(a) { return a == 1; }", Some(CODE)),
        ] {
            assert_eq!(rule.judge(text), verdict, "{text}");
        }
    }
}
