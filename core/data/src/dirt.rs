//! Known dirt for experiments that check filters: a clean record enters, a dirty one leaves, and says what is wrong.
//!
//! Captions are spoilt in place; duplicates are copies beside the record. What is drawn depends on the seed and the
//! record's content, not on its place.

use rand::{Rng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    image::Rgba8,
    record::{Caption, Record},
    rng,
};

/// The column that says what is wrong with a record; a clean one has none.
pub const DIRT: &str = "dirt";

const STREAM: u64 = 0x6469_7274;

/// What can be wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Captions of random letters.
    Noise,
    /// Captions that stand in for one.
    Placeholder,
    /// Captions that a page says on every page.
    Boilerplate,
    /// Captions of source code.
    Code,
    /// Captions in another language than they claim.
    WrongLanguage,
    /// Captions of one letter.
    TooShort,
    /// Captions with a word of a list.
    Offensive,
    /// An image of a few pixels.
    TinyImage,
    /// A copy of the record under another key.
    Duplicate,
    /// A copy with a slightly changed image.
    NearDuplicate,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Noise,
        Self::Placeholder,
        Self::Boilerplate,
        Self::Code,
        Self::WrongLanguage,
        Self::TooShort,
        Self::Offensive,
        Self::TinyImage,
        Self::Duplicate,
        Self::NearDuplicate,
    ];

    /// Its name in experiments and in the column [`DIRT`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Placeholder => "placeholder",
            Self::Boilerplate => "boilerplate",
            Self::Code => "code",
            Self::WrongLanguage => "wrong-language",
            Self::TooShort => "too-short",
            Self::Offensive => "offensive",
            Self::TinyImage => "tiny-image",
            Self::Duplicate => "duplicate",
            Self::NearDuplicate => "near-duplicate",
        }
    }

    /// Whether the dirt is a record beside the clean one.
    pub fn is_copy(self) -> bool {
        matches!(self, Self::Duplicate | Self::NearDuplicate)
    }

    /// Whether the dirt has an image of its own.
    pub fn has_image(self) -> bool {
        matches!(self, Self::TinyImage | Self::NearDuplicate)
    }
}

/// Made-up words that stand for offensive ones.
pub const OFFENSIVE: [&str; 3] = ["grawlix", "flibbert", "snarkblatt"];

/// Draws what is wrong with a record, if anything: each kind has a share of all records.
pub fn draw(record: &Record, shares: &[(Kind, f64)], seed: u64) -> Option<(Kind, ChaCha8Rng)> {
    let word = |place: usize| {
        let bytes: [u8; 8] = std::array::from_fn(|at| record.digest[8 * place + at]);
        u64::from_le_bytes(bytes)
    };
    let mut rng = rng(seed, &[STREAM, word(0), word(1)]);
    let mut dice: f64 = rng.r#gen();
    for (kind, share) in shares {
        if dice < *share {
            // Languages are mixed up only where there are several.
            let fits = *kind != Kind::WrongLanguage || record.captions.len() > 1;
            return fits.then_some((*kind, rng));
        }
        dice -= share;
    }
    None
}

/// The dirty captions of a record.
pub fn captions(kind: Kind, captions: &[Caption], rng: &mut ChaCha8Rng) -> Vec<Caption> {
    const PLACEHOLDERS: [&str; 6] = ["image", "Untitled", "photo", "IMAGE 12", "n/a", "2019-03-12"];
    const BOILERPLATE: [&str; 4] = [
        "All rights reserved.",
        "Click here to see more like this",
        "Read our privacy policy and terms of use",
        "visit https://example.org/gallery for more",
    ];
    const CODE: [&str; 4] = [
        "function(a) { return a == 1; }",
        "<div class=\"caption\">cat</div>",
        "const x = () => { return self.y; };",
        "import os; print(os.listdir())",
    ];
    let chosen = |list: &[&str], rng: &mut ChaCha8Rng| (*list.choose(rng).unwrap_or(&"")).to_owned();
    let mut texts: Vec<String> = captions.iter().map(|caption| caption.text.clone()).collect();
    match kind {
        Kind::WrongLanguage => texts.rotate_left(1),
        Kind::Noise => texts.iter_mut().for_each(|text| *text = noise(rng)),
        Kind::Placeholder => texts.iter_mut().for_each(|text| *text = chosen(&PLACEHOLDERS, rng)),
        Kind::Boilerplate => texts.iter_mut().for_each(|text| *text = chosen(&BOILERPLATE, rng)),
        Kind::Code => texts.iter_mut().for_each(|text| *text = chosen(&CODE, rng)),
        Kind::TooShort => texts
            .iter_mut()
            .for_each(|text| *text = text.chars().next().map(String::from).unwrap_or_default()),
        Kind::Offensive => {
            let word = chosen(&OFFENSIVE, rng);
            texts.iter_mut().for_each(|text| *text = format!("{text} {word}"));
        }
        Kind::TinyImage | Kind::Duplicate | Kind::NearDuplicate => {}
    }
    let languages = captions.iter().map(|caption| caption.language.clone());
    texts.into_iter().zip(languages).map(|(text, language)| Caption { text, language }).collect()
}

/// Two to four words of random consonants and a few vowels.
fn noise(rng: &mut ChaCha8Rng) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxzbcdfghjklmnpqrstvwxzaeiou";
    let mut word = || {
        let len = rng.gen_range(6..12_usize);
        (0..len).map(|_| char::from(LETTERS[rng.gen_range(0..LETTERS.len())])).collect::<String>()
    };
    let words: Vec<String> = (0..3).map(|_| word()).collect();
    words.join(" ")
}

/// The dirty image of a record.
pub fn image(kind: Kind, image: &Rgba8) -> Rgba8 {
    use image::imageops::{FilterType, resize};
    match kind {
        Kind::TinyImage => resize(image, 8, 8, FilterType::Triangle),
        // Scaled down a little: other bytes, and to the eye the same.
        _ => {
            let side = |side: u32| (side * 15 / 16).max(1);
            resize(image, side(image.width()), side(image.height()), FilterType::CatmullRom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(byte: u8) -> Record {
        let captions = ["cat", "猫", "gatto"].iter().zip(["en", "zh", "it"]);
        let captions = captions.map(|(text, language)| Caption::new(*text, Some(language))).collect();
        let record = Record::new(String::new(), [0; 32], Default::default(), Default::default());
        Record { captions, digest: [byte; 32], ..record }
    }

    #[test]
    fn shares_are_kept_and_the_draw_is_of_seed_and_content() {
        let shares = [(Kind::Noise, 0.2), (Kind::Duplicate, 0.3)];
        let count = |seed: u64, kind| {
            (0..=255)
                .filter(|byte| draw(&record(*byte), &shares, seed).is_some_and(|(found, _)| found == kind))
                .count()
        };
        let total = |kind| (0..20).map(|seed| count(seed, kind)).sum::<usize>() as f64 / 5120.0;
        assert!((total(Kind::Noise) - 0.2).abs() < 0.02 && (total(Kind::Duplicate) - 0.3).abs() < 0.02);
        assert_eq!(count(3, Kind::Noise), count(3, Kind::Noise));
    }

    #[test]
    fn captions_are_spoilt_and_keep_their_languages() {
        let clean = record(1).captions;
        for kind in Kind::ALL {
            let (_, mut rng) = draw(&record(1), &[(kind, 1.0)], 0).unwrap();
            let dirty = captions(kind, &clean, &mut rng);
            let languages =
                |captions: &[Caption]| captions.iter().map(|c| c.language.clone()).collect::<Vec<_>>();
            assert_eq!(languages(&dirty), languages(&clean));
            assert_eq!(dirty == clean, kind.is_copy() || kind.has_image(), "{}", kind.name());
        }
        let (_, mut rng) = draw(&record(1), &[(Kind::WrongLanguage, 1.0)], 0).unwrap();
        assert_eq!(captions(Kind::WrongLanguage, &clean, &mut rng)[0].text, "猫");
    }
}
