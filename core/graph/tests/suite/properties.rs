//! Invariants over generated and damaged files.

use heddle_graph::render;
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
