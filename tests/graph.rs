//! Drawings.

use crate::util::{Dir, TINY, heddle_in, repository};

#[test]
fn quickstart_as_mermaid() {
    let ended = heddle_in(&repository(), &["graph", "experiments/quickstart.toml"]);
    assert_eq!(ended.code, Some(0), "{ended}");
    insta::assert_snapshot!(ended.stdout);
}

#[test]
fn model_graph_as_dot() {
    insta::assert_snapshot!(Dir::tiny().done(&["graph", "graphs/tiny.toml", "--format", "dot"]).stdout);
}

#[test]
fn every_node_is_drawn() {
    for format in ["mermaid", "dot"] {
        let drawing = Dir::tiny().done(&["graph", TINY, "--format", format]).stdout;
        for node in
            ["pairs", "heldout", "bpe", "stage1", "embed", "zero_shot", "retrieval", "floor", "report"]
        {
            assert!(drawing.contains(node), "{node} is not drawn as {format}");
        }
    }
}
