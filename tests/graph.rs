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

/// The part of a stage that is frozen, what is kept of it, and why the rest is not.
#[test]
fn a_cut_is_drawn() {
    let dir = Dir::empty();
    let text = std::fs::read_to_string(repository().join("tests/experiments/frozen.toml")).unwrap();
    dir.write("frozen.toml", text.replace("../../graphs", repository().join("graphs").to_str().unwrap()));
    insta::assert_snapshot!(dir.done(&["graph", "frozen.toml", "--cut", "stage2"]).stdout);
    let moved =
        ["-S", "nodes.stage2.train=[\"qllama\", \"pool2\", \"itm\", \"itc\", \"vit.encoder.layers.1\"]"];
    let dot =
        dir.done(&[&["graph", "frozen.toml", "--cut", "stage2", "--format", "dot"], &moved[..]].concat());
    assert!(dot.stdout.contains("kept: vit.hidden.1"), "{dot}");
    let svg = dir.done(&["graph", "frozen.toml", "--cut", "stage2", "--format", "svg"]).stdout;
    assert!(svg.contains("<svg") && svg.contains("kept: vit.hidden.2"), "{svg}");
    let planned = dir.done(&["graph", "frozen.toml", "--plan", "--format", "dot"]).stdout;
    assert!(planned.contains("never ran in this cache"), "{planned}");
    let none = dir.heddle(&["graph", "frozen.toml", "--cut", "bpe"]);
    assert!(none.code == Some(1) && none.stderr.contains("there are stage1, embed, "), "{none}");
    insta::assert_snapshot!(
        dir.heddle(&["plan", "frozen.toml", "stage2"])
            .stdout
            .lines()
            .rev()
            .take(2)
            .collect::<Vec<_>>()
            .join("\n")
    );
}
