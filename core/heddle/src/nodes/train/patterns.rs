//! Parameter patterns: `vit`, `qllama.queries`, `qllama.*.cross_attn`.
//!
//! A pattern matches a parameter `node.local.name` if it matches the whole name or the beginning of it up to a
//! dot; `*` stands for any characters, dots included.

use globset::{Glob, GlobMatcher};

/// A list of patterns.
#[derive(Debug, Clone)]
pub struct Patterns(Vec<(String, [GlobMatcher; 2])>);

impl Patterns {
    /// Compiles the patterns; the first that is no glob is an error.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let compile = |pattern: &String| {
            let glob = |text: &str| Glob::new(text).map(|glob| glob.compile_matcher());
            let both = glob(pattern).and_then(|exact| Ok([exact, glob(&format!("{pattern}.*"))?]));
            both.map(|both| (pattern.clone(), both)).map_err(|error| error.to_string())
        };
        patterns.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// Whether any pattern matches heddle's name of a parameter (`node/local.name`).
    pub fn matches(&self, name: &str) -> bool {
        let dotted = name.replacen('/', ".", 1);
        self.0.iter().any(|(_, globs)| globs.iter().any(|glob| glob.is_match(&dotted)))
    }

    /// The patterns that match none of the names.
    pub fn idle<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> Vec<&str> {
        let dotted: Vec<String> = names.map(|name| name.replacen('/', ".", 1)).collect();
        let idle = self
            .0
            .iter()
            .filter(|(_, globs)| !dotted.iter().any(|name| globs.iter().any(|glob| glob.is_match(name))));
        idle.map(|(pattern, _)| pattern.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_globs() {
        let names =
            ["vit/encoder.layers.0.ls1", "qllama/queries", "qllama/layers.2.cross_attn.q.weight", "vit2/x"];
        let check = |pattern: &str, expected: &[usize]| {
            let patterns = Patterns::new(&[pattern.to_owned()]).expect("a glob");
            let matching: Vec<usize> =
                (0..names.len()).filter(|index| patterns.matches(names[*index])).collect();
            assert_eq!(matching, expected, "{pattern}");
        };
        check("*", &[0, 1, 2, 3]);
        check("vit", &[0]);
        check("qllama.queries", &[1]);
        check("qllama.*.cross_attn", &[2]);
        check("vit.encoder.layers.0", &[0]);
        check("vit.encoder.layer", &[]);
    }
}
