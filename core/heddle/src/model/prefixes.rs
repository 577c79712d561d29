//! A table of prefixes: how names of one place become names of another.

use indexmap::IndexMap;

/// Prefixes and what stands in their place; they match whole segments (`a.b` of `a.b.c`), the longest match wins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prefixes(IndexMap<String, String>);

impl Prefixes {
    /// From pairs of a prefix and what stands in its place; either may be empty.
    pub fn new(pairs: IndexMap<String, String>) -> Self {
        Self(pairs)
    }

    /// The name with its prefix replaced; `None` if no prefix matches.
    pub fn replace(&self, name: &str) -> Option<String> {
        let matching = self.0.iter().filter_map(|(from, to)| Some((from, to, strip(name, from)?)));
        let (_, to, rest) = matching.max_by_key(|(from, ..)| from.len())?;
        Some(join(to, rest))
    }
}

/// What follows the prefix, if the name lies under it.
fn strip<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        return Some(name);
    }
    let rest = name.strip_prefix(prefix)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') }
}

/// A name under a prefix.
pub fn join(prefix: &str, name: &str) -> String {
    match (prefix, name) {
        ("", name) => name.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, name) => format!("{prefix}.{name}"),
    }
}
