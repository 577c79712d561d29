//! Drops records whose captions are noise: repeated characters or words, too few letters, words that nobody can say.
//!
//! The rules are of the kind that Gopher (Rae et al. 2021, table A1) and C4 use on text, cut down to captions.

use std::collections::HashMap;

use heddle_plugin_sdk::{Batch, Config, Description, Error, Filter, captions, reasons, stateless, words};
use serde::Deserialize;

/// The limits.
#[derive(Deserialize)]
#[serde(default)]
pub struct Gibberish {
    max_repeat: usize,
    max_word_share: f64,
    min_letters: f64,
    max_consonants: usize,
    drop: captions::Drop,
}

impl Default for Gibberish {
    fn default() -> Self {
        Self {
            max_repeat: 4,
            max_word_share: 0.5,
            min_letters: 0.5,
            max_consonants: 6,
            drop: captions::Drop::All,
        }
    }
}

const REPETITION: u8 = 0;
const NO_LETTERS: u8 = 1;
const NOISE: u8 = 2;

impl Gibberish {
    /// The reason to drop a caption, if there is one.
    pub fn judge(&self, text: &str) -> Option<u8> {
        if longest_run(text.chars().filter(|c| !c.is_whitespace()), |a, b| a == b) > self.max_repeat {
            return Some(REPETITION);
        }
        let words = words::split(text);
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for word in &words {
            *counts.entry(word).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or(0);
        if words.len() >= 6 && most as f64 > self.max_word_share * words.len() as f64 {
            return Some(REPETITION);
        }
        let solid = text.chars().filter(|c| !c.is_whitespace()).count();
        let letters =
            text.chars().filter(|c| c.is_alphabetic() || words::is_dense(*c) || is_mark(*c)).count();
        if (letters as f64) < self.min_letters * solid as f64 {
            return Some(NO_LETTERS);
        }
        words.iter().any(|word| self.unsayable(word)).then_some(NOISE)
    }

    /// Whether nobody can say a Latin word: no vowel in five letters, or too many consonants in a row.
    fn unsayable(&self, word: &str) -> bool {
        let latin = word.chars().all(|c| c.is_ascii_alphabetic());
        let vowel = |c: char| matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y');
        latin
            && ((word.len() >= 5 && !word.chars().any(vowel))
                || longest_run(word.chars(), |a, b| !vowel(a) && !vowel(b)) > self.max_consonants
                || turns(word) >= 3)
    }
}

/// Pairs of letters that no language of the Latin script puts side by side.
fn turns(word: &str) -> usize {
    const NEVER: [&str; 24] = [
        "qx", "qz", "qk", "qj", "jq", "zx", "xz", "vq", "qv", "jx", "xj", "wq", "qw", "kq", "qg", "gq", "fq",
        "qf", "vx", "xq", "zq", "qp", "jz", "vj",
    ];
    word.as_bytes().windows(2).filter(|pair| NEVER.iter().any(|never| never.as_bytes() == *pair)).count()
}

/// Vowel signs of Arabic and Indic scripts, and emoji, which are no noise.
fn is_mark(c: char) -> bool {
    matches!(u32::from(c), 0x300..=0x36f | 0x64b..=0x65f | 0x900..=0x903 | 0x93a..=0x94f | 0x1f000..=0x1faff | 0x2600..=0x27bf)
}

fn longest_run(chars: impl Iterator<Item = char>, together: impl Fn(char, char) -> bool) -> usize {
    let (mut longest, mut run, mut last) = (0, 0, None);
    for c in chars {
        run = if last.is_some_and(|last| together(last, c)) { run + 1 } else { 1 };
        longest = longest.max(run);
        last = Some(c);
    }
    longest
}

impl Filter for Gibberish {
    fn describe() -> Description {
        Description {
            reads: captions::reads(),
            reasons: reasons(&[
                ("repetition", "captions repeat characters or words"),
                ("no-letters", "captions are mostly digits and marks"),
                ("noise", "captions have words that nobody can say"),
            ]),
            ..stateless(
                "gibberish",
                "drops records whose captions are noise or repeat themselves",
                include_str!("../config.schema.json"),
            )
        }
    }

    fn open(config: Config<'_>, _: u64) -> Result<Self, Error> {
        config.read()
    }

    fn apply(&mut self, batch: &Batch) -> Result<Vec<u8>, Error> {
        captions::judge(batch, self.drop, |text, _| self.judge(text))
    }
}

heddle_plugin_sdk::export_filter!(Gibberish);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_goes_and_words_stay() {
        let rule = Gibberish::default();
        for (text, verdict) in [
            ("grinning face with smiling eyes", None),
            ("faccina con sorriso e occhi sorridenti", None),
            ("嘿嘿", None),
            ("にっこり笑う", None),
            ("وجه ضاحك", None),
            ("yeeeeeeees", Some(REPETITION)),
            ("sale sale sale sale sale now", Some(REPETITION)),
            ("12 34 56 --- 99", Some(NO_LETTERS)),
            ("xkcdqz vbnmtr", Some(NOISE)),
            ("rhythm and blues", None),
        ] {
            assert_eq!(rule.judge(text), verdict, "{text}");
        }
    }
}
