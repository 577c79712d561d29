//! A flipped byte and a lost end in every file that heddle keeps: never a wrong result, never a bug's message, always one that
//! says what to do.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::util::{Dir, Ended, LAB, ended, files, program};

/// A stage that is stopped on its way, so that a checkpoint lies in the cache.
const STOPPED: [&str; 6] = ["run", LAB, "stage2", "-S", "nodes.stage2.steps=4000", "-q"];

/// A folder with everything that heddle leaves: a run, a set of variants, a pin, a checkpoint, the name of a holder that was killed, an
/// exported run, compiled plugins.
struct Kept {
    dir: Dir,
    expected: Vec<(String, String)>,
}

impl Kept {
    fn new() -> Self {
        let dir = Dir::lab();
        heddle_done(dir.path(), &["run", LAB, "-q"]);
        let expected = digests(dir.path());
        heddle_done(dir.path(), &["run", LAB, "--ablation", "longer", "-q"]);
        heddle_done(dir.path(), &["cache", "pin", "last"]);
        heddle_done(dir.path(), &["cache", "export", "last", "run.tar"]);
        let holder = dir.path().join(".heddle/cache/holder.json");
        let killed = [300, 1_000, 3_000, 10_000].into_iter().find_map(|wait_ms| {
            let mut child = command(dir.path(), &STOPPED).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(wait_ms));
            child.kill().unwrap();
            child.wait().unwrap();
            let holder = fs::read(&holder).ok();
            let would = heddle_done(dir.path(), &["cache", "gc", "--max-size=0", "--dry"]);
            holder.filter(|_| would.stdout.contains(" 1 checkpoints"))
        });
        heddle_done(dir.path(), &["run", LAB, "-q"]);
        fs::write(&holder, killed.unwrap()).unwrap();
        Self { dir, expected }
    }

    /// Every file that heddle reads again, from the folder on. Artifacts as files are for people: of each sort one.
    fn files(&self) -> Vec<PathBuf> {
        let mut extensions = Vec::new();
        let all = [".heddle", "plugins", "run.tar"].map(|name| self.dir.path().join(name));
        let all = all.iter().flat_map(|path| if path.is_dir() { files(path) } else { vec![path.clone()] });
        let all = all.filter(|path| path.metadata().unwrap().len() > 0);
        let all = all.filter(|path| {
            let copy = path.parent().unwrap().ends_with("artifacts");
            let extension = path.extension().map(ToOwned::to_owned);
            let new = !extensions.contains(&extension);
            if copy && new {
                extensions.push(extension);
            }
            !copy || new
        });
        all.map(|path| path.strip_prefix(self.dir.path()).unwrap().to_owned()).collect()
    }

    /// A copy in which one file is damaged.
    fn damaged(&self, file: &Path, damage: &Damage) -> Dir {
        let dir = Dir::empty();
        let copied = Command::new("cp").arg("-a").arg(self.dir.path().join(".")).arg(dir.path()).status();
        assert!(copied.unwrap().success());
        let path = dir.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        match *damage {
            Damage::Flip(at, bit) => {
                let at = ((bytes.len() - 1) as f64 * at) as usize;
                bytes[at] ^= 1 << bit;
            }
            Damage::Cut(at) => bytes.truncate((bytes.len() as f64 * at) as usize),
        }
        fs::write(path, bytes).unwrap();
        dir
    }

    /// What a damaged file must not change.
    fn survives(&self, file: &Path, damage: &Damage) {
        let dir = self.damaged(file, damage);
        let at = format!("{damage:?} in {}", file.display());
        let run = |arguments: &[&str]| {
            let ended = heddle(dir.path(), arguments);
            assert!(
                !ended.stderr.contains("internal error") && !ended.stderr.contains("panicked"),
                "{at}\n{ended}"
            );
            ended
        };
        // Looking back: what is there, or what to do.
        for looks in [
            &["runs", "ls"][..],
            &["runs", "show"],
            &["runs", "show", "--json"],
            &["plan", LAB],
            &["cache", "du"],
        ] {
            let seen = run(looks);
            assert!(seen.code.is_some_and(|code| code != 1) || says_what_to_do(&seen), "{at}\n{seen}");
        }
        let replay = run(&["replay", "last"]);
        assert!(replay.code == Some(0) || says_what_to_do(&replay), "{at}\n{replay}");
        let retry = run(&["run", LAB, "--retry", "failed", "-q"]);
        assert!(retry.code == Some(0) || says_what_to_do(&retry), "{at}\n{retry}");
        // Computing: it ends, in the same bytes.
        let again = run(&["run", LAB, "-q"]);
        assert_eq!(again.code, Some(0), "{at}\n{again}");
        assert_eq!(digests(dir.path()), self.expected, "{at}");
        let on = run(&["run", LAB, "stage2", "-q", "-S", "nodes.stage2.steps=10"]);
        assert_eq!(on.code, Some(0), "{at}\n{on}");
        let whole = run(&["cache", "verify"]);
        // What nothing has read since is found here.
        assert!(matches!(whole.code, Some(0 | 4)), "{at}\n{whole}");
        assert_eq!(run(&["cache", "verify"]).code, Some(0), "{at}");
        assert_eq!(run(&["cache", "gc"]).code, Some(0), "{at}");
        let import = run(&["cache", "import", "run.tar", "--home", "other"]);
        assert!(import.code == Some(0) || import.stderr.contains("nothing was imported"), "{at}\n{import}");
        if import.code == Some(0) {
            let there = run(&["run", LAB, "-q", "--home", "other"]);
            assert_eq!(there.code, Some(0), "{at}\n{there}");
            assert_eq!(dir.digests_of("other"), self.expected, "{at}");
        }
    }
}

#[derive(Debug)]
enum Damage {
    /// A bit of the byte at this share of the file.
    Flip(f64, u8),
    /// This share of the file is left.
    Cut(f64),
}

/// An error that a user can act on.
fn says_what_to_do(ended: &Ended) -> bool {
    let advice =
        ["run again", "run the experiment again", "--recompute", "remove its folder", "`--all` run some"];
    ended.code == Some(1) && advice.iter().any(|said| ended.stderr.contains(said))
}

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = program(dir, arguments);
    command.env("HEDDLE_PLUGIN_CACHE", dir.join("plugins"));
    command
}

fn heddle(dir: &Path, arguments: &[&str]) -> Ended {
    ended(command(dir, arguments).output().unwrap())
}

fn heddle_done(dir: &Path, arguments: &[&str]) -> Ended {
    let ended = heddle(dir, arguments);
    assert_eq!(ended.code, Some(0), "heddle {}\n{ended}", arguments.join(" "));
    ended
}

/// The digests of the newest run.
fn digests(dir: &Path) -> Vec<(String, String)> {
    crate::util::digests(&heddle_done(dir, &["runs", "show", "--json"]).json())
}

/// One file in `every`, each at `places` places and cut once.
fn walk(every: usize, places: usize) {
    let kept = Kept::new();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let all = kept.files();
    for name in ["000000.pack", "db", "conf", "holder.json", "record.json", "group.json", "run.tar", "arrow"]
    {
        assert!(
            all.iter().any(|file| file.display().to_string().ends_with(name)),
            "{name} is not among {all:?}"
        );
    }
    assert!(all.iter().any(|file| file.extension().is_some_and(|extension| extension == "cwasm")), "{all:?}");
    let mut cases = 0;
    for (number, file) in all.iter().enumerate() {
        let mut damages: Vec<Damage> = (0..places)
            .map(|place| {
                Damage::Flip(
                    (place as f64 + random.gen_range(0.0..1.0)) / places as f64,
                    random.gen_range(0..8),
                )
            })
            .collect();
        damages.push(Damage::Cut(random.gen_range(0.0..1.0)));
        damages.push(Damage::Cut(0.0));
        for (place, damage) in damages.iter().enumerate() {
            if (number + place) % every == 0 {
                kept.survives(file, damage);
                cases += 1;
            }
        }
    }
    assert!(cases >= 5, "{cases} cases");
}

#[test]
fn damage_here_and_there() {
    walk(13, 2);
}

#[test]
#[ignore = "two minutes; .ci/run runs it"]
fn damage_in_every_file() {
    walk(2, 2);
}
