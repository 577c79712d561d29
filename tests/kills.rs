//! Kills at random moments. What was said to be finished is there afterwards, and what comes out at last is what comes out of
//! a run that nobody killed.

use std::{
    collections::BTreeSet,
    process::Child,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::util::{Dir, LAB, finish, ran_again, said_to_be_there};

/// What may follow a finished run, before it is run again: the cache loses some or all of it, to its own limit or to `gc`, or a
/// stage is made anew.
const BETWEEN: [&[&str]; 5] = [
    &["cache", "gc", "--max-size=0"],
    &["cache", "gc", "--max-size=20kB"],
    &["run", LAB, "-S", "seed=4", "-S", "cache.max-size=1kB"],
    &["run", LAB, "--force", "stage2"],
    &["run", LAB, "-S", "nodes.stage2.steps=12"],
];

/// Where the moments come from: HEDDLE_TEST_SEED, or always the same.
fn seed() -> u64 {
    std::env::var("HEDDLE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// Whether a process was killed before it ended by itself.
fn kill_after(child: &mut Child, wait: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < wait {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    true
}

fn survives(kills: usize) {
    let seed = seed();
    let whole = Dir::lab();
    let start = Instant::now();
    whole.done(&["run", LAB]);
    let longest = start.elapsed();
    let expected = whole.digests();

    let dir = Dir::lab();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut killed, mut finished, mut there) = (0, 0, BTreeSet::new());
    let mut command: &[&str] = &["run", LAB];
    while killed < kills {
        let mut child = dir.start(command);
        let was_killed = kill_after(&mut child, longest.mul_f64(random.gen_range(0.0..0.9)));
        let ended = finish(child);
        let at = format!("HEDDLE_TEST_SEED={seed}, kill {killed}, heddle {}\n{ended}", command.join(" "));
        assert!(!ended.stderr.contains("internal error"), "{at}");
        killed += usize::from(was_killed);
        if command == ["run", LAB] {
            let lost = ran_again(&ended, &there);
            assert_eq!(lost, Vec::<String>::new(), "finished, and run again: {at}");
            there.extend(said_to_be_there(&ended));
        } else {
            there.clear();
        }
        if was_killed {
            command = &["run", LAB];
            continue;
        }
        assert_eq!(ended.code, Some(0), "{at}");
        if command == ["run", LAB] {
            finished += 1;
            assert_eq!(dir.digests(), expected, "{at}");
            dir.done(&["cache", "verify"]);
            command = BETWEEN[random.gen_range(0..BETWEEN.len())];
        } else {
            command = &["run", LAB];
        }
    }
    dir.done(&["run", LAB]);
    assert_eq!(dir.digests(), expected, "HEDDLE_TEST_SEED={seed}");
    dir.done(&["cache", "verify"]);
    dir.done(&["run", LAB]);
    assert_eq!(dir.nodes_that("hit").len(), dir.states().len(), "HEDDLE_TEST_SEED={seed}");
    // Nothing that a kill left behind stays for good.
    dir.done(&["cache", "gc", "--max-size=0"]);
    assert_eq!(dir.done(&["cache", "du", "--json"]).json()["artifacts"], 0);
    assert!(kills < 50 || finished > kills / 20, "{finished} runs came to their end between {kills} kills");
}

#[test]
fn a_few_kills() {
    survives(12);
}

#[test]
#[ignore = "two minutes; .ci/run runs it"]
fn two_hundred_kills() {
    survives(200);
}
