//! Caption settings of a training stage as experiments write them.

use heddle_data::text::{CaptionOptions, Keywords, Labels, templates};
use heddle_graph::config::Reader;
use indexmap::IndexMap;

/// Reads the `text` table: which text goes with an image.
pub fn read_captions(r: &mut Reader<'_>) -> CaptionOptions {
    let share = |r: &mut Reader<'_>, name, help| -> f32 {
        let value: f64 = r.field(name, help).range(0.0..=1.0).or(0.0);
        value as f32
    };
    let columns: Vec<String> = r
        .field("columns", "columns that hold the text, one a language, drawn uniformly")
        .or(vec!["en".to_owned()]);
    CaptionOptions {
        templates: read_templates(r, &columns),
        columns,
        keywords: r.optional_table("keywords", "captions from keywords", |r| Keywords {
            column: r.field("column", "column with lists of keywords by language").or("keywords".to_owned()),
            share: share(r, "share", "share of captions that are the text and one to three keywords"),
            alone: share(r, "alone", "share of captions that are one keyword"),
        }),
        labels: r.optional_table("labels", "captions from label columns", |r| Labels {
            columns: r.field("columns", "label columns from coarse to fine").required(),
            language: r.field("language", "the language that they are written in").or("en".to_owned()),
            share: share(r, "share", "share of that language's captions"),
        }),
        several: r
            .field(
                "several",
                "so many captions of the record make one text; a language model learns copying from it",
            )
            .min(1)
            .max(64)
            .optional(),
    }
}

/// Reads the `templates` of some languages: the file's, or the built-in ones, which so enter the key.
pub fn read_templates(r: &mut Reader<'_>, languages: &[String]) -> IndexMap<String, Vec<String>> {
    let built_in = |language: &String| {
        let texts = templates::default(language.rsplit('.').next().unwrap_or(language));
        (language.clone(), texts.iter().map(|text| (*text).to_owned()).collect())
    };
    let help = "templates per language, `{}` stands for the text; a language that is not named has its built-in ones \
                (en, zh, ja, ar, it) or the text alone";
    let defaults: IndexMap<String, Vec<String>> = languages.iter().map(built_in).collect();
    let own: IndexMap<String, Vec<String>> = r.field("templates", help).or(defaults.clone());
    for (language, texts) in &own {
        if !languages.contains(language) {
            r.error("templates", format!("`{language}` is not among the languages"), None);
        } else if texts.is_empty() || texts.iter().any(|text| !text.contains("{}")) {
            let message = format!("a template of `{language}` has no `{{}}` for the text");
            r.error(&format!("templates.{language}"), message, Some("for example `a photo of {}`"));
        }
    }
    defaults
        .into_iter()
        .map(|(language, texts)| (language.clone(), own.get(&language).cloned().unwrap_or(texts)))
        .collect()
}
