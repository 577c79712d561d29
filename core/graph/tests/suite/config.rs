//! Includes, parameters, overrides, references to model graphs, ablations and sweeps.

use heddle_graph::{
    MapLoader,
    config::{Device, FileKind, file_kind},
    source::Sources,
};
use serde_json::json;

use crate::kinds::{EXPERIMENT, MODEL, experiment, files, model, models, pipeline, widths};

fn steps(experiment: &heddle_graph::config::Experiment, node: &str) -> serde_json::Value {
    experiment.nodes[node].table["steps"].value.to_json()
}

#[test]
fn the_fixtures_have_no_mistakes() {
    let experiment = experiment(EXPERIMENT, &files(), &[]).unwrap();
    assert_eq!(pipeline(&experiment).unwrap().len(), 5);
    assert_eq!(models(&experiment).unwrap().len(), 1);
    assert_eq!(experiment.seed, 7);
    assert_eq!(experiment.params, json!({ "width": 48, "steps": 200 }));
    assert_eq!(steps(&experiment, "stage1"), 200);
}

#[test]
fn later_files_win_and_tables_merge() {
    let loader = files()
        .with("experiments/a.toml", "schema = 1\nseed = 1\n[run]\nthreads = 1\ndevice = \"auto\"\n")
        .with("experiments/b.toml", "extends = \"a.toml\"\nseed = 2\n[run]\nthreads = 2\n");
    let text = "extends = [\"a.toml\", \"b.toml\"]\n[run]\nmemory = \"1GiB\"\n";
    let experiment = experiment(text, &loader, &[]).unwrap();
    assert_eq!(experiment.seed, 2);
    assert_eq!(experiment.run.threads, Some(2));
    assert_eq!(experiment.run.device, Device::Auto);
    assert_eq!(experiment.run.memory, Some(1 << 30));
}

#[test]
fn paths_in_an_included_file_are_relative_to_that_file() {
    let loader = files()
        .with("base/deep/base.toml", "schema = 1\n[nodes.s]\nkind = \"data.source\"\nshards = \"x.tar\"\n");
    let experiment = experiment("extends = \"../base/deep/base.toml\"", &loader, &[]).unwrap();
    let wrong = pipeline(&experiment).unwrap_err();
    assert!(wrong.to_string().contains("base/deep/x.tar"), "{wrong}");
}

#[test]
fn overrides_set_typed_values() {
    let overrides = [
        "nodes.stage1.steps=3",
        "seed = 9",
        "run.threads=1",
        "run.device=cuda:1",
        "nodes.stage2.optimizer={ kind = \"adamw\" }",
        "nodes.\"table\".in=stage1.metrics",
        "params.width=8",
    ];
    let experiment = experiment(EXPERIMENT, &files(), &overrides).unwrap();
    assert_eq!(steps(&experiment, "stage1"), 3);
    assert_eq!(experiment.seed, 9);
    assert_eq!(experiment.run.threads, Some(1));
    assert_eq!(experiment.run.device, Device::Cuda(1));
    assert_eq!(experiment.resolved["nodes"]["stage2"]["optimizer"], json!({ "kind": "adamw" }));
    assert_eq!(widths(&experiment)["graphs/model.toml"], 8);
    pipeline(&experiment).unwrap();
}

#[test]
fn an_experiment_may_set_a_parameter_that_only_its_model_graph_has() {
    let text = "schema = 1\n[nodes.s]\nkind = \"train\"\ngraph = \"../graphs/model.toml\"\n";
    let experiment = experiment(text, &files(), &["params.width=12"]).unwrap();
    assert_eq!(widths(&experiment)["graphs/model.toml"], 12);
}

#[test]
fn parameters_keep_their_type_and_refer_to_each_other() {
    let text = "schema = 1\n[params]\na = \"${params.b}\"\nb = { lr = \"${params.c}\" }\nc = 0.5\n\
                [nodes.n]\nkind = \"train\"\noptimizer = \"${params.a}\"\n";
    let experiment = experiment(text, &files(), &[]).unwrap();
    assert_eq!(experiment.nodes["n"].table["optimizer"].value.to_json(), json!({ "lr": 0.5 }));
    assert_eq!(experiment.params["a"], json!({ "lr": 0.5 }));
}

#[test]
fn references_to_model_graphs_take_four_forms_and_equal_ones_are_read_once() {
    let text = r#"
schema = 1
params = { width = 20, deep = 3 }
[graphs.small]
file = "../graphs/model.toml"
params = { width = 4 }
nodes = { vit = { depth = "${params.deep}", width = "${params.width}" }, text = { width = "${params.width}" } }
[graphs.whole]
inputs = { image = "image" }
nodes.vit = { kind = "model.encoder", in = "image", width = "${params.width}" }
[nodes]
a = { kind = "train", graph = "../graphs/model.toml" }
b = { kind = "train", graph = "../graphs/../graphs/model.toml" }
c = { kind = "train", graph = "small" }
d = { kind = "train", graph = { file = "../graphs/model.toml" } }
e = { kind = "train", graph = "whole" }
f = { kind = "train", graph = { file = "../graphs/model.toml", params = { width = "${params.width}" } } }
"#;
    let experiment = experiment(text, &files(), &[]).unwrap();
    let id = |name: &str| experiment.nodes[name].graph.unwrap();
    assert_eq!(experiment.graphs.len(), 4);
    assert_eq!(id("a"), id("b"));
    assert_eq!(id("a"), id("d"));
    assert_ne!(id("a"), id("f"));
    let graphs = models(&experiment).unwrap();
    let vit = |name: &str| {
        let graph = &graphs[id(name).0];
        graph.node(graph.find("vit").unwrap()).canonical.clone()
    };
    assert_eq!(vit("a")["width"], 20);
    assert_eq!(vit("e")["width"], 20);
    // A deep override is written in the experiment and means its parameters.
    assert_eq!((&vit("c")["width"], &vit("c")["depth"]), (&json!(20), &json!(3)));
    assert_eq!(experiment.graphs[id("c").0].params, json!({ "width": 4 }));
}

#[test]
fn deep_overrides_reach_into_a_named_model_graph() {
    let text = "schema = 1\n[graphs.g]\nfile = \"../graphs/model.toml\"\n[nodes.s]\nkind = \"train\"\ngraph = \"g\"\n";
    let experiment =
        experiment(text, &files(), &["graphs.g.nodes.vit.width=44", "graphs.g.nodes.text.width=44"]).unwrap();
    assert_eq!(widths(&experiment)["graphs/model.toml"], 44);
}

#[test]
fn inputs_take_words_and_tables() {
    let text = "schema = 1\n[inputs]\na = \"image\"\nb = { type = \"image\", size = [28, 42] }\n\
                c = { type = \"text\", length = 80, prefix = \"summarize:\" }\n\
                d = { type = \"sequence\", length = 17, width = 64 }\ne = { type = \"vector\", width = 64 }\n\
                f = { type = \"map\", width = 8, size = 4 }\ng = \"sequence\"\n";
    let (file, _) = model(text).unwrap_or_else(|(wrong, _)| panic!("{wrong}"));
    let types: Vec<String> = file.inputs.values().map(|input| input.ty.to_string()).collect();
    let expected = [
        "image [B, 3, H, W]",
        "image [B, 3, 28, 42]",
        "text [B, T]",
        "sequence [B, 17, 64]",
        "vector [B, 64]",
        "map [B, 8, 4, 4]",
        "sequence [B, N, C]",
    ];
    assert_eq!(types, expected);
    assert_eq!(file.inputs["c"].max_length, Some(80));
    assert_eq!(file.inputs["c"].prefix.as_deref(), Some("summarize:"));
}

#[test]
fn ablations_and_cells_are_whole_experiments() {
    let loader = files().with("experiments/x.toml", EXPERIMENT);
    let mut sources = Sources::new();
    let base = heddle_graph::config::load("experiments/x.toml", &loader, &[], &mut sources).unwrap();
    let ablation = base.variant(&base.ablations["no-filter"], &loader, &mut sources).unwrap();
    assert_eq!(ablation.nodes["stage1"].table["in"].value.to_json(), "pairs");
    let labels: Vec<&str> = base.sweeps["lr"].iter().map(|cell| cell.label.as_str()).collect();
    assert_eq!(labels[0], "nodes.stage1.optimizer.lr=0.001 params.width=16");
    assert_eq!(labels.len(), 4);
    let texts = sources.len();
    let variants =
        base.sweeps["lr"].iter().map(|cell| base.variant(&cell.overrides, &loader, &mut sources).unwrap());
    let found: Vec<_> = variants.map(|cell| widths(&cell)["graphs/model.toml"].clone()).collect();
    assert_eq!(found, [16, 48, 16, 48]);
    assert_eq!(sources.len(), texts, "variants add no texts");
}

#[test]
fn sweeps_combine_grid_zip_and_list_and_drop_what_is_excluded() {
    let text = format!(
        "{EXPERIMENT}\n[sweeps.all]\ngrid = {{ seed = [1, 2] }}\n\
         zip = {{ \"params.width\" = [4, 8], \"nodes.stage1.batch\" = [1, 2] }}\n\
         list = [{{}}, {{ nodes.stage2.steps = 5 }}]\n\
         exclude = [{{ seed = 1, \"params.width\" = 8.0 }}]\n"
    );
    let experiment = experiment(&text, &files(), &[]).unwrap();
    let labels: Vec<&str> = experiment.sweeps["all"].iter().map(|cell| cell.label.as_str()).collect();
    assert_eq!(
        labels,
        [
            "seed=1 params.width=4 nodes.stage1.batch=1",
            "seed=1 params.width=4 nodes.stage1.batch=1 nodes.stage2.steps=5",
            "seed=2 params.width=4 nodes.stage1.batch=1",
            "seed=2 params.width=4 nodes.stage1.batch=1 nodes.stage2.steps=5",
            "seed=2 params.width=8 nodes.stage1.batch=2",
            "seed=2 params.width=8 nodes.stage1.batch=2 nodes.stage2.steps=5",
        ]
    );
}

#[test]
fn files_tell_what_they_are() {
    assert_eq!(file_kind(MODEL), FileKind::ModelGraph);
    assert_eq!(file_kind(EXPERIMENT), FileKind::Experiment);
    assert_eq!(file_kind("= ["), FileKind::Experiment);
}

#[test]
fn unusable_files_are_errors_and_no_panics() {
    let cases: [(&str, Vec<u8>); 4] = [
        ("", Vec::new()),
        ("not UTF-8", vec![0x73, 0xff, 0xfe]),
        ("settings have at most", vec![b'#'; (16 << 20) + 1]),
        ("", vec![0; 100]),
    ];
    for (expected, bytes) in cases {
        let loader = MapLoader::new().with("x.toml", bytes);
        let wrong = heddle_graph::config::load("x.toml", &loader, &[], &mut Sources::new()).unwrap_err();
        assert!(wrong.to_string().contains(expected), "{wrong}");
    }
    let with_mark = MapLoader::new().with("x.toml", "\u{feff}schema = 1");
    heddle_graph::config::load("x.toml", &with_mark, &[], &mut Sources::new()).unwrap();
}

#[test]
fn parameters_cannot_blow_up() {
    let mut text = "schema = 1\n[params]\np0 = [1, 2, 3, 4, 5, 6, 7, 8]\n".to_owned();
    for at in 1..40 {
        let name = format!("\"${{params.p{}}}\"", at - 1);
        text.push_str(&format!("p{at} = [{}]\n", vec![name; 8].join(", ")));
    }
    let wrong = experiment(&text, &files(), &[]).unwrap_err();
    assert!(wrong.to_string().contains("parameters expand to more than"), "{wrong}");
}

#[test]
fn long_chains_are_refused() {
    let chain = |at: usize| format!("p{at} = \"${{params.p{}}}\"\n", at + 1);
    let params: String = (0..5000).map(chain).collect();
    let wrong = experiment(&format!("schema = 1\n[params]\n{params}"), &files(), &[]).unwrap_err();
    assert!(wrong.to_string().contains("refer to one another"), "{wrong}");

    let include = |loader: MapLoader, at: usize| {
        loader.with(&format!("experiments/{at}.toml"), format!("extends = \"{}.toml\"", at + 1))
    };
    let loader = (0..5000).fold(files(), include);
    let wrong = experiment("extends = \"0.toml\"", &loader, &[]).unwrap_err();
    assert!(wrong.to_string().contains("extend one another"), "{wrong}");
}

#[test]
fn a_value_that_replaces_the_only_use_of_a_parameter_is_no_mistake() {
    experiment(EXPERIMENT, &files(), &["nodes.stage1.steps=3"]).unwrap();
}
