//! The order of the crate's modules: a module uses itself and those before it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Modules, each with the others that it may use. `exec` runs `dyn Node` and `model` holds `dyn ModelNode`, so both
/// know these two traits of `nodes`, and nothing else of it; `exec` and `nodes` use each other by design.
const MAY_USE: [(&str, &[&str]); 9] = [
    ("files", &[]),
    ("device", &[]),
    ("memory", &[]),
    ("plugins", &["files"]),
    ("exec", &["device", "files", "nodes::Node"]),
    ("model", &["nodes::ModelNode"]),
    ("nodes", &["device", "exec", "model", "plugins"]),
    ("project", &["device", "exec", "files", "model", "nodes"]),
    ("cli", &["device", "exec", "files", "model", "nodes", "plugins", "project"]),
];

/// Every `crate::` path of the code, items of braces written out: `exec::NodeError`.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("crate::") {
        let rest = &code[start + "crate::".len()..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "_:".contains(c))).unwrap_or(rest.len());
        let head = &rest[..end];
        if !rest[end..].starts_with('{') {
            found.push(head.to_owned());
            continue;
        }
        for item in items(&rest[end..]) {
            found.push(format!("{head}{item}"));
        }
    }
    found
}

/// The comma-separated items of `{a, b::{c, d}}`, nested braces written out.
fn items(braces: &str) -> Vec<String> {
    let mut depth = 0;
    let (mut items, mut prefixes, mut word) = (Vec::new(), Vec::<String>::new(), String::new());
    for c in braces.chars().filter(|c| !c.is_whitespace()) {
        match c {
            '{' => {
                depth += 1;
                prefixes.push(std::mem::take(&mut word));
            }
            ',' | '}' => {
                if !word.is_empty() {
                    items.push(format!("{}{}", prefixes.concat(), std::mem::take(&mut word)));
                }
                if c == '}' {
                    prefixes.pop();
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            other => word.push(other),
        }
    }
    items
}

/// All source files of a module.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    fs::read_dir(path).unwrap().flat_map(|entry| sources(&entry.unwrap().path())).collect()
}

#[test]
fn modules_use_earlier_modules_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut offenders = BTreeSet::new();
    for (module, allowed) in MAY_USE {
        let file = root.join(format!("{module}.rs"));
        let at = if file.is_file() { file } else { root.join(module) };
        for source in sources(&at) {
            let text = fs::read_to_string(&source).unwrap();
            let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            for path in paths(&code.join("\n")).into_iter().filter(|path| path.contains("::")) {
                let within = |module: &str| path == module || path.starts_with(&format!("{module}::"));
                if !within(module) && !allowed.iter().any(|allowed| within(allowed)) {
                    offenders.insert(format!("{}: {path}", source.strip_prefix(&root).unwrap().display()));
                }
            }
        }
    }
    assert_eq!(offenders, BTreeSet::new());
}

/// A module that is not in the table would be checked by nobody.
#[test]
fn every_module_has_its_place() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let declared: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(declared, MAY_USE.iter().map(|(module, _)| *module).collect());
}

/// Printing happens in one place.
#[test]
fn only_output_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for source in sources(&root).into_iter().filter(|path| !path.ends_with("cli/output.rs")) {
        let text = fs::read_to_string(&source).unwrap();
        for word in ["println!", "print!(", "eprint!("] {
            assert!(!text.contains(word), "{} prints", source.display());
        }
    }
}

#[test]
fn paths_are_found_in_braces() {
    let code = "use crate::{\n    exec::{NodeError, Outputs},\n    model::Models,\n};\nlet x = crate::nodes::encode::f(1);";
    assert_eq!(paths(code), ["exec::NodeError", "exec::Outputs", "model::Models", "nodes::encode::f"]);
}
