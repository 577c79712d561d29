//! Looking back.

use crate::util::{Dir, TINY, filtered};

#[test]
fn list_and_show() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "bpe"]);
    dir.done(&["run", TINY, "bpe", "-S", "seed=9"]);
    let list = dir.done(&["runs", "ls", "--json"]).json();
    let seeds: Vec<u64> = list.as_array().unwrap().iter().map(|run| run["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds, [3, 9], "runs are listed in the order of time, within a second too");
    assert_eq!(dir.done(&["runs", "ls"]).stdout.lines().count(), 3);
    let id = list[0]["id"].as_str().unwrap();
    assert_eq!(dir.done(&["runs", "show", id, "--json"]).json()["id"], id);
    let record = dir.last_run();
    assert_eq!((&record["state"], &record["seed"]), (&"done".into(), &9.into()));
    assert_eq!(record["config"]["params"]["steps"], 4);
}

#[test]
fn page_of_a_run() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "bpe"]);
    let text = dir.done(&["runs", "show"]).stdout;
    // The second line names the processor, and the width of columns follows times: both differ between machines.
    let lines = text.lines().enumerate().filter(|(place, _)| *place != 1);
    let words = lines.map(|(_, line)| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let text = words.collect::<Vec<_>>().join("\n");
    filtered(|| insta::assert_snapshot!(text));
}

#[test]
fn what_is_not_there() {
    let dir = Dir::tiny();
    let none = dir.heddle(&["runs", "show"]);
    assert_eq!((none.code, none.stderr.as_str()), (Some(1), "error: there are no runs yet\n"));
    dir.done(&["run", TINY, "pairs"]);
    let other = dir.heddle(&["runs", "show", "1999"]);
    assert_eq!(other.code, Some(1));
    insta::assert_snapshot!(other.stderr, @"error: there is no run `1999`; `heddle runs ls` lists them");
}
