//! "did you mean": the known name nearest to a misspelt one.

/// A list of this many names is still read at a glance.
const SHORT_LIST: usize = 12;

/// The help for an unknown name: the nearest known one, else all of them if they are few.
pub fn help<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(name) = nearest(wrong, &known) {
        return Some(format!("did you mean `{name}`?"));
    }
    (!known.is_empty() && known.len() <= SHORT_LIST).then(|| format!("known: {}", list(&known)))
}

/// Names in backticks, with commas.
pub fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The known name with the fewest edits, if they are few for its length.
fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    // Long enough for any name that a person would type, short enough that no input makes this slow.
    if wrong.len() > 100 {
        return None;
    }
    let edits = |name: &str| strsim::damerau_levenshtein(wrong, name);
    let best = known.iter().copied().filter(|name| name.len() <= 100).min_by_key(|name| edits(name))?;
    (edits(best) <= 1 + wrong.chars().count() / 4 && edits(best) < wrong.chars().count()).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_named_and_far_ones_listed() {
        assert_eq!(help("widht", ["width", "depth"]).as_deref(), Some("did you mean `width`?"));
        assert_eq!(help("colour", ["width", "depth"]).as_deref(), Some("known: `width`, `depth`"));
        assert_eq!(help("x", []), None);
        assert_eq!(help("q", ["a"]).as_deref(), Some("known: `a`"));
    }
}
