//! Invariants over generated and damaged files.

use std::collections::BTreeMap;

use heddle_graph::{
    digest::{Digest, DigestWriter},
    graph::Source,
    plan::{Facts, FileKey, InputFact, KeyParts},
    render,
};
use proptest::prelude::*;

use crate::{
    fuzz_config::check,
    kinds::{EXPERIMENT, MODEL, experiment, files, model, pipeline},
    seeds,
};

/// Every stage and the renderer on a text; see the fuzz target for what may not happen.
fn survive(text: &[u8], override_text: &str) {
    check(&[text, b"\0", override_text.as_bytes()].concat());
}

#[test]
fn seeds_of_config() {
    seeds::replay("config", check);
}

/// The tables of a file, each from its header to the next.
fn tables(text: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = text.match_indices("\n[").map(|(at, _)| at + 1).collect();
    starts.insert(0, 0);
    starts.push(text.len());
    starts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

/// The same file with its tables and keys in another order, comments and spaces added.
fn shuffled(text: &str) -> impl Strategy<Value = String> + use<> {
    let tables: Vec<String> = tables(text).into_iter().map(str::to_owned).collect();
    let (top, rest) = (tables[0].clone(), tables[1..].to_vec());
    (Just(rest).prop_shuffle(), any::<u64>()).prop_map(move |(rest, seed)| {
        let mut text = mixed_lines(&top, seed, 0);
        rest.iter().for_each(|table| text.push_str(&mixed_lines(table, seed, 1)));
        text
    })
}

/// Rotates the lines after the first `fixed` and decorates them.
fn mixed_lines(table: &str, seed: u64, fixed: usize) -> String {
    let mut lines: Vec<&str> = table.lines().filter(|line| !line.trim().is_empty()).collect();
    let movable = &mut lines[fixed..];
    if !movable.is_empty() {
        let by = seed as usize % movable.len();
        movable.rotate_left(by);
    }
    let decorate = |line: &&str| match (seed >> 8) % 3 {
        0 => format!("{line} # a comment\n\n"),
        1 => format!("  {}\t\n", line.replace(" = ", "=")),
        _ => format!("# before\n{line}\n"),
    };
    lines.iter().map(decorate).collect()
}

/// The artifact key of every node by its name; what a node gives stands for its content by its maker's key and the port.
fn keys(text: &str) -> BTreeMap<String, Digest> {
    let experiment = experiment(text, &files(), &[]).unwrap();
    let graph = pipeline(&experiment).unwrap();
    let mut keys: BTreeMap<String, Digest> = BTreeMap::new();
    for id in graph.ids() {
        let node = graph.node(id);
        let (mut inputs, mut digests) = (Vec::new(), Vec::new());
        for (port, edge) in
            node.edges.iter().flat_map(|(port, edges)| edges.iter().map(move |edge| (port, edge)))
        {
            let Source::Node { id: from, port: output } = &edge.from else {
                unreachable!("experiments have no inputs")
            };
            digests.push(
                DigestWriter::new("output").digest(&keys[&graph.node(*from).name]).str(output).finish(),
            );
            inputs.push(InputFact {
                port: (*port).to_owned(),
                label: edge.label.clone(),
                part: edge.part.clone(),
                from: from.index(),
                output: output.clone(),
            });
        }
        let mut files: BTreeMap<String, Vec<FileKey>> = BTreeMap::new();
        for (field, file) in &node.files {
            let digest = Digest::of(file.path.as_bytes());
            files.entry(field.clone()).or_default().push(FileKey { digest, name: None });
        }
        let facts = Facts {
            name: node.name.clone(),
            kind: node.kind.name.to_owned(),
            version: node.kind.version,
            config: node.canonical.clone(),
            model: None,
            seed: Some(experiment.seed),
            numerics: None,
            files,
            inputs,
            estimate_seconds: None,
        };
        keys.insert(node.name.clone(), KeyParts::new(&facts, &digests).digest());
    }
    keys
}

/// The experiment with its nodes renamed: `names` in the order of [`NODES`].
fn renamed(names: &[String]) -> String {
    // Through names that nobody has, so that two may swap theirs.
    let apart = NODES
        .iter()
        .enumerate()
        .fold(EXPERIMENT.to_owned(), |text, (at, old)| replace(&text, old, &format!("@{at}@")));
    names.iter().enumerate().fold(apart, |text, (at, new)| text.replace(&format!("@{at}@"), new))
}

/// Names of nodes stand behind `nodes.`, and in quotes before their end, a port or a part.
fn replace(text: &str, old: &str, new: &str) -> String {
    let places = [("nodes.", "]"), ("nodes.", "."), ("\"", "\""), ("\"", "."), ("\"", "/")];
    places.iter().fold(text.to_owned(), |text, (before, after)| {
        text.replace(&format!("{before}{old}{after}"), &format!("{before}{new}{after}"))
    })
}

const NODES: [&str; 5] = ["pairs", "clean", "stage1", "stage2", "table"];

fn some_names() -> impl Strategy<Value = Vec<String>> {
    let fresh = proptest::collection::btree_set("[a-z][a-z0-9_-]{0,8}", 5)
        .prop_map(|names| names.into_iter().collect::<Vec<_>>());
    let swapped = Just(NODES.map(str::to_owned).to_vec());
    prop_oneof![fresh, swapped].prop_shuffle()
}

#[test]
fn every_name_of_a_node_is_replaced() {
    let names =
        NODES.map(|name| format!("x{}", name.len() + name.as_bytes()[name.len() - 1] as usize)).to_vec();
    let text = renamed(&names);
    assert!(
        NODES
            .iter()
            .all(|name| !text.contains(&format!("{name}\"")) && !text.contains(&format!("nodes.{name}"))),
        "{text}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_comments_and_spaces_do_not_change_a_model_graph(text in shuffled(MODEL)) {
        let expected = model(MODEL).map_err(|(wrong, _)| wrong).unwrap().1.canonical();
        let graph = model(&text).map_err(|(wrong, sources)| render(&wrong, &sources, false));
        prop_assert_eq!(graph.unwrap().1.canonical().to_string(), expected.to_string());
    }

    #[test]
    fn order_comments_and_spaces_do_not_change_a_pipeline(text in shuffled(EXPERIMENT)) {
        let canonical = |text: &str| pipeline(&experiment(text, &files(), &[]).unwrap()).unwrap().canonical().to_string();
        prop_assert_eq!(canonical(&text), canonical(EXPERIMENT));
    }

    #[test]
    fn names_order_comments_and_spaces_are_in_no_key(
        (names, text) in some_names().prop_flat_map(|names| (Just(names.clone()), shuffled(&renamed(&names)))),
    ) {
        let expected = keys(EXPERIMENT);
        prop_assert_eq!(expected.len(), NODES.len());
        let found = keys(&text);
        for (old, new) in NODES.iter().zip(&names) {
            prop_assert_eq!(&found[new.as_str()], &expected[*old], "{} as {}", old, new);
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        survive(&bytes, "");
    }

    #[test]
    fn toml_like_text_is_survived(text in "([a-z.${}\"'\\[\\]=,# \n0-9é-]{0,12}|nodes|kind|params|graph|extends|in = |schema = 1\n|\\[nodes.a\\]\n|\"\\$\\{params.a\\}\"){0,20}") {
        survive(text.as_bytes(), "");
    }

    #[test]
    fn damaged_files_are_survived(
        which in any::<bool>(),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..20, "[a-z\\[\\]{}=\"\n$.é0-9-]{0,5}"), 1..5),
    ) {
        let mut bytes = if which { EXPERIMENT } else { MODEL }.as_bytes().to_vec();
        for (at, length, insert) in cuts {
            let start = at.index(bytes.len() + 1);
            let end = (start + length).min(bytes.len());
            bytes.splice(start..end, insert.bytes());
        }
        survive(&bytes, "");
    }

    #[test]
    fn any_override_is_survived(text in "\\PC{0,40}|(nodes|params|graphs|run|seed|extends|stage1|[.=\"'{}\\[\\]0-9]){0,8}") {
        survive(EXPERIMENT.as_bytes(), &text);
    }
}
