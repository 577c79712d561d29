//! The pictures that scenes are made of.

use std::collections::{BTreeMap, HashMap};

use indexmap::IndexMap;
use serde_json::Value;

use super::{SceneError, class_of};
use crate::record::{Part, Record};

/// How many names are popular: drawn for questions about what is not there.
const POPULAR: usize = 30;

/// A picture of one thing.
#[derive(Debug, Clone)]
pub struct Sprite {
    /// Key of its record.
    pub key: String,
    /// Its picture.
    pub part: Part,
    /// Column `cp`: the same for the same thing in another style.
    pub cp: String,
    /// From column `subgroup`.
    pub class: u8,
    /// Column `group`.
    pub group: String,
    /// Names by language; `en` is among them.
    pub names: IndexMap<String, String>,
    /// English keywords, if there is a column `keywords.en`.
    pub keywords: Vec<String>,
}

impl Sprite {
    /// Its English name.
    pub fn name(&self) -> &str {
        self.names.get("en").map_or("", String::as_str)
    }
}

/// The pictures by class. Records of other classes are not in it, and the order of records does not matter.
#[derive(Debug)]
pub struct Pool {
    sprites: Vec<Sprite>,
    /// Places of the sprites of each class that has some.
    classes: BTreeMap<u8, Vec<usize>>,
    /// The sprites of the names that scenes have most often.
    popular: Vec<usize>,
    split: Option<String>,
}

impl Pool {
    /// Takes the records that have a class.
    ///
    /// # Errors
    /// [`SceneError`] if there is none, or one of them has no picture or no name in a language.
    pub fn new(records: impl IntoIterator<Item = Record>, languages: &[String]) -> Result<Self, SceneError> {
        let (mut came, mut found, mut splits) = (0, Vec::new(), Vec::new());
        for record in records {
            came += 1;
            if let Some(class) = text(&record, "subgroup").and_then(class_of) {
                splits.push(text(&record, "split").map(str::to_owned));
                found.push((record.digest, sprite(&record, class, languages)?));
            }
        }
        if found.is_empty() {
            return Err(SceneError::NoClass { records: came });
        }
        found.sort_by(|(a, one), (b, other)| (&one.cp, a).cmp(&(&other.cp, b)));
        let sprites: Vec<Sprite> = found.into_iter().map(|(_, sprite)| sprite).collect();
        let mut classes: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for (place, sprite) in sprites.iter().enumerate() {
            classes.entry(sprite.class).or_default().push(place);
        }
        splits.dedup();
        let split = if let [split] = &splits[..] { split.clone() } else { None };
        Ok(Self { popular: popular(&sprites, &classes), sprites, classes, split })
    }

    /// How many pictures it has.
    pub fn len(&self) -> usize {
        self.sprites.len()
    }

    /// Whether it has none; it never does.
    pub fn is_empty(&self) -> bool {
        self.sprites.is_empty()
    }

    /// The split that all of its records are of, in their column `split`.
    pub fn split(&self) -> Option<&str> {
        self.split.as_deref()
    }

    /// A sprite by its place.
    pub fn sprite(&self, place: usize) -> &Sprite {
        &self.sprites[place]
    }

    pub(super) fn classes(&self) -> impl Iterator<Item = u8> + '_ {
        self.classes.keys().copied()
    }

    pub(super) fn of_class(&self, class: u8) -> &[usize] {
        self.classes.get(&class).map_or(&[], Vec::as_slice)
    }

    pub(super) fn popular(&self) -> &[usize] {
        &self.popular
    }
}

fn sprite(record: &Record, class: u8, languages: &[String]) -> Result<Sprite, SceneError> {
    let part = record.image().ok_or_else(|| SceneError::NoImage { key: record.key.clone() })?;
    let mut names = IndexMap::new();
    for language in std::iter::once("en").chain(languages.iter().map(String::as_str)) {
        let name = text(record, language)
            .ok_or_else(|| SceneError::NoName { key: record.key.clone(), language: language.to_owned() })?;
        names.insert(language.to_owned(), name.to_owned());
    }
    let keywords = match record.column("keywords.en") {
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    Ok(Sprite {
        key: record.key.clone(),
        part: part.clone(),
        cp: text(record, "cp").unwrap_or(&record.key).to_owned(),
        class,
        group: text(record, "group").unwrap_or_default().to_owned(),
        names,
        keywords,
    })
}

fn text<'a>(record: &'a Record, column: &str) -> Option<&'a str> {
    record.column(column)?.as_str().filter(|text| !text.is_empty())
}

/// A sprite of each of the names that are drawn most often: classes are drawn first, so those are in small classes.
fn popular(sprites: &[Sprite], classes: &BTreeMap<u8, Vec<usize>>) -> Vec<usize> {
    let mut chances: HashMap<&str, (f64, usize)> = HashMap::new();
    for places in classes.values() {
        for place in places {
            let (chance, _) = chances.entry(sprites[*place].name()).or_insert((0.0, *place));
            *chance += 1.0 / places.len() as f64;
        }
    }
    let mut names: Vec<(&str, (f64, usize))> = chances.into_iter().collect();
    names.sort_by(|(a, (one, _)), (b, (other, _))| other.total_cmp(one).then(a.cmp(b)));
    names.into_iter().take(POPULAR).map(|(_, (_, place))| place).collect()
}
