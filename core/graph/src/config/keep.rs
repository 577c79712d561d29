//! `cache = "always"`: whether a model graph's node has its values kept where it is frozen.

use super::node::ConfigNode;
use crate::{
    diagnostic::{Diagnostic, Problems},
    suggest,
};

/// The key.
pub(crate) const CACHE: &str = "cache";

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

/// Notes on a node whether its values are kept.
pub(crate) fn mark(node: &mut ConfigNode, problems: &mut Problems) {
    let Some(entry) = node.table.get(CACHE) else { return };
    let word = entry.value.as_str();
    match Keep::WORDS.iter().find(|(known, _)| word == Some(*known)) {
        Some((_, keep)) => node.keep = Some(*keep),
        None => {
            let words = || Keep::WORDS.iter().map(|(known, _)| *known);
            let expected = "expected `auto`, `always` or `never`".to_owned();
            let help = word.and_then(|word| suggest::help(word, words())).or(Some(expected));
            let message = format!("`cache` does not take {}", entry.value.found());
            problems.push(Diagnostic::new(message).at(entry.value.span).help(help));
            node.keep = Some(Keep::Auto);
        }
    }
}
