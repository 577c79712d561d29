//! A snapshot of every kind of mistake, as the user sees it.

use heddle_graph::{
    MapLoader,
    config::{load_model_partial, load_partial},
    diagnostic::Diagnostics,
    graph::build,
    render,
    source::Sources,
};

use crate::kinds::{EXPERIMENT, MODEL, MODEL_KINDS, PIPELINE_KINDS, files};

/// Everything that is wrong with a model graph.
fn model(text: &str) -> String {
    let loader = files().with("graphs/x.toml", text);
    let mut sources = Sources::new();
    let (file, problems) = load_model_partial("graphs/x.toml", &loader, &[], &mut sources);
    let built = file.and_then(|file| build(&file, MODEL_KINDS, &(), &loader).err());
    rendered(problems.into_iter().chain(built), &sources)
}

/// Everything that is wrong with an experiment and its model graphs.
fn experiment_among(text: &str, loader: MapLoader, overrides: &[&str]) -> String {
    let loader = loader.with("experiments/x.toml", text);
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    let mut sources = Sources::new();
    let (experiment, problems) = load_partial("experiments/x.toml", &loader, &overrides, &mut sources);
    let mut all: Vec<Diagnostics> = problems.into_iter().collect();
    if let Some(experiment) = experiment {
        all.extend(
            experiment.graphs.iter().filter_map(|graph| build(graph, MODEL_KINDS, &(), &loader).err()),
        );
        all.extend(build(&experiment, PIPELINE_KINDS, &(), &loader).err());
    }
    rendered(all, &sources)
}

fn experiment(text: &str) -> String {
    experiment_among(text, files(), &[])
}

/// [`EXPERIMENT`] with one thing replaced.
fn changed(from: &str, to: &str) -> String {
    assert!(EXPERIMENT.contains(from), "{from}");
    experiment(&EXPERIMENT.replacen(from, to, 1))
}

/// [`MODEL`] with one thing replaced.
fn model_changed(from: &str, to: &str) -> String {
    assert!(MODEL.contains(from), "{from}");
    model(&MODEL.replacen(from, to, 1))
}

fn with_override(text: &str) -> String {
    experiment_among(EXPERIMENT, files(), &[text])
}

fn rendered(all: impl IntoIterator<Item = Diagnostics>, sources: &Sources) -> String {
    let all = Diagnostics::join(all).expect("something is wrong");
    render(&all, sources, false)
}

/// `name => how to get it wrong`: one test with one snapshot each.
macro_rules! mistakes {
    ($($name:ident => $text:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!($text);
        }
    )*};
}

mistakes! {
    syntax => experiment("schema = 1\nseed = = 2\n[nodes.a\nkind = \"data.source\"\n[nodes.b]\nkind = \"data.sauce\"\nx = [1,\n");
    duplicate_node => experiment("schema = 1\n[nodes.a]\nkind = \"data.source\"\n[nodes.a]\nkind = \"data.source\"\n");
    date => changed("steps = 10", "steps = 2024-01-01");
    no_schema => experiment("seed = 1\n");
    other_schema => experiment("schema = 2\n");
    unknown_top_level_key => experiment("schema = 1\nsed = 1\n");
    wrong_top_level_types => experiment("schema = 1\nseed = -1\nparams = 3\nnodes = []\nrun = \"x\"\nsweeps = 1\n");

    missing_include => experiment("extends = [\"bass.toml\", 3]\nschema = 1\n");
    binary_include => experiment_among("extends = \"b.toml\"\n", files().with("experiments/b.toml", [0xff, 0xfe]), &[]);
    include_cycle => experiment_among(
        "extends = \"a.toml\"\nschema = 1\n",
        files().with("experiments/a.toml", "extends = \"b.toml\"").with("experiments/b.toml", "extends = [\"a.toml\"]"),
        &[],
    );
    mistake_in_an_include => experiment_among(
        "extends = \"a.toml\"\nschema = 1\nseeed = 1\n",
        files().with("experiments/a.toml", "# base\n[nodes.a]\nkind = \"data.sourc\"\n"),
        &[],
    );

    override_without_value => with_override("nodes.stage1.steps");
    override_of_unknown_node => with_override("nodes.stage.steps=3");
    override_of_unknown_key => with_override("nodes.stage1.stesp=3");
    override_through_a_value => with_override("nodes.stage1.steps.x=3");
    override_with_bad_toml => with_override("nodes.stage1.loss={ itc = }");
    override_of_wrong_type => with_override("nodes.stage1.steps=many");
    override_of_unknown_top_level => with_override("node.stage1.steps=3");
    override_of_extends => with_override("extends=a.toml");
    override_with_open_quote => with_override("nodes.\"stage1.steps=3");
    override_of_unused_parameter => with_override("params.widht=3");

    unknown_parameter => changed("${params.steps}", "${params.step}");
    expression => changed("\"${params.steps}\"", "\"${params.steps} * 2\"");
    not_a_parameter => changed("${params.steps}", "${env.HOME}");
    unused_parameter => changed("width = 48", "width = 48\nwidht = 3");
    parameter_cycle => changed("steps = 200", "steps = \"${params.more}\"\nmore = [\"${params.steps}\"]");
    parameter_of_wrong_type => changed("steps = 200", "steps = \"many\"");

    unknown_model_graph => changed("graph = \"../graphs/model.toml\"", "graph = \"modell\"");
    missing_model_graph => changed("graph = \"../graphs/model.toml\"", "graph = \"../graphs/modell.toml\"");
    undeclared_parameter_of_a_model_graph => changed(
        "graph = \"../graphs/model.toml\"",
        "graph = { file = \"../graphs/model.toml\", params = { widht = 3 }, nodse = {} }",
    );
    unknown_node_in_a_reference => changed(
        "graph = \"../graphs/model.toml\"",
        "graph = { file = \"../graphs/model.toml\", nodes = { vti = { depth = 3 } } }",
    );
    mistake_in_a_model_graph_from_an_experiment => changed("width = 48", "width = 50");

    bad_device_and_memory => experiment("schema = 1\n[run]\ndevice = \"gpu\"\nmemory = \"8\"\nthreads = 0\nexecutor = \"locale\"\n");
    ablation_of_unknown_node => changed("\"nodes.stage1.in\" = \"pairs\"", "\"nodes.stage.in\" = \"pairs\"");
    ablation_of_schema => changed("\"nodes.stage1.in\" = \"pairs\"", "schema = 2");
    zip_of_different_lengths => changed("grid = {", "zip = { seed = [1], \"nodes.stage1.batch\" = [1, 2] }\nexclude = [{ sede = 1 }]\ngrid = {");
    exclude_of_unknown_key => changed("grid = {", "exclude = [{ \"nodes.stage1.steps\" = 1 }]\ngrid = {");
    too_many_cells => changed("\"params.width\" = [16, 48]", "seed = [0,0,0,0,0,0,0,0,0,0], \"run.threads\" = [1,1,1,1,1,1,1,1,1,1], \"nodes.stage1.batch\" = [1,1,1,1,1,1,1,1,1,1], \"nodes.stage2.batch\" = [1,1,1,1,1,1,1,1,1,1]");
    empty_sweep => changed("grid = { \"nodes.stage1.optimizer.lr\" = [1e-3, 1e-4], \"params.width\" = [16, 48] }", "gird = {}");

    bad_names => experiment("schema = 1\n[nodes.\"a.b\"]\nkind = \"data.source\"\n[nodes.\"\"]\nkind = \"x\"\n");
    nodes_without_kind => experiment("schema = 1\n[nodes.a]\nlimit = 3\n[nodes.b]\nkind = 3\n[nodes]\nc = 3\n[nodes.d]\nkind = \"data.filter\"\nin = \"a\"\nplugin = \"../plugins/length.wasm\"\n");
    unknown_kind_does_not_cascade => changed("kind = \"data.source\"", "kind = \"data.sorce\"");
    unknown_keys => changed("steps = 10\noptimizer = { kind = \"sgd\", momentum = 0.5 }", "setps = 10\noptimizer = { kind = \"sgd\", betas = [1, 2] }\nbogus = 1");
    wrong_types => changed("steps = 10\noptimizer = { kind = \"sgd\", momentum = 0.5 }", "steps = \"ten\"\nbatch = 1.5\nloss = { itc = \"x\" }\naugment = 3\ngroups = { a = 1 }");
    out_of_range => changed("steps = 10\noptimizer = { kind = \"sgd\", momentum = 0.5 }", "steps = 0\nbatch = 99999999999999999999\noptimizer = { lr = 0, betas = [1] }");
    missing_file => changed("plugin = \"../plugins/length.wasm\"", "plugin = \"../plugins/lenght.wasm\"");
    missing_pattern => changed("train-{0..1}.tar", "trian-*.tar");
    several_files_where_one_is_wanted => changed("plugin = \"../plugins/length.wasm\"", "plugin = \"../data/*.tar\"");
    unknown_word => changed("shards =", "split = \"tset\"\nshards =");
    further_check_of_a_kind => model_changed("in = \"image\"", "in = \"image\"\nheads = 5");

    unknown_node => changed("in = \"clean\"", "in = \"claen\"");
    unknown_port => changed("stage1.metrics", "stage1.metric");
    unknown_input_port => model_changed("in = { image = \"vit.pooled\", text", "in = { image = \"vit.pooled\", txet");
    port_of_an_input => model_changed("in = \"image\"", "in = \"image.pixels\"");
    wrong_class => model_changed("image = \"vit.pooled\"", "image = \"vit.tokens\"");
    wrong_class_in_a_pipeline => changed("in = \"pairs\"", "in = \"stage1\"");
    missing_port => model_changed(", text = \"text.eos\" }", " }");
    missing_in => changed("in = \"pairs\"\n", "");
    no_in_wanted => changed("shards =", "in = \"clean\"\nshards =");
    port_connected_twice => changed("in = \"clean\"", "in = [\"clean\", \"pairs\"]");
    wrong_link_type => changed("in = \"clean\"", "in = 3");
    empty_links => changed("in = [\"stage1.metrics\", \"stage2.metrics\"]", "in = []");
    cycles => experiment("schema = 1\n[nodes.a]\nkind = \"data.filter\"\nin = \"b\"\nplugin = \"../plugins/length.wasm\"\n[nodes.b]\nkind = \"data.filter\"\nin = \"a\"\nplugin = \"../plugins/length.wasm\"\n[nodes.c]\nkind = \"data.filter\"\nin = \"c\"\nplugin = \"../plugins/length.wasm\"\n");
    shape_mismatch => model_changed("[nodes.text]\nkind = \"model.text\"\nin = \"caption\"\nwidth = \"${params.width}\"", "[nodes.text]\nkind = \"model.text\"\nin = \"caption\"\nwidth = 48");
    shape_mismatch_with_an_input => model_changed("size = 28", "size = 32");
    unknown_output => model_changed("image_embeds = \"vit.pooled\"", "image_embeds = \"vti.pooled\", other = \"vit.poold\"");
    unknown_input_type => model_changed("caption = \"text\"", "caption = \"txt\", more = { type = \"vector\", size = 3 }, odd = 1");
    input_and_node => model_changed("caption = \"text\"", "caption = \"text\", vit = \"image\"");
}

#[test]
fn colour_is_only_there_on_request() {
    let mut sources = Sources::new();
    let loader = files().with("x.toml", "sed = 1");
    let (_, problems) = load_partial("x.toml", &loader, &[], &mut sources);
    let problems = problems.unwrap();
    assert!(render(&problems, &sources, true).contains("\u{1b}["));
    assert!(!render(&problems, &sources, false).contains("\u{1b}["));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let text = experiment(
        "schema = 1\n[nodes.\"\\u001b[31m\"]\nkind = \"\\u001b[31m\"\n[nodes.b]\nkind=\"\\u001b[2J\"\n",
    );
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn control_characters_of_a_quoted_line_do_not_reach_the_terminal() {
    for control in ['\u{1b}', '\u{7f}', '\u{90}', '\u{9b}', '\u{9d}', '\u{202e}'] {
        let text = experiment(&format!("schema = 1\nsed = \"{control}2J\" # {control}31m\n"));
        assert!(text.contains("sed"), "{text}");
        assert!(!text.contains(control), "{control:?} in {text:?}");
    }
}
