//! Plugins as users meet them: the examples and their cases, nodes that run them, what is said of a bad one.

use std::{fs, path::Path};

use sha2::{Digest, Sha256};

use crate::util::Dir;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn examples() -> Vec<String> {
    let folder = Path::new(ROOT).join("plugins/examples");
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Every example does what its `cases.jsonl` says, as it was built.
#[test]
fn examples_pass_their_cases() {
    let dir = Dir::empty();
    for name in examples() {
        let cases = format!("{ROOT}/plugins/examples/{name}/cases.jsonl");
        let run = dir.heddle(&["plugin", "test", &format!("embedded:plugins/{name}.wasm"), &cases]);
        assert_eq!(run.code, Some(0), "{name}: {}{}", run.stdout, run.stderr);
        assert!(
            run.stdout.ends_with(" right, 0 wrong\n") && !run.stdout.starts_with('0'),
            "{name}: {}",
            run.stdout
        );
    }
}

/// The plugin in C that heddle carries does what its template's cases say.
#[test]
fn the_plugin_in_c_passes_its_cases() {
    let cases = format!("{ROOT}/plugins/templates/c/cases.jsonl");
    let run = Dir::empty().done(&["plugin", "test", "embedded:plugins/caption-rule.wasm", &cases]);
    assert_eq!(run.stdout, "24 right, 0 wrong\n");
}

#[test]
fn a_wrong_answer_is_shown_with_its_line() {
    let dir = Dir::empty();
    dir.write("cases.jsonl", "{\"record\": {\"captions\": [\"a cat\"]}, \"expect\": \"too-long\"}\n");
    let run = dir.heddle(&["plugin", "test", "embedded:plugins/caption-length.wasm", "cases.jsonl"]);
    assert_eq!(run.code, Some(1));
    insta::assert_snapshot!(run.stdout);
}

#[test]
fn check_says_what_a_plugin_is() {
    let run = Dir::empty().heddle(&["plugin", "check", "embedded:plugins/image-shape.wasm"]);
    let stdout =
        run.stdout.lines().filter(|line| !line.contains(" bytes, imports")).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(stdout);
}

/// The artefacts are those that the sources make: the MANIFEST has the digests of both.
#[test]
fn prebuilt_plugins_are_those_of_the_sources() {
    let plugins = Path::new(ROOT).join("plugins");
    let manifest: toml::Table =
        toml::from_str(&fs::read_to_string(plugins.join("prebuilt/MANIFEST.toml")).unwrap()).unwrap();
    assert!(manifest["compiler"].as_str().unwrap().starts_with("rustc "));
    let mut built = examples();
    built.push("caption-rule".to_owned());
    built.sort();
    assert_eq!(manifest.keys().filter(|key| *key != "compiler").cloned().collect::<Vec<_>>(), built);
    for name in built {
        let artefact = fs::read(plugins.join(format!("prebuilt/{name}.wasm"))).unwrap();
        assert_eq!(manifest[&name]["sha256"].as_str().unwrap(), hex(&artefact), "{name}.wasm was changed");
        let source = match name.as_str() {
            // The template for C, under another name.
            "caption-rule" => source_digest(&plugins, &["templates/c", "wit/0.1"]),
            name => source_digest(
                &plugins,
                &[&format!("examples/{name}"), "sdk", "wit/0.1", "Cargo.toml", "Cargo.lock"],
            ),
        };
        let stale = format!("{name} has changed since it was built; run scripts/plugins-build.sh");
        assert_eq!(manifest[&name]["source"].as_str().unwrap(), source, "{stale}");
    }
}

/// As `sha256sum` over the sorted list of `sha256sum` lines gives it.
fn source_digest(plugins: &Path, places: &[&str]) -> String {
    let mut files = Vec::new();
    for place in places {
        if plugins.join(place).is_dir() {
            walk(plugins, place, &mut files);
        } else {
            files.push((*place).to_owned());
        }
    }
    files.sort();
    let line = |file: &String| format!("{}  {file}\n", hex(&fs::read(plugins.join(file)).unwrap()));
    hex(files.iter().map(line).collect::<String>().as_bytes())
}

fn walk(root: &Path, below: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let name = format!("{below}/{}", entry.unwrap().file_name().into_string().unwrap());
        if root.join(&name).is_dir() { walk(root, &name, files) } else { files.push(name) }
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Records of the pack with their captions, and a filter over them.
const FILTER: &str = r#"
schema = 1

[nodes.pairs]
kind     = "data.webdataset"
shards   = "embedded:emoji/val-*.tar"
source-column = "vendor"
captions = { en = "en", zh = "zh" }

[nodes.clean]
kind   = "data.filter"
in     = "pairs"
plugin = "embedded:plugins/caption-length.wasm"
config = { min_words = 3 }
"#;

#[test]
fn a_filter_drops_what_its_plugin_drops_and_knows_its_chunks_again() {
    let dir = Dir::empty();
    dir.write("filter.toml", FILTER);
    let first = dir.heddle(&["run", "filter.toml"]);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(first.stderr.contains("of 192 records stay"), "{}", first.stderr);
    let digests = dir.digests();
    // A second cache gives the same bytes, on one thread and with an instance a batch.
    let other = Dir::empty();
    other.write("filter.toml", FILTER);
    let run =
        other.heddle(&["run", "filter.toml", "--threads", "1", "-S", "nodes.clean.isolation=\"batch\""]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(other.digests(), digests);
    // Forced, the node runs again, and no chunk does.
    let again = dir.heddle(&["run", "filter.toml", "--force", "clean"]);
    assert!(again.stderr.contains("1 of 1 chunks were known"), "{}", again.stderr);
}

#[test]
fn mistakes_in_a_plugin_node_are_found_before_anything_runs() {
    let dir = Dir::empty();
    let with = |from: &str, to: &str| {
        dir.write("filter.toml", FILTER.replace(from, to));
        let run = dir.heddle(&["check", "filter.toml"]);
        assert_eq!(run.code, Some(3), "{}", run.stderr);
        run.stderr
    };
    dir.write("text.wasm", "(module)");
    insta::assert_snapshot!(
        [
            with("min_words = 3", "min_wrods = 3"),
            with("min_words = 3", "min_words = \"3\""),
            with("caption-length", "caption-quality"),
            with("embedded:plugins/caption-length.wasm", "text.wasm"),
        ]
        .join("\n----\n")
    );
}
