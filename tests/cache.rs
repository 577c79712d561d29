//! Looking after the cache.

use std::fs;

use crate::util::{Dir, TINY, files, repository};

/// Flips one byte of an artifact: the file of the cache that holds it, found by some of its bytes.
fn damage(dir: &Dir, bytes: &[u8]) {
    let holds = |data: &[u8]| data.windows(bytes.len()).position(|window| window == bytes);
    let mut packs = files(&dir.path().join("experiments/.heddle/cache"));
    packs.retain(|path| holds(&fs::read(path).unwrap()).is_some());
    assert_eq!(packs.len(), 1, "{packs:?}");
    let mut data = fs::read(&packs[0]).unwrap();
    let at = holds(&data).unwrap();
    data[at] ^= 1;
    fs::write(&packs[0], data).unwrap();
}

#[test]
fn damage_is_found_and_made_good() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY]);
    let digests = dir.digests();
    let home = ["--home", "experiments/.heddle"];
    let whole = dir.done(&[&["cache", "verify"][..], &home].concat());
    assert!(whole.stdout.starts_with("all ") && whole.stdout.contains("as they were written"), "{whole}");

    // The features are kept as a safetensors file, whose header names their one tensor.
    damage(&dir, b"{\"__metadata__\":{\"records\":");
    let found = dir.heddle(&[&["cache", "verify"][..], &home].concat());
    assert_eq!(found.code, Some(4), "{found}");
    assert!(found.stdout.contains("1 damaged and dropped"), "{found}");
    dir.done(&[&["cache", "verify"][..], &home].concat());

    let again = dir.done(&["run", TINY]);
    assert_eq!(dir.nodes_that("ran"), ["embed"], "{again}");
    assert!(again.stderr.contains("artifact gone from the cache: features"), "{again}");
    assert_eq!(dir.digests(), digests);
}

/// Damage that nobody looked for is a miss, never a wrong result.
#[test]
fn damage_is_no_wrong_result() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY]);
    let digests = dir.digests();
    damage(&dir, b"{\"__metadata__\":{\"records\":");
    let arguments = ["run", TINY, "-S", "nodes.retrieval.splits=[\"test-id\"]"];
    let found = dir.done(&arguments);
    assert!(dir.nodes_that("ran").contains(&"embed".to_owned()), "{found}");
    dir.done(&["run", TINY]);
    assert_eq!(dir.digests(), digests);
}

#[test]
fn size_and_emptying() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "bpe"]);
    let home = ["--home", "experiments/.heddle"];
    let du = || dir.done(&[&["cache", "du", "--json"][..], &home].concat()).json();
    assert_eq!(du()["artifacts"], 2);
    assert!(du()["pack_bytes"].as_u64() >= du()["artifact_bytes"].as_u64());
    let cleared = dir.done(&[&["cache", "clear"][..], &home].concat());
    assert!(cleared.stdout.starts_with("removed 2 artifacts, "), "{cleared}");
    assert_eq!(du()["artifacts"], 0);
    assert_eq!(dir.heddle(&["plan", TINY, "bpe"]).code, Some(2));
    dir.done(&["run", TINY, "bpe"]);
    assert_eq!(dir.nodes_that("ran"), ["pairs", "bpe"]);
}

#[test]
fn no_cache_here() {
    let ended = Dir::empty().heddle(&["cache", "du"]);
    assert_eq!(ended.code, Some(1));
    insta::assert_snapshot!(ended.stderr);
}

const HOME: [&str; 2] = ["--home", "experiments/.heddle"];

/// `heddle cache ...` in the folder of the tiny experiment.
fn cache<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["cache"], arguments, &HOME].concat()
}

#[test]
fn what_nothing_names_goes_and_then_what_is_cheap() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY]);
    let nothing = dir.done(&cache(&["gc", "--dry", "--json"])).json();
    assert_eq!((&nothing["artifacts"], &nothing["garbage"]["payloads"]), (&0.into(), &0.into()));
    let left = nothing["left_bytes"].as_u64().unwrap();

    let half = (left / 2).to_string();
    let dry = dir.done(&cache(&["gc", "--max-size", &half, "--dry", "--json"])).json();
    let plain = dir.done(&cache(&["gc", "--max-size", &half, "--dry"]));
    assert!(plain.stdout.starts_with("would remove ") && plain.stdout.lines().count() > 1, "{plain}");
    dir.done(&["plan", TINY]);
    let done = dir.done(&cache(&["gc", "--max-size", &half, "--json"])).json();
    for same in ["artifacts", "rows", "bytes", "seconds", "left_bytes", "largest"] {
        assert_eq!(dry[same], done[same], "{same}");
    }
    assert!(done["left_bytes"].as_u64() <= Some(left / 2), "{done}");
    let du = dir.done(&cache(&["du", "--json"])).json();
    assert!(du["pack_bytes"].as_u64() <= Some(left / 2 + 128), "{du}");
    assert!(dir.done(&cache(&["verify"])).stdout.ends_with("as they were written\n"));
    assert_eq!(dir.heddle(&["plan", TINY]).code, Some(2));

    // What is gone is made anew, and is what it was.
    let digests = dir.digests();
    dir.done(&["run", TINY]);
    assert_eq!(dir.digests(), digests);
    let all = dir.done(&cache(&["gc", "--max-size=0"]));
    assert!(all.stdout.contains("; 0 B left"), "{all}");
    assert_eq!(dir.done(&cache(&["du", "--json"])).json()["artifacts"], 0);
}

#[test]
fn a_pinned_run_stays() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY]);
    let first = dir.digests();
    let pinned = dir.done(&cache(&["pin", "last"]));
    assert!(
        pinned.stdout.starts_with("pinned ") && pinned.stdout.contains(" of experiments/tiny.toml: "),
        "{pinned}"
    );
    dir.done(&["run", TINY, "-S", "seed=4"]);
    let all = dir.done(&cache(&["gc", "--max-size=0"]));
    assert!(all.stdout.contains("more than 0 B: all of it is pinned or in use"), "{all}");
    dir.done(&["plan", TINY]);
    assert_eq!(dir.heddle(&["plan", TINY, "-S", "seed=4"]).code, Some(2));
    let du = dir.done(&cache(&["du", "--json"])).json();
    assert_eq!((&du["pinned"][0]["file"], &du["pinned"][0]["missing"]), (&TINY.into(), &0.into()));
    assert!(dir.done(&cache(&["du"])).stdout.lines().nth(1).unwrap().starts_with("pinned "));

    let id = du["pinned"][0]["run"].as_str().unwrap();
    assert_eq!(dir.heddle(&cache(&["unpin", "2999"])).code, Some(1));
    dir.done(&cache(&["unpin", id]));
    dir.done(&cache(&["gc", "--max-size", "0 B"]));
    assert_eq!(dir.done(&cache(&["du", "--json"])).json()["artifacts"], 0);
    dir.done(&["run", TINY]);
    assert_eq!(dir.digests(), first);
}

#[test]
fn an_experiment_limits_the_cache() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "-S", "seed=4"]);
    let both = dir.done(&["run", TINY, "-S", "cache.max-size=1kB"]);
    assert!(both.stderr.contains("cache: removed ") && both.stderr.contains("pinned or in use"), "{both}");
    // What the run used is spared, and the limit is in no key.
    dir.done(&["plan", TINY]);
    assert_eq!(dir.heddle(&["plan", TINY, "-S", "seed=4"]).code, Some(2));
    let again = dir.done(&["run", TINY, "-S", "cache.max-size=1TB"]);
    assert!(again.stderr.contains("nothing to do") && !again.stderr.contains("cache: "), "{again}");
    let wrong = dir.heddle(&cache(&["gc", "--max-size", "3 apples"]));
    assert_eq!(wrong.code, Some(2));
    insta::assert_snapshot!(wrong.stderr);
}

/// The frozen experiment in a folder, with rows in its cache.
fn frozen() -> Dir {
    let dir = Dir::empty();
    let text = fs::read_to_string(repository().join("tests/experiments/frozen.toml")).unwrap();
    dir.write("frozen.toml", text.replace("../../graphs", repository().join("graphs").to_str().unwrap()));
    dir.done(&["run", "frozen.toml", "stage2", "-q"]);
    dir
}

#[test]
fn rows_are_swept_pinned_and_counted() {
    let dir = frozen();
    let rows = |json: &serde_json::Value| json["rows"].as_u64().unwrap();
    let all = dir.done(&["cache", "gc", "--max-size=0", "--dry", "--json"]).json();
    assert!(rows(&all) > 0, "{all}");
    let chunk = all["largest"].as_array().unwrap().iter().find(|gone| gone["what"] == "rows").unwrap();
    assert!(chunk["seconds"].as_f64().unwrap() > 0.0, "{chunk}");
    dir.done(&["cache", "pin", "last"]);
    let none = dir.done(&["cache", "gc", "--max-size=0", "--json"]).json();
    assert_eq!((rows(&none), none["artifacts"].as_u64()), (0, Some(0)), "{none}");
    dir.done(&["cache", "unpin", "last"]);
    assert_eq!(rows(&dir.done(&["cache", "gc", "--max-size=0", "--json"]).json()), rows(&all));
    let digests = dir.digests();
    dir.done(&["run", "frozen.toml", "stage2", "-q"]);
    assert_eq!(dir.digests(), digests);
}

#[test]
fn a_run_goes_to_another_cache() {
    let dir = frozen();
    let written = dir.done(&["cache", "export", "last", "run.tar"]);
    assert!(written.stdout.contains(" rows, "), "{written}");
    let there = dir.heddle(&["cache", "export", "last", "run.tar"]);
    assert_eq!((there.code, there.stderr.contains("is there already")), (Some(1), true), "{there}");
    let digests = dir.digests();
    let read = dir.done(&["cache", "import", "run.tar", "--home", "other"]);
    assert!(read.stdout.contains(" into other"), "{read}");
    dir.done(&["plan", "frozen.toml", "stage2", "--home", "other"]);
    let run = dir.done(&["run", "frozen.toml", "stage2", "--home", "other"]);
    assert!(run.stderr.contains("nothing to do"), "{run}");
    // Rows too: a stage that runs again finds them all.
    dir.done(&["run", "frozen.toml", "stage2", "--home", "other", "--force", "stage2", "-q"]);
    let record = dir.done(&["runs", "show", "--json", "--home", "other"]).json();
    let stage = record["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "stage2").unwrap();
    assert_eq!(stage["rows"]["vit.hidden.2"]["new"], 0, "{stage}");
    // And the same again changes nothing.
    let before = dir.done(&["cache", "du", "--json", "--home", "other"]).json();
    dir.done(&["cache", "import", "run.tar", "--home", "other"]);
    assert_eq!(
        dir.done(&["cache", "du", "--json", "--home", "other"]).json()["pack_bytes"],
        before["pack_bytes"]
    );
    assert_eq!(dir.digests(), digests);
}

/// A file that is cut, changed or made up is refused, and leaves an empty cache empty.
#[test]
fn a_damaged_export_is_refused() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "bpe"]);
    dir.done(&cache(&["export", "last", "run.tar"]));
    let whole = fs::read(dir.path().join("run.tar")).unwrap();
    let mut bad: Vec<(String, Vec<u8>)> = Vec::new();
    for i in 0..12 {
        // Behind the last payload there are only zeros, which may be cut.
        let at = whole.iter().rposition(|byte| *byte != 0).unwrap() * i / 12;
        bad.push((format!("cut at {at}"), whole[..at].to_vec()));
        let mut flipped = whole.clone();
        let at = at + whole[at..].iter().position(|byte| *byte != 0).unwrap();
        flipped[at] ^= 4;
        bad.push((format!("flipped at {at}"), flipped));
    }
    let mut longer = whole[..whole.len() - 1024].to_vec();
    longer.extend(&whole);
    bad.push(("twice".to_owned(), longer));
    let text = String::from_utf8_lossy(&whole[512..]).into_owned();
    let list = text.find("\"payloads\"").unwrap() + 512;
    let digest = list + text[list - 512..].find("\"digest\": \"").unwrap() + 11;
    let mut lies = whole.clone();
    lies[digest] = if lies[digest] == b'0' { b'1' } else { b'0' };
    bad.push(("a payload under another digest".to_owned(), lies));
    for (what, bytes) in bad {
        dir.write("bad.tar", bytes);
        let ended = dir.heddle(&["cache", "import", "bad.tar", "--home", "other"]);
        // A flip may fall on what says nothing: a field of the manifest for people, a time.
        if ended.code == Some(0) {
            assert!(what.starts_with("flipped"), "{what}: {ended}");
            dir.done(&["cache", "clear", "--home", "other"]);
            continue;
        }
        assert_eq!(ended.code, Some(1), "{what}: {ended}");
        assert!(ended.stderr.contains("nothing was imported"), "{what}: {ended}");
        let du = dir.done(&["cache", "du", "--json", "--home", "other"]).json();
        assert_eq!((&du["artifacts"], &du["entries"]), (&0.into(), &serde_json::json!({})), "{what}");
    }
}

#[test]
fn seeds_of_bundle() {
    crate::seeds::replay("bundle", crate::fuzz_bundle::check);
}

#[test]
fn help() {
    let help = Dir::empty().done(&["cache", "--help"]);
    insta::assert_snapshot!(help.stdout);
}
