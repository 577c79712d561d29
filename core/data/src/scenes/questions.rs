//! Questions about a scene whose answers are known.

use std::collections::HashSet;

use rand::seq::{IteratorRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{
    Object, Pool, Scene, captions,
    captions::{place, with_article},
    class_name,
};

/// What is usually asked for behind a question with a short answer, as in the published evaluations of visual question answering.
pub const SHORT_ANSWER: &str = " Answer the question using a single word or phrase.";

/// What asks for a caption.
pub const CAPTION_PROMPT: &str = "Provide a one-sentence caption for the provided image.";

/// The most questions about which thing is beside which.
const RELATIONS: usize = 2;

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// Is there one in the picture?
    Existence,
    /// How many of a class are there?
    Count,
    /// What class is the thing in this place?
    Place,
    /// What is beside it?
    Relation,
    /// What is in the picture, in a sentence?
    Caption,
}

/// How the thing that is not there was chosen (POPE, Li et al. 2023).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Setting {
    /// Any thing.
    Random,
    /// One of those that scenes have most often.
    Popular,
    /// Of a class that is there.
    Adversarial,
}

/// A question with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Question {
    /// What it is about.
    pub kind: Topic,
    /// As it is asked.
    pub question: String,
    /// What is right.
    pub answer: String,
    /// Of the two questions about existence, which of POPE's settings they belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<Setting>,
}

impl Question {
    fn new(kind: Topic, question: impl Into<String>, answer: impl Into<String>) -> Self {
        Self { kind, question: question.into(), answer: answer.into(), setting: None }
    }
}

/// All questions of a scene; `prompt` stands behind those with a short answer.
pub(super) fn questions(
    scene: &Scene,
    pool: &Pool,
    grid: u32,
    prompt: &str,
    rng: &mut ChaCha8Rng,
) -> Vec<Question> {
    let mut all = existence(scene, pool, rng);
    let class = class_name(scene.counted);
    let how_many = format!("How many objects of the class {class} are in the picture?");
    all.push(Question::new(Topic::Count, how_many, scene.count(scene.counted).to_string()));
    all.extend(scene.objects.choose(rng).map(|object| {
        let question = format!("What kind of thing is {}?", place(object.row, object.col, grid));
        Question::new(Topic::Place, question, class_name(object.class))
    }));
    all.extend(relations(scene, pool).into_iter().choose_multiple(rng, RELATIONS));
    all.iter_mut().for_each(|short| short.question.push_str(prompt));
    all.push(Question::new(Topic::Caption, CAPTION_PROMPT, captions::plain(scene, pool, "en")));
    all
}

/// Something that is there, and something that is not: as many of both in every setting.
fn existence(scene: &Scene, pool: &Pool, rng: &mut ChaCha8Rng) -> Vec<Question> {
    let settings = [Setting::Random, Setting::Popular, Setting::Adversarial];
    let setting = settings.choose(rng).copied().unwrap_or(Setting::Random);
    let present = scene.objects.choose(rng).map(|object| object.sprite);
    let absent = absent(setting, scene, pool, rng);
    // Where everything is there, neither is asked.
    let Some((present, absent)) = present.zip(absent) else { return Vec::new() };
    let ask = |sprite: usize, answer: &str| {
        let question = format!("Is there {} in the picture?", with_article(pool.sprite(sprite).name()));
        Question { setting: Some(setting), ..Question::new(Topic::Existence, question, answer) }
    };
    vec![ask(present, "yes"), ask(absent, "no")]
}

/// A sprite whose name no thing of the scene has.
fn absent(setting: Setting, scene: &Scene, pool: &Pool, rng: &mut ChaCha8Rng) -> Option<usize> {
    let there: HashSet<&str> = scene.objects.iter().map(|object| pool.sprite(object.sprite).name()).collect();
    let missing = |place: &&usize| !there.contains(pool.sprite(**place).name());
    let of_classes = |classes: Vec<u8>, rng: &mut ChaCha8Rng| {
        let left = |class: &u8| pool.of_class(*class).iter().filter(missing).copied().collect::<Vec<_>>();
        let classes: Vec<Vec<usize>> = classes.iter().map(left).filter(|places| !places.is_empty()).collect();
        classes.choose(rng)?.choose(rng).copied()
    };
    match setting {
        Setting::Random => of_classes(pool.classes().collect(), rng),
        Setting::Popular => pool.popular().iter().filter(missing).choose(rng).copied(),
        Setting::Adversarial => of_classes(scene.objects.iter().map(|object| object.class).collect(), rng),
    }
}

/// What is directly to the right of, or directly below, a thing of which there is one.
fn relations(scene: &Scene, pool: &Pool) -> Vec<Question> {
    let name = |object: &Object| pool.sprite(object.sprite).name();
    let at = |row: u32, col: u32| scene.objects.iter().find(|object| (object.row, object.col) == (row, col));
    let mut found = Vec::new();
    for object in &scene.objects {
        if scene.objects.iter().filter(|other| name(other) == name(object)).count() > 1 {
            continue;
        }
        for (neighbour, side) in
            [(at(object.row, object.col + 1), "to the right of"), (at(object.row + 1, object.col), "below")]
        {
            found.extend(neighbour.map(|neighbour| {
                let question = format!("What is directly {side} the {}?", name(object));
                Question::new(Topic::Relation, question, name(neighbour))
            }));
        }
    }
    found
}
