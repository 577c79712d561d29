//! Every file of `invalid/`, and every folder's `main.toml`, is wrong; its snapshot is what the user reads.
//!
//! To add a case, add the file. A first line `# args: -S seed=x` gives further arguments of `heddle check`.

use std::{collections::BTreeSet, fs, panic, path::Path};

use crate::util::{Ended, heddle_in, here};

/// Files that cannot be shown with a line and a caret, because they are no text.
const NO_TEXT: [&str; 2] = ["file-binary", "file-not-utf8"];

/// Name of the case and its file within `invalid/`.
fn cases() -> Vec<(String, String)> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(here().join("invalid")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.join("main.toml").is_file() {
            cases.push((name.clone(), format!("{name}/main.toml")));
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            cases.push((name.clone(), format!("{name}.toml")));
        }
    }
    cases.sort();
    cases
}

fn check(file: &str) -> Ended {
    let folder = here().join("invalid");
    let text = String::from_utf8_lossy(&fs::read(folder.join(file)).unwrap()).into_owned();
    let given = text.lines().next().and_then(|line| line.strip_prefix("# args: ")).unwrap_or_default();
    let arguments: Vec<&str> = ["check", file].into_iter().chain(given.split_whitespace()).collect();
    heddle_in(&folder, &arguments)
}

/// A place such as `steps.toml:7:9` is named and a caret points at it.
fn has_a_place(stderr: &str) -> bool {
    let named = stderr.lines().any(|line| {
        let place = line.trim_start().strip_prefix("--> ").or(line.trim_start().strip_prefix("::: "));
        let numbers: Vec<&str> = place.unwrap_or_default().rsplit(':').take(2).collect();
        numbers.len() == 2 && numbers.iter().all(|number| number.parse::<u32>().is_ok())
    });
    named && stderr.contains('^')
}

#[test]
fn every_mistake_is_explained() {
    let cases = cases();
    assert!(cases.len() > 100, "only {} cases were found", cases.len());
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path("invalid");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        let mut wrong = Vec::new();
        for (name, file) in &cases {
            let ended = check(file);
            let right = panic::catch_unwind(|| {
                assert_eq!(ended.code, Some(3), "{name}\n{ended}");
                assert_eq!(ended.stdout, "", "{name}");
                assert!(NO_TEXT.contains(&name.as_str()) || has_a_place(&ended.stderr), "{name}\n{ended}");
                insta::assert_snapshot!(name.as_str(), &ended.stderr);
            });
            if right.is_err() {
                wrong.push(name);
            }
        }
        assert!(wrong.is_empty(), "{} cases differ: {wrong:?}", wrong.len());
    });
}

#[test]
fn every_snapshot_has_a_case() {
    let cases: BTreeSet<String> = cases().into_iter().map(|(name, _)| name).collect();
    for entry in fs::read_dir(here().join("invalid")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "snap") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            assert!(cases.contains(&name), "{name}.snap belongs to no file");
        }
    }
}

/// Independent mistakes do not hide each other, whatever stage finds them.
#[test]
fn all_mistakes_come_at_once() {
    let ended = check("several-mistakes.toml");
    for said in ["sead", "data.webdataste", "many", "pears", "los", "-4"] {
        assert!(ended.stderr.contains(said), "{said} is not named\n{ended}");
    }
}

/// `run`, `plan` and `graph` refuse the same files with the same words, before they touch anything.
#[test]
fn other_commands_say_the_same() {
    let folder = here().join("invalid");
    let expected = check("shape-image-size.toml");
    for command in ["run", "plan", "graph"] {
        let ended = heddle_in(&folder, &[command, "shape-image-size.toml"]);
        assert_eq!((ended.code, ended.stderr), (Some(3), expected.stderr.clone()), "{command}");
        assert!(!folder.join(".heddle").exists(), "{command} made a folder");
    }
}

#[test]
fn a_file_that_does_not_exist() {
    let ended = heddle_in(Path::new("/"), &["check", "nothing.toml"]);
    assert_eq!(ended.code, Some(3));
    insta::assert_snapshot!(ended.stderr);
}
