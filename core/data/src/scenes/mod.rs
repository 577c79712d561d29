//! Scenes: pictures of several things, of which everything is known: classes of pixels, captions, questions with answers.
//!
//! ```text
//! records ──▶ Pool ──▶ Scenes ──plan(i)──▶ Scene ──▶ paint ──▶ picture, mask
//!                                            └──▶ describe ──▶ captions, columns
//! ```
//!
//! Scene `i` depends on seed, salt, options and pool, and not on how many scenes there are. Pictures and texts have random
//! streams of their own, so that more questions change no picture. This module reads no shard: pictures come decoded.

mod captions;
mod classes;
mod paint;
mod plan;
mod pool;
mod questions;

use rand::seq::SliceRandom;
use serde_json::{Map, Value, json};

use crate::{record::Caption, rng, text::dialogue::IMAGE};

pub use classes::{UNDECIDED, class_name, class_names, class_of};
pub use paint::{Painting, paint};
pub use plan::{MOST_CELLS, Object, Scene};
pub use pool::{Pool, Sprite};
pub use questions::{CAPTION_PROMPT, Question, SHORT_ANSWER, Setting, Topic};

const PICTURE_STREAM: u64 = 0x7363_656e;
const TEXT_STREAM: u64 = 0x7363_7478;

/// Records of which no scene can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SceneError {
    /// No record is of a class.
    #[error(
        "none of the {records} records has a column `subgroup` with one of the emoji subgroups that scenes show"
    )]
    NoClass {
        /// How many came.
        records: usize,
    },
    /// A record without a picture.
    #[error("record `{key}` has no image")]
    NoImage {
        /// The record.
        key: String,
    },
    /// A record without a name.
    #[error("record `{key}` has no name in the column `{language}`")]
    NoName {
        /// The record.
        key: String,
        /// The language, and the column.
        language: String,
    },
}

/// How scenes look and what is asked about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SceneOptions {
    /// Side of the pictures in pixels, a multiple of `grid`; things grow with it.
    pub canvas: u32,
    /// Rows and columns of cells, [`MOST_CELLS`] at the most; a cell holds one thing at the most.
    pub grid: u32,
    /// The fewest and the most things, not more than there are cells.
    pub objects: [u32; 2],
    /// Languages of the captions.
    pub languages: Vec<String>,
    /// The most rounds of a dialogue.
    pub turns: usize,
    /// What stands behind every question with a short answer, such as [`SHORT_ANSWER`].
    pub answer_prompt: String,
    /// The seed.
    pub seed: u64,
    /// Another salt, other scenes.
    pub salt: String,
}

/// The scenes of a pool.
#[derive(Debug)]
pub struct Scenes {
    pool: Pool,
    options: SceneOptions,
    salt: u64,
}

/// What is said of a scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Five captions in English, one in each other language.
    pub captions: Vec<Caption>,
    /// `objects`, `questions`, `conversations`, and the plain caption of each language under its name.
    pub columns: Map<String, Value>,
}

impl Scenes {
    /// The scenes of a pool.
    pub fn new(pool: Pool, options: SceneOptions) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = crate::digest::of(options.salt.as_bytes());
        Self { pool, options, salt: u64::from_le_bytes([a, b, c, d, e, f, g, h]) }
    }

    /// What they are made of.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What is where in a scene.
    pub fn plan(&self, index: u64) -> Scene {
        let mut rng = rng(self.options.seed, &[PICTURE_STREAM, self.salt, index]);
        plan::plan(index, &self.pool, &self.options, &mut rng)
    }

    /// What can be said and asked of a scene.
    pub fn describe(&self, scene: &Scene) -> Description {
        let mut rng = rng(self.options.seed, &[TEXT_STREAM, self.salt, scene.index]);
        let languages = &self.options.languages;
        let english = captions::references(scene, &self.pool, self.options.grid, &mut rng);
        let mut all = Vec::new();
        if languages.iter().any(|language| language == "en") {
            all.extend(english.iter().map(|text| Caption::new(text, Some("en"))));
        }
        let mut columns = Map::new();
        for language in languages {
            let caption = captions::plain(scene, &self.pool, language);
            if language != "en" {
                all.push(Caption::new(&caption, Some(language)));
            }
            columns.insert(language.clone(), caption.into());
        }
        let SceneOptions { grid, answer_prompt, .. } = &self.options;
        let questions = questions::questions(scene, &self.pool, *grid, answer_prompt, &mut rng);
        let mut asked: Vec<&Question> = questions.iter().collect();
        asked.shuffle(&mut rng);
        asked.truncate(self.options.turns);
        columns.insert("objects".into(), scene.objects.iter().map(|object| self.object(object)).collect());
        columns.insert("conversations".into(), conversation(&asked));
        columns.insert("questions".into(), json!(questions));
        Description { captions: all, columns }
    }

    fn object(&self, object: &Object) -> Value {
        let sprite = self.pool.sprite(object.sprite);
        json!({
            "cp": sprite.cp,
            "class": class_name(object.class),
            "names": sprite.names,
            "row": object.row,
            "col": object.col,
            "size": object.size,
        })
    }
}

/// A dialogue as LLaVA writes it.
fn conversation(questions: &[&Question]) -> Value {
    let mut turns = Vec::new();
    for (place, question) in questions.iter().enumerate() {
        let image = if place == 0 { format!("{IMAGE}\n") } else { String::new() };
        turns.push(json!({ "from": "human", "value": format!("{image}{}", question.question) }));
        turns.push(json!({ "from": "gpt", "value": question.answer }));
    }
    turns.into()
}

#[cfg(all(test, feature = "emoji"))]
mod tests;
