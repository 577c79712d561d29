//! Prompt templates for the emoji pack; `{}` stands for the name.
//!
//! No articles before the name: many CLDR names are plural.

/// The default templates of a language (`en`, `zh`, `ja`, `ar`, `it`); of any other, the bare name.
pub fn default(language: &str) -> &'static [&'static str] {
    match language {
        "en" => &["{}", "an emoji of {}", "a picture of {}"],
        "zh" => &["{}", "{}的图片", "一个{}表情"],
        "ja" => &["{}", "{}の絵", "{}の絵文字"],
        "ar" => &["{}", "صورة {}", "رمز {}"],
        "it" => &["{}", "un'immagine di {}", "emoji: {}"],
        _ => &["{}"],
    }
}
