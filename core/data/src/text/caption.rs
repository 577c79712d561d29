//! Draws a caption for a record: a language, then a name in a template, or a name with keywords, or labels.
//!
//! A [`Record`] and a random stream enter, a string leaves. Which columns hold what is all in
//! [`CaptionOptions`]; nothing here knows of tokens.

use indexmap::IndexMap;
use rand::{Rng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::templates;
use crate::record::Record;

/// A record for which no caption can be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record `{key}` has no text in any of the columns {}", columns.join(", "))]
pub struct CaptionError {
    /// The record.
    pub key: String,
    /// The columns that were looked at.
    pub columns: Vec<String>,
}

/// How captions are drawn. Shares are of all captions; what they leave is the name in a template.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CaptionOptions {
    /// Columns with the name, one per language; drawn uniformly among those the record has. A column may hold
    /// a string, or a list of strings of which one is drawn. A path (`captions.en`) is a language by its end.
    pub columns: Vec<String>,
    /// Templates by language; a language without an entry uses [`templates::default`].
    pub templates: IndexMap<String, Vec<String>>,
    /// Captions from keywords, for records that have some in the language.
    pub keywords: Option<Keywords>,
    /// Captions from label columns.
    pub labels: Option<Labels>,
    /// So many captions of the record, one after the other, make one text: what a language model learns copying from.
    /// None: one.
    pub several: Option<usize>,
}

/// Between captions that make one text.
const BETWEEN: &str = "; ";

/// Captions from keywords.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Keywords {
    /// Column with an object of lists by language, such as `keywords` of `concepts.jsonl`.
    pub column: String,
    /// Share of captions that are the name and one to three keywords.
    pub share: f32,
    /// Share of captions that are one keyword alone.
    #[serde(default)]
    pub alone: f32,
}

/// Captions from labels, which exist in one language: half of them the last label, half `first, last: name`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Labels {
    /// Label columns from coarse to fine, such as `group`, `subgroup`.
    pub columns: Vec<String>,
    /// The language they are written in.
    pub language: String,
    /// Share of that language's captions.
    pub share: f32,
}

impl CaptionOptions {
    /// Names in their templates only.
    pub fn names(columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The mix that suits the emoji pack joined with `concepts.jsonl`: of a hundred captions 65 are names, 21
    /// names with keywords, 5 lone keywords; the rest are labels in English and names elsewhere.
    pub fn emoji(languages: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            keywords: Some(Keywords { column: "keywords".into(), share: 0.21, alone: 0.05 }),
            labels: Some(Labels {
                columns: vec!["group".into(), "subgroup".into()],
                language: "en".into(),
                share: 0.09,
            }),
            ..Self::names(languages)
        }
    }

    /// Draws a caption.
    ///
    /// # Errors
    /// [`CaptionError`] if the record has none of the columns.
    pub fn sample(&self, record: &Record, rng: &mut ChaCha8Rng) -> Result<String, CaptionError> {
        let captions = (0..self.several.unwrap_or(1)).map(|_| self.one(record, rng));
        Ok(captions.collect::<Result<Vec<_>, _>>()?.join(BETWEEN))
    }

    fn one(&self, record: &Record, rng: &mut ChaCha8Rng) -> Result<String, CaptionError> {
        let present: Vec<&String> = self.columns.iter().filter(|c| !names(record, c).is_empty()).collect();
        let Some(column) = present.choose(rng) else {
            return Err(CaptionError { key: record.key.clone(), columns: self.columns.clone() });
        };
        let candidates = names(record, column);
        let name = candidates[draw_index(candidates.len(), rng)];
        let language = column.rsplit('.').next().unwrap_or(column);
        let dice = rng.r#gen::<f32>();
        Ok(self
            .with_keywords(record, language, name, dice, rng)
            .or_else(|| self.with_labels(record, language, name, dice))
            .unwrap_or_else(|| self.in_template(language, name, rng)))
    }

    /// Takes the dice from 0 up to the keywords' shares.
    fn with_keywords(
        &self,
        record: &Record,
        language: &str,
        name: &str,
        dice: f32,
        rng: &mut ChaCha8Rng,
    ) -> Option<String> {
        let options = self.keywords.as_ref().filter(|options| dice < options.share + options.alone)?;
        let mut words = names(record, &format!("{}.{language}", options.column));
        words.retain(|word| word.to_lowercase() != name.to_lowercase());
        words.shuffle(rng);
        let count = 1 + draw_index(3, rng);
        let first = words.first()?;
        if dice < options.alone {
            return Some((*first).to_owned());
        }
        words.truncate(count);
        Some(format!("{name}, {}", words.join(", ")))
    }

    /// Takes the dice from 1 down by the labels' share.
    fn with_labels(&self, record: &Record, language: &str, name: &str, dice: f32) -> Option<String> {
        let options = self.labels.as_ref().filter(|options| options.language == language)?;
        let labels: Vec<String> =
            options.columns.iter().filter_map(|c| record.column(c)?.as_str()).map(spoken).collect();
        let last = labels.last()?;
        match 1.0 - dice {
            rest if rest < options.share / 2.0 => Some(format!("{}: {name}", labels.join(", "))),
            rest if rest < options.share => Some(last.clone()),
            _ => None,
        }
    }

    fn in_template(&self, language: &str, name: &str, rng: &mut ChaCha8Rng) -> String {
        let template = match self.templates.get(language) {
            Some(own) if !own.is_empty() => own[draw_index(own.len(), rng)].as_str(),
            _ => {
                let default = templates::default(language);
                default[draw_index(default.len(), rng)]
            }
        };
        template.replace("{}", name)
    }
}

/// The strings of a column: the string itself or those of a list.
fn names<'a>(record: &'a Record, column: &str) -> Vec<&'a str> {
    match record.column(column) {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A label as one would say it: `food-fruit` becomes `food fruit`, `&` becomes `and`.
pub(crate) fn spoken(label: &str) -> String {
    label.replace('-', " ").replace('&', "and").to_lowercase()
}

/// An index below `len`, drawn in 32 bits so that every platform draws the same.
fn draw_index(len: usize, rng: &mut ChaCha8Rng) -> usize {
    rng.gen_range(0..len.clamp(1, u32::MAX as usize) as u32) as usize
}

#[cfg(test)]
#[path = "caption_tests.rs"]
mod tests;
