//! The classes of a scene's objects: emoji subgroups taken together, so that a picture has things of a size and kind.

/// Names and the subgroups that belong to them; the class of an entry is its place, from 1.
const CLASSES: [(&str, &[&str]); 25] = [
    (
        "face",
        &[
            "face-smiling",
            "face-affection",
            "face-tongue",
            "face-hand",
            "face-neutral-skeptical",
            "face-sleepy",
            "face-unwell",
            "face-hat",
            "face-glasses",
            "face-concerned",
            "face-negative",
            "face-costume",
        ],
    ),
    ("heart", &["heart"]),
    (
        "hand",
        &[
            "hand-fingers-open",
            "hand-fingers-partial",
            "hand-single-finger",
            "hand-fingers-closed",
            "hands",
            "hand-prop",
        ],
    ),
    (
        "person",
        &[
            "person",
            "person-gesture",
            "person-role",
            "person-fantasy",
            "person-activity",
            "person-sport",
            "person-resting",
            "family",
        ],
    ),
    ("mammal", &["animal-mammal", "cat-face", "monkey-face"]),
    ("bird", &["animal-bird"]),
    ("bug", &["animal-bug"]),
    ("sea animal", &["animal-marine"]),
    ("reptile", &["animal-reptile", "animal-amphibian"]),
    ("plant", &["plant-flower", "plant-other"]),
    ("fruit", &["food-fruit"]),
    ("vegetable", &["food-vegetable"]),
    ("meal", &["food-prepared", "food-asian"]),
    ("sweet", &["food-sweet"]),
    ("drink", &["drink"]),
    ("building", &["place-building", "place-religious"]),
    ("vehicle", &["transport-ground"]),
    ("boat", &["transport-water"]),
    ("aircraft", &["transport-air"]),
    ("sky", &["sky & weather"]),
    ("ball or game", &["sport", "game"]),
    ("instrument", &["musical-instrument"]),
    ("clothing", &["clothing"]),
    ("tool", &["tool", "household"]),
    ("device", &["computer", "phone", "light & video"]),
];

/// What pixels at soft edges are in a mask: of no class, and not of the background either.
pub const UNDECIDED: u8 = 255;

/// Class of a subgroup, from 1; none of a subgroup that scenes do not show.
pub fn class_of(subgroup: &str) -> Option<u8> {
    let place = CLASSES.iter().position(|(_, subgroups)| subgroups.contains(&subgroup))?;
    u8::try_from(place + 1).ok()
}

/// Names of the values of a mask: the background, then the classes.
pub fn class_names() -> impl Iterator<Item = &'static str> {
    std::iter::once("background").chain(CLASSES.iter().map(|(name, _)| *name))
}

/// Name of a class, or of the background (0); that of [`UNDECIDED`] and of anything else is empty.
pub fn class_name(class: u8) -> &'static str {
    class_names().nth(class.into()).unwrap_or_default()
}
