//! What can be said of a scene in a sentence.

use indexmap::IndexMap;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Object, Pool, Scene, class_name};
use crate::text::spoken;

/// "a cat", "an owl".
pub(super) fn with_article(name: &str) -> String {
    let vowel = name.chars().next().is_some_and(|letter| "aeiou".contains(letter.to_ascii_lowercase()));
    format!("{} {name}", if vowel { "an" } else { "a" })
}

/// Where a cell of a grid is.
pub(super) fn place(row: u32, col: u32, grid: u32) -> &'static str {
    // The places of 3 x 3 cells have names: of a smaller grid, those of its corners, or of the centre.
    let third = |cell: u32| if grid == 1 { 1 } else { cell * 2 / (grid - 1) };
    match (third(row), third(col)) {
        (0, 0) => "in the top left corner",
        (0, 1) => "at the top",
        (0, _) => "in the top right corner",
        (1, 0) => "on the left",
        (1, 1) => "in the centre",
        (1, _) => "on the right",
        (_, 0) => "in the bottom left corner",
        (_, 1) => "at the bottom",
        _ => "in the bottom right corner",
    }
}

/// The plain caption of a scene in a language: what there is, row by row.
pub(super) fn plain(scene: &Scene, pool: &Pool, language: &str) -> String {
    let names: Vec<&str> = scene
        .objects
        .iter()
        .filter_map(|object| pool.sprite(object.sprite).names.get(language).map(String::as_str))
        .collect();
    match language {
        "en" => listed(names.into_iter().map(with_article)),
        "zh" => format!("图中有{}", names.join("、")),
        "ja" => format!("{}の絵", names.join("、")),
        "ar" => format!("صورة فيها {}", names.join(" و")),
        "it" => format!("un'immagine con {}", names.join(", ")),
        _ => names.join(", "),
    }
}

/// Five English captions: names, how many, where, other words, groups.
pub(super) fn references(scene: &Scene, pool: &Pool, grid: u32, rng: &mut ChaCha8Rng) -> [String; 5] {
    let names = plain(scene, pool, "en");
    [
        counted(scene, &names),
        related(scene, pool, grid),
        other_words(scene, pool, rng),
        grouped(scene, pool),
        names,
    ]
}

fn counted(scene: &Scene, names: &str) -> String {
    const NUMBERS: [&str; 9] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    let count = scene.objects.len();
    let things = if count == 1 { "object" } else { "objects" };
    let number = count.checked_sub(1).and_then(|place| NUMBERS.get(place)).copied().unwrap_or("many");
    format!("a picture of {number} {things}: {names}")
}

/// How the first two things lie to each other, or where the only one is.
fn related(scene: &Scene, pool: &Pool, grid: u32) -> String {
    let name = |object: &Object| with_article(pool.sprite(object.sprite).name());
    match scene.objects.as_slice() {
        [] => "nothing".to_owned(),
        [only] => format!("{} {}", name(only), place(only.row, only.col, grid)),
        [first, second, rest @ ..] => {
            let relation = if first.row == second.row { "to the left of" } else { "above" };
            let with = if rest.is_empty() { "" } else { " with " };
            format!("{} {relation} {}{with}{}", name(first), name(second), listed(rest.iter().map(name)))
        }
    }
}

/// A keyword of each thing, or its class where it has none.
fn other_words(scene: &Scene, pool: &Pool, rng: &mut ChaCha8Rng) -> String {
    let word = |object: &Object| {
        let sprite = pool.sprite(object.sprite);
        let others: Vec<&String> = sprite.keywords.iter().filter(|word| *word != sprite.name()).collect();
        others.choose(rng).map_or(class_name(object.class), |word| word.as_str()).to_owned()
    };
    format!("something with {}", listed(scene.objects.iter().map(word)))
}

fn grouped(scene: &Scene, pool: &Pool) -> String {
    let mut groups: IndexMap<String, Vec<String>> = IndexMap::new();
    for object in &scene.objects {
        let sprite = pool.sprite(object.sprite);
        groups.entry(spoken(&sprite.group)).or_default().push(with_article(sprite.name()));
    }
    let group = |(group, names): (String, Vec<String>)| format!("{} from {group}", listed(names));
    listed(groups.into_iter().map(group))
}

/// "a, b and c".
fn listed(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    match items.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}
