//! A child process (this binary again) writes in a loop and says what was acknowledged; it is killed, and all that
//! it said must be there.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use heddle_cache::Digest;

use crate::util::{noise, open, temp};

const DIR: &str = "HEDDLE_CACHE_TEST_DIR";
const SEED: &str = "HEDDLE_CACHE_TEST_SEED";

#[test]
fn everything_acknowledged_survives_a_kill() {
    let dir = temp();
    let mut acknowledged = Vec::new();
    for round in 0..10 {
        let mut child = spawn(dir.path(), "kill::child", round);
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut acks = output.lines().map_while(Result::ok).filter_map(|line| read_ack(&line));
        acknowledged.extend(acks.by_ref().take(1 + round as usize * 5));
        child.kill().expect("still running");
        acknowledged.extend(acks.map(|ack| (round, ack).1));
        child.wait().expect("killed");
        let cache = open(dir.path());
        for (seed, step) in &acknowledged {
            check(&cache, *seed, *step);
        }
        assert!(cache.verify(&mut |_, _| ()).expect("readable").is_empty());
    }
    assert!(acknowledged.len() > 100, "only {} writes", acknowledged.len());
}

/// Compaction in a loop: the small payloads go, the large ones stay.
#[test]
fn a_kill_while_compacting_loses_nothing_that_is_kept() {
    let dir = temp();
    let mut acknowledged = Vec::new();
    for round in 0..8 {
        let mut child = spawn(dir.path(), "kill::compacting_child", round);
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut acks = output.lines().map_while(Result::ok).filter_map(|line| read_ack(&line));
        acknowledged.extend(acks.by_ref().take(6 + round as usize * 3));
        child.kill().expect("still running");
        acknowledged.extend(acks);
        child.wait().expect("killed");
        let cache = open(dir.path());
        for (seed, step) in &acknowledged {
            let [large, _] = payloads(*seed, *step);
            let payload = cache.get(&Digest::of(&large)).expect("readable");
            assert_eq!(*payload.unwrap_or_else(|| panic!("lost {seed} {step}")), *large);
        }
        assert!(cache.verify(&mut |_, _| ()).expect("readable").is_empty());
    }
    assert!(acknowledged.len() > 80, "only {} writes", acknowledged.len());
}

fn spawn(dir: &Path, child: &str, seed: u64) -> Child {
    let mut command = Command::new(env::current_exe().expect("a test binary"));
    command.args(["--exact", child, "--ignored", "--nocapture"]);
    command.env(DIR, dir).env(SEED, seed.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("can run itself")
}

/// `ack SEED STEP`, behind whatever the test harness wrote on that line.
fn read_ack(line: &str) -> Option<(u64, u64)> {
    let (_, ack) = line.split_once("ack ")?;
    let (seed, step) = ack.strip_suffix('.')?.split_once(' ')?;
    Some((seed.parse().ok()?, step.parse().ok()?))
}

fn payloads(seed: u64, step: u64) -> [Vec<u8>; 2] {
    let len = (step as usize * 7919) % 100_000;
    [noise(seed << 32 | step, len), noise(!(seed << 32 | step), 100)]
}

fn check(cache: &heddle_cache::Cache, seed: u64, step: u64) {
    for bytes in payloads(seed, step) {
        let payload = cache.get(&Digest::of(&bytes)).expect("readable");
        assert_eq!(*payload.unwrap_or_else(|| panic!("lost {seed} {step}")), *bytes);
    }
    if step.is_multiple_of(3) {
        let value = cache.value("latest", &seed.to_le_bytes()).expect("readable").expect("set");
        let latest = u64::from_le_bytes(value.try_into().expect("eight bytes"));
        assert!(latest >= step, "{latest} < {step}");
    }
}

#[test]
#[ignore = "the child process of the test above"]
fn child() {
    let Ok(dir) = env::var(DIR) else { return };
    let seed = env::var(SEED).expect("set with the folder").parse().expect("a number");
    let cache = open(Path::new(&dir));
    for step in 0.. {
        let [large, small] = payloads(seed, step);
        cache.put_many(&[&large, &small]).expect("stored");
        if step % 3 == 0 {
            cache.set("latest", &seed.to_le_bytes(), &u64::to_le_bytes(step)).expect("set");
        }
        let mut stdout = io::stdout();
        if writeln!(stdout, "ack {seed} {step}.").and_then(|()| stdout.flush()).is_err() {
            return;
        }
    }
}

#[test]
#[ignore = "the child process of the test of compaction"]
fn compacting_child() {
    let Ok(dir) = env::var(DIR) else { return };
    let seed = env::var(SEED).expect("set with the folder").parse().expect("a number");
    let cache = open(Path::new(&dir));
    for step in 0.. {
        let [large, small] = payloads(seed, step);
        cache.put_many(&[&large, &small]).expect("stored");
        let stored = cache.payloads().expect("readable").into_iter();
        let keep = stored.filter(|(_, len)| *len != 100).map(|(digest, _)| digest).collect();
        cache.retain(&keep).expect("retained");
        let mut stdout = io::stdout();
        if writeln!(stdout, "ack {seed} {step}.").and_then(|()| stdout.flush()).is_err() {
            return;
        }
    }
}
