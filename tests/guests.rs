//! Plugins in all languages as their authors meet them: `plugin new`, `build`, `bench`.
//!
//! What needs a language's own tool is ignored here; `scripts/guests-check.sh` runs it where the tool is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value as Json;

use crate::util::{Dir, Ended, program, repository};

const LANGUAGES: [&str; 4] = ["rust", "c", "python", "js"];

/// The files below a folder, as paths relative to it.
fn files_in(folder: &Path) -> BTreeSet<String> {
    files_below(folder, "").into_iter().collect()
}

fn files_below(root: &Path, below: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let name = if below.is_empty() { name } else { format!("{below}/{name}") };
        if root.join(&name).is_dir() { files.extend(files_below(root, &name)) } else { files.push(name) }
    }
    files
}

/// Every file of the template is written, with the plugin's name; so is what lies beside it in the repository.
#[test]
fn new_writes_what_the_templates_hold() {
    let plugins = repository().join("plugins");
    for language in LANGUAGES {
        let dir = Dir::empty();
        dir.done(&["plugin", "new", "short-captions", "--language", language]);
        let written = dir.path().join("short-captions");
        let template = plugins.join("templates").join(language);
        let mut expected: BTreeSet<String> = BTreeSet::new();
        for file in files_in(&template) {
            let name = if file == "gitignore" { ".gitignore".to_owned() } else { file.clone() };
            let source = fs::read(template.join(&file)).unwrap();
            let given = fs::read(written.join(&name)).unwrap();
            match String::from_utf8(source) {
                Ok(text) => assert_eq!(
                    String::from_utf8(given).unwrap(),
                    text.replace("my-filter", "short-captions"),
                    "{language}/{name}"
                ),
                Err(error) => assert_eq!(given, error.into_bytes(), "{language}/{name}"),
            }
            expected.insert(name);
        }
        let beside = match language {
            "rust" => files_below(&plugins, "sdk").into_iter().map(|file| (file.clone(), file)).collect(),
            _ => Vec::new(),
        };
        let wit = if language == "rust" { "wit/0.1/plugin.wit" } else { "wit/plugin.wit" };
        for (source, name) in beside.into_iter().chain([("wit/0.1/plugin.wit".to_owned(), wit.to_owned())]) {
            assert_eq!(
                fs::read(plugins.join(source)).unwrap(),
                fs::read(written.join(&name)).unwrap(),
                "{name}"
            );
            expected.insert(name);
        }
        assert_eq!(files_in(&written), expected, "{language}");
    }
}

/// One rule, whatever it is written in.
#[test]
fn templates_have_the_same_cases() {
    let cases = |language: &str| {
        let folder = repository().join("plugins/templates").join(language);
        fs::read_to_string(folder.join("cases.jsonl")).unwrap()
    };
    for language in LANGUAGES {
        assert_eq!(cases(language), cases("rust"), "{language}");
    }
}

/// The template for Rust takes the versions that the examples take.
#[test]
fn the_rust_template_has_the_dependencies_of_the_examples() {
    let read = |path: &str| -> toml::Table {
        toml::from_str(&fs::read_to_string(repository().join("plugins").join(path)).unwrap()).unwrap()
    };
    let (template, examples) = (read("templates/rust/Cargo.toml"), read("Cargo.toml"));
    assert_eq!(template["workspace"]["dependencies"], examples["workspace"]["dependencies"]);
    assert_eq!(template["profile"], examples["profile"]);
}

#[test]
fn new_overwrites_nothing_and_wants_a_name() {
    let dir = Dir::empty();
    dir.write("mine/plugin.c", "int mine;\n");
    let there = dir.heddle(&["plugin", "new", "mine", "--language", "c"]);
    assert_eq!(there.code, Some(1), "{there}");
    assert_eq!(dir.read("mine/plugin.c"), "int mine;\n");
    assert_eq!(files_in(&dir.path().join("mine")).len(), 1, "something was written");
    let unnamed = dir.heddle(&["plugin", "new", "My_Filter", "--language", "c"]);
    assert_eq!(unnamed.code, Some(1), "{unnamed}");
    assert!(!dir.path().join("My_Filter").exists());
    insta::assert_snapshot!([there.stderr, unnamed.stderr].join("\n----\n"));
    // A folder with other files in it is no obstacle.
    dir.write("notes/ideas.txt", "");
    dir.done(&["plugin", "new", "notes", "--language", "js"]);
}

/// What is missing is named, with what installs it.
#[test]
fn build_says_which_tool_is_missing() {
    let dir = Dir::empty();
    let mut said = Vec::new();
    for language in LANGUAGES {
        dir.done(&["plugin", "new", &format!("p-{language}"), "--language", language]);
        let mut command = program(dir.path(), &["plugin", "build", &format!("p-{language}")]);
        let output = command.env("PATH", "").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        said.push(String::from_utf8(output.stderr).unwrap());
    }
    insta::assert_snapshot!(said.concat());
}

#[test]
fn build_knows_a_language_by_its_file() {
    let dir = Dir::empty();
    dir.write("none/readme.txt", "");
    dir.write("two/plugin.c", "");
    dir.write("two/package.json", "{}");
    dir.write("broken/package.json", "{");
    let of = |name: &str| {
        let ended = dir.heddle(&["plugin", "build", name]);
        assert_eq!(ended.code, Some(1), "{ended}");
        ended.stderr
    };
    insta::assert_snapshot!([of("none"), of("two"), of("broken")].concat());
}

/// What a tool says when it fails is shown, and nothing is written.
#[test]
fn build_shows_what_a_failing_tool_says() {
    let dir = Dir::empty();
    dir.done(&["plugin", "new", "p", "--language", "python"]);
    dir.write("p/.venv/bin/componentize-py", "#!/bin/sh\necho 'SyntaxError: line 7' >&2\nexit 4\n");
    executable(&dir.path().join("p/.venv/bin/componentize-py"));
    let ended = dir.heddle(&["plugin", "build", "p"]);
    assert_eq!(ended.code, Some(1), "{ended}");
    assert!(ended.stderr.contains("failed (exit status: 4):\nSyntaxError: line 7"), "{ended}");
    assert!(!dir.path().join("p/p.wasm").exists());
}

/// A tool that ends well and makes something else than a plugin has not built one.
#[test]
fn build_looks_at_what_was_made() {
    let dir = Dir::empty();
    dir.done(&["plugin", "new", "p", "--language", "python"]);
    let tool = "p/.venv/bin/componentize-py";
    // The last argument is the output.
    dir.write(tool, "#!/bin/sh\nfor out; do :; done\nprintf '\\0asm\\1\\0\\0\\0' > \"$out\"\n");
    executable(&dir.path().join(tool));
    let ended = dir.heddle(&["plugin", "build", "p"]);
    assert_eq!(ended.code, Some(1), "{ended}");
    assert!(ended.stderr.contains("a core module without a component-type section"), "{ended}");
    // What the same tool makes with a plugin in its hand is written under the plugin's name.
    let prebuilt = repository().join("plugins/prebuilt/caption-rule.wasm").canonicalize().unwrap();
    dir.write(tool, format!("#!/bin/sh\nfor out; do :; done\ncat '{}' > \"$out\"\n", prebuilt.display()));
    executable(&dir.path().join(tool));
    dir.done(&["plugin", "build", "p"]);
    dir.done(&["plugin", "test", "p/caption-rule.wasm", "p/cases.jsonl"]);
    dir.done(&["plugin", "build", "p", "-o", "elsewhere/x.wasm"]);
    assert_eq!(
        fs::read(dir.path().join("p/caption-rule.wasm")).unwrap(),
        fs::read(dir.path().join("elsewhere/x.wasm")).unwrap()
    );
}

fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn sane(report: &Json, records: u64) {
    assert_eq!(report["records"], records, "{report}");
    for number in
        ["bytes", "cold_start_s", "warm_start_ms", "columns_ns", "call_ns", "records_per_s", "instance_bytes"]
    {
        assert!(report[number].as_f64().is_some_and(|number| number > 0.0), "{number} in {report}");
    }
}

#[test]
fn bench_measures_every_kind_of_plugin() {
    let dir = Dir::empty();
    for (name, config) in [
        ("caption-rule", r#"{"min_words": 3, "languages": ["en"]}"#),
        ("image-shape", "{}"),
        ("normalise-captions", "{}"),
        ("caption-quality", "{}"),
        ("caption-statistics", "{}"),
        ("phash-duplicates", "{}"),
    ] {
        let file = format!("embedded:plugins/{name}.wasm");
        let words =
            ["plugin", "bench", &file, "--records", "300", "--batch", "128", "--config", config, "--json"];
        let report = dir.done(&words).json();
        assert_eq!(report["plugin"], name, "{report}");
        sane(&report, 300);
        for number in ["all_threads_ns", "isolation_ratio"] {
            assert!(report[number].as_f64().is_some_and(|number| number > 0.0), "{number} in {report}");
        }
    }
}

#[test]
fn bench_refuses_a_config_as_a_node_does() {
    let dir = Dir::empty();
    let of = |config: &str| {
        let ended =
            dir.heddle(&["plugin", "bench", "embedded:plugins/caption-rule.wasm", "--config", config]);
        assert_eq!(ended.code, Some(1), "{ended}");
        ended.stderr
    };
    insta::assert_snapshot!([of("{"), of(r#"{"min_wrods": 2}"#), of(r#"{"min_words": 0}"#)].concat());
}

/// The program with what language tools want of the environment.
fn with_tools(dir: &Path, arguments: &[&str]) -> Ended {
    let mut command = program(dir, arguments);
    for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CC"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // Those of this test's own build would be heddle's.
    for (given, name) in [("GUESTS_TARGET_DIR", "CARGO_TARGET_DIR"), ("GUESTS_RUSTFLAGS", "RUSTFLAGS")] {
        if let Some(value) = std::env::var_os(given) {
            command.env(name, value);
        }
    }
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// New, build, check, test, bench, and a line for the script; gives the folder and where the plugin lies in it.
#[expect(
    clippy::print_stdout,
    reason = "with `--nocapture`, which is how the script calls, the result is seen"
)]
fn from_new_to_bench(language: &str) -> (Dir, String) {
    let dir = Dir::empty();
    let name = format!("tried-{language}");
    dir.done(&["plugin", "new", &name, "--language", language]);
    let built = with_tools(dir.path(), &["plugin", "build", &name]);
    assert_eq!(built.code, Some(0), "{built}");
    let file = format!("{name}/{name}.wasm");
    let check = dir.done(&["plugin", "check", &file]);
    assert!(check.stdout.starts_with(&format!("{name} 0.1.0, a filter plugin\n")), "{check}");
    assert!(!check.stdout.contains("wasi:"), "{check}");
    passes_cases(&dir, &["plugin", "test", &file, &format!("{name}/cases.jsonl")]);
    let report = dir.done(&["plugin", "bench", &file, "--records", "2000", "--json"]);
    sane(&report.json(), 2000);
    println!("{language}: {} bytes, {}", report.json()["bytes"], built.stdout.trim());
    (dir, name)
}

fn passes_cases(dir: &Dir, words: &[&str]) {
    let test = dir.done(words);
    assert_eq!(test.stdout, "24 right, 0 wrong\n", "{test}");
}

#[test]
#[ignore = "builds for WebAssembly; scripts/guests-check.sh runs it"]
fn rust_from_new_to_bench() {
    from_new_to_bench("rust");
}

#[test]
#[ignore = "needs clang and wasi-libc; scripts/guests-check.sh runs it"]
fn c_from_new_to_bench() {
    let (dir, name) = from_new_to_bench("c");
    // A guest that does not free its batches loses 100 bytes and more for every record: 10 MB a round.
    let file = format!("{name}/{name}.wasm");
    let report = dir.done(&["plugin", "bench", &file, "--records", "100000", "--json"]).json();
    assert!(report["instance_bytes"].as_u64().unwrap() < 4 << 20, "{report}");
}

#[test]
#[ignore = "needs componentize-py; scripts/guests-check.sh runs it"]
fn python_from_new_to_bench() {
    let (dir, name) = from_new_to_bench("python");
    // With WASI left in, it is refused, and runs on the host's stubs.
    let folder = dir.path().join(&name);
    let words = ["-q", "-d", "wit", "-w", "filter-plugin", "componentize", "app", "-o", "wasi.wasm"];
    done_in(&folder, "componentize-py", &words);
    runs_on_stubs(&dir, &name);
    // An exception is told with its place.
    dir.edit(
        &format!("{name}/app.py"),
        "return bytes(map(",
        "raise ValueError(\"odd\")\n        return bytes(map(",
    );
    assert_eq!(with_tools(dir.path(), &["plugin", "build", &name]).code, Some(0));
    let ended =
        dir.heddle(&["plugin", "test", &format!("{name}/{name}.wasm"), &format!("{name}/cases.jsonl")]);
    assert!(
        ended.stderr.contains("it failed: ValueError: odd") && ended.stderr.contains("app.py:"),
        "{ended}"
    );
}

#[test]
#[ignore = "needs jco; scripts/guests-check.sh runs it"]
fn js_from_new_to_bench() {
    let (dir, name) = from_new_to_bench("js");
    let folder = dir.path().join(&name);
    let words = ["componentize", "plugin.js", "--wit", "wit", "--world-name", "filter-plugin", "--backend"];
    let more = ["quickjs", "--backend-qjs-disable-async", "--out", "wasi.wasm"];
    done_in(&folder, "jco", &[&words[..], &more].concat());
    runs_on_stubs(&dir, &name);
    dir.edit(&format!("{name}/plugin.js"), "return verdicts;", "throw new TypeError(\"odd\");");
    assert_eq!(with_tools(dir.path(), &["plugin", "build", &name]).code, Some(0));
    let ended =
        dir.heddle(&["plugin", "test", &format!("{name}/{name}.wasm"), &format!("{name}/cases.jsonl")]);
    assert!(
        ended.stderr.contains("it failed: TypeError: odd") && ended.stderr.contains("plugin.js"),
        "{ended}"
    );
}

fn done_in(folder: &Path, tool: &str, words: &[&str]) {
    let output = Command::new(tool).args(words).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A component that imports WASI needs `--stub-wasi`, and then does the same.
fn runs_on_stubs(dir: &Dir, name: &str) {
    let file: PathBuf = Path::new(name).join("wasi.wasm");
    let (file, cases) = (file.to_str().unwrap(), format!("{name}/cases.jsonl"));
    let refused = dir.heddle(&["plugin", "check", file]);
    assert!(refused.stderr.contains("it imports `wasi:"), "{refused}");
    passes_cases(dir, &["plugin", "test", file, &cases, "--stub-wasi"]);
}
