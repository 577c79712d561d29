//! Caption settings of a training stage as experiments write them.

use heddle_data::text::{CaptionOptions, Keywords, Labels};
use heddle_graph::config::Reader;

/// Reads the `text` table: which text goes with an image.
pub fn read_captions(r: &mut Reader<'_>) -> CaptionOptions {
    let options = read_options(r);
    for (language, templates) in &options.templates {
        if templates.is_empty() || templates.iter().any(|template| !template.contains("{}")) {
            let message = format!("a template of `{language}` has no `{{}}` for the text");
            r.error(&format!("templates.{language}"), message, Some("for example `a photo of {}`"));
        }
    }
    options
}

fn read_options(r: &mut Reader<'_>) -> CaptionOptions {
    let share = |r: &mut Reader<'_>, name, help| -> f32 {
        let value: f64 = r.field(name, help).range(0.0..=1.0).or(0.0);
        value as f32
    };
    CaptionOptions {
        columns: r
            .field("columns", "columns that hold the text, one a language, drawn uniformly")
            .or(vec!["en".to_owned()]),
        templates: r.map(
            "templates",
            "templates per language, `{}` stands for the text; built in for en, zh, ja, ar, it",
        ),
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
    }
}
