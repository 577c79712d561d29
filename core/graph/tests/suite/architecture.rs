//! Stages import earlier stages only.

use std::{fs, path::Path};

/// `(file, line)` of every `use` and path in a folder that names a forbidden module.
fn offenders(folder: &str, forbidden: &[&str], allowed: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder);
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let text = if path.is_file() { fs::read_to_string(&path).unwrap() } else { continue };
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            let bad = forbidden.iter().any(|name| line.contains(name));
            if bad && !allowed.iter().any(|name| line.contains(name)) {
                found.push(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
    found
}

#[test]
fn config_knows_port_types_and_nothing_else_of_the_graph() {
    assert_eq!(offenders("config", &["graph::", "plan::", "schema::"], &["    graph::port::"]), [""; 0]);
}

#[test]
fn graph_knows_neither_schema_nor_plan() {
    assert_eq!(offenders("graph", &["crate::plan", "crate::schema", "plan::", "schema::"], &[]), [""; 0]);
}

#[test]
fn nothing_here_opens_a_file() {
    for folder in ["", "config", "graph", "schema"] {
        assert_eq!(offenders(folder, &["std::fs", "std::net", "std::env", "async fn"], &[]), [""; 0]);
    }
}
