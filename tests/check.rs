//! Correct files: what `check` counts.

use crate::util::{Dir, TINY, filtered, heddle_in, here, repository};

/// InternViT variants of Table 11: width, depth, MLP width, heads; then parameters and multiply-adds at 224 pixels,
/// counted by hand as L(4D^2 + 2DM + M + 8D) + 847D and L(257(4D^2 + 2DM) + 2*256^2*D) + 256*588*D. The paper
/// prints them in millions and 10^9: 6051, 5903, 5903, 5985, 6095, 5985 and 1571, 1536, 1536, 1553, 1589, 1564.
const TABLE_11: [(u64, u64, u64, u64, f64, f64); 6] = [
    (3968, 32, 15872, 62, 6050.974, 1571.09),
    (3200, 48, 12800, 50, 5902.794, 1536.46),
    (3200, 48, 12800, 25, 5902.794, 1536.46),
    (2496, 48, 19968, 39, 5984.846, 1553.15),
    (2816, 64, 11264, 44, 6094.677, 1589.21),
    (2496, 80, 9984, 39, 5985.326, 1563.62),
];

#[test]
fn sizes_of_the_published_variants() {
    for (width, depth, mlp, heads, millions, gmacs) in TABLE_11 {
        let set = [("width", width), ("depth", depth), ("mlp-width", mlp), ("heads", heads)];
        let set: Vec<String> = set.iter().map(|(name, value)| format!("params.{name}={value}")).collect();
        let mut arguments = vec!["check", "graphs/vit.toml", "--json"];
        set.iter().for_each(|set| arguments.extend(["-S", set]));
        let ended = heddle_in(&here(), &arguments);
        assert_eq!(ended.code, Some(0), "{ended}");
        let model = &ended.json()[0]["model"];
        let (parameters, macs) = (model["parameters"].as_u64().unwrap(), model["macs"].as_u64().unwrap());
        let linear = 4 * width * width + 2 * width * mlp;
        assert_eq!(parameters, depth * (linear + mlp + 8 * width) + 847 * width);
        assert_eq!(macs, depth * (257 * linear + 2 * 256 * 256 * width) + 256 * 588 * width);
        assert!((parameters as f64 / 1e6 - millions).abs() < 6e-4, "{parameters}");
        assert!((macs as f64 / 1e9 - gmacs).abs() < 6e-3, "{macs}");
    }
}

#[test]
fn shipped_files_are_correct() {
    let shipped = |folder: &str| {
        let files = std::fs::read_dir(repository().join(folder)).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.ends_with(".toml"))
            .map(|name| format!("{folder}/{name}"))
            .collect::<Vec<_>>()
    };
    let files = [shipped("graphs"), shipped("experiments")].concat();
    assert!(files.len() > 7, "{files:?}");
    for file in files {
        // What a script fetches need not be here; that some file is, is all that `check` looks at.
        let fetched = ["-S", "nodes.smollm2.file=README.md", "-S", "nodes.tokenizer.file=README.md"];
        let set = if file.ends_with("smollm2-chat.toml") { &fetched[..] } else { &[] };
        let ended = heddle_in(&repository(), &[&["check", file.as_str()], set].concat());
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended}");
    }
}

/// The whole model of the paper: InternViT-6B and a 7B text encoder.
#[test]
fn internvl_c() {
    let ended = heddle_in(&repository(), &["check", "graphs/internvl-c.toml"]);
    insta::assert_snapshot!(ended.stdout);
}

/// The whole model: 13.8 B parameters, of which stage 2 trains 1.01 B; the projectors of the chats are 64 and 90 M.
/// (InternVL, CVPR 2024, section 3 and table 3; counted from the official modules.)
#[test]
fn stages_of_the_published_sizes() {
    let stage = |graph: &str, train: &str, loss: &str| {
        let dir = Dir::empty();
        let graph = repository().join("graphs").join(graph);
        let experiment = format!(
            "schema = 1\n[nodes.pairs]\nkind = \"data.webdataset\"\nimage = {{ size = 224 }}\n\
             [nodes.bpe]\nkind = \"text.bpe\"\nin = \"pairs\"\n\
             [nodes.stage]\nkind = \"train\"\ngraph = \"{}\"\nin = {{ records = \"pairs\", tokenizer = \"bpe\" }}\n\
             train = {train}\nloss = {{ {loss} }}\nsteps = 1\nbatch = 2\n",
            graph.display()
        );
        dir.write("stage.toml", &experiment);
        let checked = dir.done(&["check", "stage.toml", "--json"]).json();
        let stage = &checked[0]["stages"][0];
        (stage["trained"].as_u64().unwrap(), stage["parameters"].as_u64().unwrap())
    };
    let stage2 = r#"["qllama.queries", "qllama.*.cross_attn", "pool2", "itm", "itc"]"#;
    let losses = "itc = 1.0, itm = 1.0, itg = 1.0";
    assert_eq!(stage("internvl-g.toml", stage2, losses), (1_010_334_467, 13_834_975_747));
    let (projectors, _) = stage("internvl-chat.toml", r#"["mlp1", "mlp2"]"#, "lm = 1.0");
    assert_eq!(projectors, 63_469_824);
}

#[test]
fn tiny_experiment() {
    filtered(|| insta::assert_snapshot!(Dir::tiny().done(&["check", TINY]).stdout));
}

/// Every cell of a sweep and every ablation is checked as if it were run.
#[test]
fn variants_are_counted() {
    let dir = Dir::tiny();
    let more = "\n[ablations.flat]\n\"nodes.stage1.steps\" = 2\n\n\
                [sweeps.lr]\ngrid = { \"nodes.stage1.optimizer.lr\" = [1e-3, 1e-2], seed = [1, 2, 3] }\n";
    dir.write(TINY, dir.read(TINY) + more);
    let json = dir.done(&["check", TINY, "--json"]).json();
    assert_eq!((&json[0]["ablations"], &json[0]["sweep_cells"]), (&1.into(), &6.into()));
}

/// The first file's mistakes do not keep the second from being checked.
#[test]
fn all_files_are_checked() {
    let dir = Dir::tiny();
    dir.write("wrong.toml", "schema = 3\n");
    let ended = dir.heddle(&["check", "wrong.toml", TINY]);
    assert_eq!(ended.code, Some(3));
    assert!(ended.stdout.contains("tiny.toml: correct"), "{ended}");
    assert!(ended.stderr.contains("wrong.toml:1:"), "{ended}");
}
