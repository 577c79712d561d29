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
    let files = ["graphs/internvl-c.toml", "graphs/internvl-c-flat.toml", "experiments/quickstart.toml"];
    for file in files {
        let ended = heddle_in(&repository(), &["check", file]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended}");
    }
}

/// The whole model of the paper: InternViT-6B and a 7B text encoder.
#[test]
fn internvl_c() {
    let ended = heddle_in(&repository(), &["check", "graphs/internvl-c.toml"]);
    insta::assert_snapshot!(ended.stdout);
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
