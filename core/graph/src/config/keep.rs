//! `cache = "always"` and `store = "f16"`: whether, and how exactly, the values of a model graph's node are kept where it is frozen.

use super::node::ConfigNode;
use crate::{
    diagnostic::{Diagnostic, Problems},
    suggest,
};

/// The keys.
pub(crate) const CACHE: &str = "cache";
pub(crate) const STORE: &str = "store";

/// Whether the values of a frozen node are kept, one for each record. It changes no value, and enters no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Where reading them takes less time than computing them.
    #[default]
    Auto,
    /// Wherever they are the same every time.
    Always,
    /// Nowhere.
    Never,
}

impl Keep {
    /// The words, and what they mean.
    pub const WORDS: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("always", Self::Always), ("never", Self::Never)];
}

/// How many bits of a kept value are kept. What is read again is rounded to them whether it was in the cache or not, so that it is
/// part of the key of everything behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stored {
    /// All 32.
    #[default]
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of the 32.
    Bf16,
}

impl Stored {
    /// The words, and what they mean.
    pub const WORDS: [(&'static str, Self); 3] =
        [("f32", Self::F32), ("f16", Self::F16), ("bf16", Self::Bf16)];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Notes on a node whether and how its values are kept.
pub(crate) fn mark(node: &mut ConfigNode, problems: &mut Problems) {
    node.keep = word(node, CACHE, &Keep::WORDS, problems);
    node.stored = word(node, STORE, &Stored::WORDS, problems);
    if let (Some(Keep::Never), Some(store)) = (node.keep, node.table.get(STORE)) {
        let message = "`store` says how values are kept, and `cache = \"never\"` keeps none";
        problems.push(Diagnostic::new(message).at(store.key_span).help("leave one of them out".to_owned()));
    }
}

/// The meaning of a key's word; the default if there is no such word.
fn word<T: Copy + Default>(
    node: &ConfigNode,
    key: &str,
    words: &[(&'static str, T)],
    problems: &mut Problems,
) -> Option<T> {
    let entry = node.table.get(key)?;
    let word = entry.value.as_str();
    let found = words.iter().find(|(known, _)| word == Some(*known)).map(|(_, meaning)| *meaning);
    if found.is_none() {
        let quoted: Vec<String> = words.iter().map(|(known, _)| format!("`{known}`")).collect();
        let [others @ .., last] = quoted.as_slice() else { return None };
        let expected = format!("expected {} or {last}", others.join(", "));
        let near = word.and_then(|word| suggest::help(word, words.iter().map(|(known, _)| *known)));
        let message = format!("`{key}` does not take {}", entry.value.found());
        problems.push(Diagnostic::new(message).at(entry.value.span).help(near.or(Some(expected))));
    }
    Some(found.unwrap_or_default())
}
