//! Links, types, queries and drawings of sealed graphs.

use std::collections::{BTreeMap, BTreeSet};

use heddle_graph::graph::{
    Graph, NodeId, Paint, PortError, Source,
    gradient::{GradientFault, unreachable},
};

use crate::kinds::{AnyNode, EXPERIMENT, MODEL, experiment, files, model, pipeline};

fn built(text: &str) -> Graph<AnyNode> {
    model(text).unwrap_or_else(|(wrong, _)| panic!("{wrong}")).1
}

fn names(graph: &Graph<AnyNode>, ids: impl IntoIterator<Item = NodeId>) -> Vec<String> {
    ids.into_iter().map(|id| graph.node(id).name.clone()).collect()
}

#[test]
fn links_name_nodes_ports_and_inputs() {
    let graph = built(MODEL);
    let itc = graph.node(graph.find("itc").unwrap());
    assert_eq!(itc.edges["image"][0].ty.to_string(), "vector [B, 32]");
    let vit = Source::Node { id: graph.find("vit").unwrap(), port: "pooled".to_owned() };
    assert_eq!(itc.edges["image"][0].from, vit);
    assert_eq!(graph.outputs["image_embeds"], vit);
    assert_eq!(graph.resolve_port("vit").unwrap().1.to_string(), "sequence [B, N, 32]");
    assert_eq!(graph.resolve_port("vit.hidden.-4").unwrap().1.to_string(), "sequence [B, N, 32]");
    assert_eq!(graph.resolve_port("image").unwrap().0, Source::Input("image".to_owned()));
    assert!(matches!(graph.resolve_port("vti").unwrap_err(), PortError::UnknownNode { .. }));
    let wrong = graph.resolve_port("vit.token").unwrap_err();
    assert_eq!(wrong.help(), Some("did you mean `tokens`?"));
}

#[test]
fn queries_follow_the_order() {
    let experiment = experiment(EXPERIMENT, &files(), &[]).unwrap();
    let graph = pipeline(&experiment).unwrap();
    let find = |name: &str| graph.find(name).unwrap();
    assert_eq!(names(&graph, graph.ids()), ["pairs", "clean", "stage1", "stage2", "table"]);
    assert_eq!(names(&graph, graph.dependencies(find("stage2"))), ["clean", "stage1"]);
    assert_eq!(names(&graph, graph.dependents(find("stage1"))), ["stage2", "table"]);
    assert_eq!(names(&graph, graph.upstream(&[find("stage1")])), ["pairs", "clean", "stage1"]);
    let weights = &graph.node(find("stage2")).edges["weights"][0];
    assert_eq!((weights.label.as_deref(), weights.part.as_deref()), (Some("vit"), Some("vit")));
    let files: Vec<&str> =
        graph.node(find("pairs")).files.iter().map(|(_, file)| file.path.as_str()).collect();
    assert_eq!(files, ["data/train-0.tar", "data/train-1.tar"]);
}

#[test]
fn gradients_that_flow_nowhere_are_found() {
    let graph = built(MODEL);
    let find = |name: &str| graph.find(name).unwrap();
    let check = |losses: &[&str], trained: &[(&str, &'static str)]| {
        let losses: Vec<NodeId> = losses.iter().map(|name| find(name)).collect();
        // Parameters are named as the nodes that use them.
        let trained: BTreeMap<NodeId, BTreeSet<&str>> =
            trained.iter().map(|(node, uses)| (find(node), BTreeSet::from([*uses]))).collect();
        unreachable(&graph, &losses, &trained)
    };
    assert_eq!(check(&["itc"], &[("vit", "vit"), ("text", "text")]), []);
    assert_eq!(check(&["itc"], &[]), [GradientFault::LossReachesNothing(find("itc"))]);
    assert_eq!(check(&[], &[("vit", "vit")]), [GradientFault::TrainedUnreached("vit")]);
    // Two nodes may use the same one.
    assert_eq!(check(&["itc"], &[("vit", "vit"), ("text", "vit")]), []);
}

#[test]
fn drawings_show_kinds_and_types() {
    let graph = built(MODEL);
    insta::assert_snapshot!(graph.to_dot(&|_| Paint::default()));
    insta::assert_snapshot!(graph.to_mermaid(&|_| Paint::default()));
}

#[test]
fn canonical_form() {
    insta::assert_json_snapshot!(built(MODEL).canonical());
}

#[test]
fn two_thousand_nodes_are_no_burden() {
    let mut text =
        "schema = 1\n[nodes.n0]\nkind = \"data.source\"\nshards = \"../data/train-*.tar\"\n".to_owned();
    for at in 1..2000 {
        text.push_str(&format!(
            "[nodes.n{at}]\nkind = \"data.filter\"\nin = \"n{}\"\nplugin = \"../plugins/length.wasm\"\n",
            (at - 1) / 2
        ));
    }
    let experiment = experiment(&text, &files(), &[]).unwrap();
    assert_eq!(pipeline(&experiment).unwrap().len(), 2000);
}
