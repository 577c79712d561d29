//! Paths as plain text: relative to the file that names them, and as patterns.
//!
//! Shared by every [`Load`](crate::source::Load), so that a path means the same in memory, on disk and in the embedded
//! data. Nothing here looks at a file system.

/// Names of files inside the binary begin with this and are never resolved.
pub const EMBEDDED: &str = "embedded:";

/// The most paths that one brace pattern may stand for.
pub const MAX_BRACES: usize = 100_000;

/// `path` as written in `base_file`, relative to where `base_file` is relative to. `.` and `..` are folded, so
/// that two spellings of one file compare equal.
pub fn resolve(base_file: &str, path: &str) -> String {
    if path.starts_with(EMBEDDED) {
        return path.to_owned();
    }
    let path = path.replace('\\', "/");
    if path.starts_with('/') || has_drive(&path) {
        return fold(&path);
    }
    let (scheme, base) = match base_file.strip_prefix(EMBEDDED) {
        Some(rest) => (EMBEDDED, rest.to_owned()),
        None => ("", base_file.replace('\\', "/")),
    };
    let folder = base.rfind('/').map_or("", |at| &base[..=at]);
    match format!("{scheme}{}", fold(&format!("{folder}{path}"))) {
        here if here.is_empty() => ".".to_owned(),
        path => path,
    }
}

/// Whether a path begins with a drive letter, as `C:/data`.
fn has_drive(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' && bytes[2] == b'/'
}

/// Removes `.` and pairs of `name/..`; leading `..` stay.
fn fold(path: &str) -> String {
    let root = if path.starts_with('/') { "/" } else { "" };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if !root.is_empty() => {}
            _ => parts.push(part),
        }
    }
    format!("{root}{}", parts.join("/"))
}

/// Whether a path is a pattern rather than one file's name.
pub fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '{'])
}

/// The paths (still with `*` and `?`) that a brace pattern stands for: `{000..012}` counts with leading zeros,
/// `{a,b}` lists. Braces without a range or a list stand for themselves. `None` if there are more than
/// [`MAX_BRACES`].
pub fn expand_braces(pattern: &str) -> Option<Vec<String>> {
    let mut done = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, inner, after)) = split_brace(rest) {
        let choices = choices(inner)?;
        if done.len().checked_mul(choices.len()).is_none_or(|count| count > MAX_BRACES) {
            return None;
        }
        done = done
            .iter()
            .flat_map(|start| choices.iter().map(move |c| format!("{start}{before}{c}")))
            .collect();
        rest = after;
    }
    done.iter_mut().for_each(|path| path.push_str(rest));
    Some(done)
}

/// Text before, inside and after the first pair of braces.
fn split_brace(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('{')?;
    let (inner, after) = rest.split_once('}')?;
    Some((before, inner, after))
}

/// What the inside of one pair of braces stands for; `None` if it is too much.
fn choices(inner: &str) -> Option<Vec<String>> {
    if let Some((from, to)) = inner.split_once("..")
        && let (Ok(first), Ok(last)) = (from.parse::<u64>(), to.parse::<u64>())
    {
        if last.checked_sub(first).is_some_and(|count| count >= MAX_BRACES as u64) {
            return None;
        }
        let width = if from.starts_with('0') { from.len() } else { 0 };
        return Some((first..=last).map(|n| format!("{n:0width$}")).collect());
    }
    if inner.contains(',') {
        return Some(inner.split(',').map(str::to_owned).collect());
    }
    Some(vec![format!("{{{inner}}}")])
}

/// Whether a path matches a glob: `*` stands for any text and `?` for one character, neither for `/`.
pub fn glob_matches(glob: &str, path: &str) -> bool {
    let (glob, path): (Vec<char>, Vec<char>) = (glob.chars().collect(), path.chars().collect());
    let (mut g, mut p) = (0, 0);
    // Where to go on if the last `*` has to take one character more.
    let mut retry: Option<(usize, usize)> = None;
    while p < path.len() {
        match glob.get(g) {
            Some('*') => {
                retry = Some((g + 1, p));
                g += 1;
                continue;
            }
            Some('?') if path[p] != '/' => {}
            Some(c) if *c == path[p] && *c != '?' => {}
            _ => match retry {
                Some((after, taken)) if path[taken] != '/' => {
                    retry = Some((after, taken + 1));
                    (g, p) = (after, taken + 1);
                    continue;
                }
                _ => return false,
            },
        }
        (g, p) = (g + 1, p + 1);
    }
    glob[g..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file_that_names_them() {
        let cases = [
            ("experiments/a.toml", "../graphs/x.toml", "graphs/x.toml"),
            ("a.toml", "b.toml", "b.toml"),
            ("a.toml", "../b.toml", "../b.toml"),
            ("/home/a.toml", "../../b.toml", "/b.toml"),
            ("x/a.toml", "/data/b.tar", "/data/b.tar"),
            ("x/a.toml", "C:/data/b.tar", "C:/data/b.tar"),
            ("x/a.toml", "embedded:emoji/train.tar", "embedded:emoji/train.tar"),
            ("embedded:graphs/a.toml", "../b.toml", "embedded:b.toml"),
            ("-S", "./b.toml", "b.toml"),
            ("a.toml", ".", "."),
            ("x/a.toml", "..", "."),
        ];
        for (base, path, expected) in cases {
            assert_eq!(resolve(base, path), expected, "{path} in {base}");
        }
    }

    #[test]
    fn braces_count_and_list() {
        let check =
            |pattern: &str, expected: &[&str]| assert_eq!(expand_braces(pattern).expect("few"), expected);
        check("a.tar", &["a.tar"]);
        check("a-{08..10}.tar", &["a-08.tar", "a-09.tar", "a-10.tar"]);
        check("{a,b}-{1..2}", &["a-1", "a-2", "b-1", "b-2"]);
        check("{a}", &["{a}"]);
        check("{3..1}", &[]);
        assert!(expand_braces("{0..99999999999}").is_none());
        assert!(expand_braces("{1..5000}{1..5000}").is_none());
    }

    #[test]
    fn globs_stay_within_a_folder() {
        assert!(glob_matches("a/*.tar", "a/b.tar"));
        assert!(glob_matches("a/t?-*", "a/t1-000.tar"));
        assert!(!glob_matches("a/*.tar", "a/b/c.tar"));
        assert!(!glob_matches("a?b", "a/b"));
        assert!(glob_matches("*a*b*", "xxaxxbxx"));
        assert!(!glob_matches("*a*b", "xxaxxbxx"));
        assert!(glob_matches("**", ""));
    }
}
