//! Disks that are full or may not be written: what is said, and that nothing is lost by it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::util::{Dir, Ended, LAB, TINY, ended, files, program, ran_again, said_to_be_there};

/// Room for whatever the tests write.
const ROOM: u64 = 256 << 20;

/// A file system of its own in memory; it goes away with the test.
struct Disk(PathBuf);

impl Disk {
    /// None where this user may not mount one; the test is then left out, and says so.
    fn mount(dir: &Dir, name: &str, bytes: u64) -> Option<Self> {
        let path = dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        let mounted = Self::call("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"], &path);
        if !mounted {
            writeln(&format!("LEFT OUT: {} cannot be mounted by this user", path.display()));
        }
        mounted.then_some(Self(path))
    }

    fn call(program: &str, arguments: &[&str], path: &Path) -> bool {
        let output = Command::new(program).args(arguments).arg(path).output();
        output.is_ok_and(|output| output.status.success())
    }

    fn remount(&self, options: &str) {
        assert!(Self::call("mount", &["-o", &format!("remount,{options}")], &self.0), "{options}");
    }

    fn used(&self) -> u64 {
        files(&self.0).iter().map(|file| file.metadata().unwrap().len().next_multiple_of(4096)).sum()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Self::call("umount", &["-l"], &self.0);
    }
}

#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn writeln(text: &str) {
    eprintln!("{text}");
}

/// The program where no file may be longer than so many bytes, which needs no right of anybody.
fn limited(dir: &Dir, bytes: u64, arguments: &[&str]) -> Ended {
    let heddle = program(dir.path(), arguments);
    let mut shell = Command::new("sh");
    // `ulimit -f` counts blocks of 512 bytes; without the trap the signal would end the program.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512);
    shell.arg("-c").arg(script).arg(heddle.get_program()).args(heddle.get_args()).current_dir(dir.path());
    shell.env_clear().envs(heddle.get_envs().filter_map(|(name, value)| Some((name, value?))));
    ended(shell.output().unwrap())
}

/// A failure of the system that says what, where and what to do, and is no bug.
fn told(ended: &Ended, place: &str, reason: &str, advice: &str) {
    assert_eq!(ended.code, Some(1), "{ended}");
    let line = ended.stderr.lines().find(|line| {
        line.starts_with("error: ") && [place, reason, advice].iter().all(|said| line.contains(said))
    });
    assert!(line.is_some(), "no line says `{place}`, `{reason}` and `{advice}`\n{ended}");
    assert!(!ended.stderr.contains("internal error"), "{ended}");
}

/// Runs the lab on disks of these shares of what it takes; once there is room, the next run goes on and ends as it would have.
fn fills_up(shares: &[f64]) {
    let dir = Dir::lab();
    let run = ["run", LAB, "--home", "disk/home"];
    let Some(disk) = Disk::mount(&dir, "disk", ROOM) else { return };
    dir.done(&run);
    let expected = dir.digests_of("disk/home");
    let takes = disk.used();
    drop(disk);
    let mut full = 0;
    for share in shares {
        let disk = Disk::mount(&dir, "disk", (takes as f64 * share) as u64).unwrap();
        let first = dir.heddle(&run);
        if first.code != Some(0) {
            told(&first, "disk/home", "No space left on device", "free space there");
            full += 1;
        }
        disk.remount(&format!("size={ROOM}"));
        let second = dir.done(&run);
        assert_eq!(
            ran_again(&second, &said_to_be_there(&first)),
            Vec::<String>::new(),
            "{share}\n{first}\n{second}"
        );
        assert_eq!(dir.digests_of("disk/home"), expected, "{share}");
        dir.done(&["cache", "verify", "--home", "disk/home"]);
        dir.done(&run);
    }
    assert!(full * 2 > shares.len(), "{full} of {} disks were full", shares.len());
}

#[test]
fn a_full_disk_costs_no_result() {
    fills_up(&[0.05, 0.3, 0.6, 0.9]);
}

#[test]
#[ignore = "half a minute; .ci/run runs it"]
fn a_disk_that_fills_up_anywhere() {
    fills_up(&(1..=24).map(|part| f64::from(part) / 25.0).collect::<Vec<_>>());
}

/// What makes room works where there is none.
#[test]
fn a_full_disk_can_be_emptied() {
    let dir = Dir::lab();
    let Some(disk) = Disk::mount(&dir, "disk", ROOM) else { return };
    let home = ["--home", "disk/home"];
    dir.done(&[&["run", LAB, "-q"][..], &home].concat());
    let expected = dir.digests_of("disk/home");
    dir.done(&[&["run", LAB, "-q", "-S", "seed=4"][..], &home].concat());
    disk.remount(&format!("size={}", disk.used()));
    let fill = dir.heddle(&[&["run", LAB, "-q", "-S", "seed=5"][..], &home].concat());
    told(&fill, "disk/home", "No space left on device", "free space there");
    let emptied = dir.done(&[&["cache", "gc", "--max-size=0"][..], &home].concat());
    assert!(emptied.stdout.contains("; 0 B left"), "{emptied}");
    dir.done(&[&["run", LAB, "-q"][..], &home].concat());
    assert_eq!(dir.digests_of("disk/home"), expected);
}

/// Files that may not grow, in place of disks: the same for who may mount nothing.
#[test]
fn a_limit_on_files_costs_no_result() {
    let dir = Dir::tiny();
    let whole = Dir::tiny();
    whole.done(&["run", TINY, "-q"]);
    let longest = files(&whole.path().join("experiments/.heddle"))
        .iter()
        .map(|file| file.metadata().unwrap().len())
        .max();
    let mut failed = 0;
    for share in [0.001, 0.05, 0.3, 0.8] {
        let first = limited(&dir, (longest.unwrap() as f64 * share) as u64, &["run", TINY]);
        if first.code != Some(0) {
            told(&first, "experiments/.heddle", "File too large", "ulimit -f");
            failed += 1;
        }
    }
    assert!(failed > 1, "{failed} runs met the limit");
    dir.done(&["run", TINY]);
    assert_eq!(dir.digests(), whole.digests());
    dir.done(&["cache", "verify"]);
}

/// What a remote has and the disk does not take is no failure of the remote.
#[test]
fn what_is_fetched_may_find_no_room() {
    let dir = Dir::empty();
    fs::create_dir(dir.path().join("shared")).unwrap();
    dir.write(
        "scenes.toml",
        "schema = 1\n[nodes.pairs]\nkind = \"data.webdataset\"\n[nodes.scenes]\nkind = \"data.scenes\"\nin = \"pairs\"\n\
         count = 300\nimage = { size = 96 }\n",
    );
    let remote = format!("file://{}", dir.path().join("shared").display());
    let run = ["run", "scenes.toml", "--remote", &remote, "--home"];
    dir.done(&[&run[..], &["a"]].concat());
    let ended = limited(&dir, 3 << 19, &[&run[..], &["b"]].concat());
    told(&ended, "b/cache", "File too large", "ulimit -f");
    assert!(ended.stderr.contains("what the remote has could not be kept here"), "{ended}");
    assert!(!ended.stderr.contains("is not read for now"), "{ended}");
}

/// What is written elsewhere appears whole or not at all.
#[test]
fn exports_that_do_not_fit_leave_nothing() {
    let dir = Dir::tiny();
    dir.done(&["run", TINY, "stage1", "-q"]);
    for arguments in [
        &["cache", "export", "last", "out/run.tar"][..],
        &["export", "last", "out/weights", "--format", "huggingface"],
        &["data", "export", TINY, "pairs", "--format", "webdataset", "-o", "out/pairs"],
    ] {
        let Some(disk) = Disk::mount(&dir, "out", 16 << 10) else { return };
        told(&dir.heddle(arguments), "out", "No space left on device", "free space there");
        assert_eq!(files(&disk.0), Vec::<PathBuf>::new(), "{arguments:?}");
        disk.remount(&format!("size={ROOM}"));
        dir.done(arguments);
    }
}

/// A home that may only be read: what only looks works or says what to do, and elsewhere all goes on.
#[test]
fn a_home_that_may_only_be_read() {
    let dir = Dir::tiny();
    let Some(disk) = Disk::mount(&dir, "disk", ROOM) else { return };
    let with = |arguments: &[&str]| dir.heddle(&[arguments, &["--home", "disk/home"]].concat());
    assert_eq!(with(&["run", TINY, "bpe"]).code, Some(0));
    let digests = dir.digests_of("disk/home");
    disk.remount("ro");
    for looks in [&["runs", "ls"][..], &["runs", "show"], &["diff", "last", "last"]] {
        let seen = with(looks);
        assert_eq!(seen.code, Some(0), "{seen}");
    }
    for uses in [
        &["run", TINY, "bpe"][..],
        &["plan", TINY],
        &["why", "bpe", TINY],
        &["replay", "last"],
        &["replay", "last", "--recompute"],
        &["cache", "du"],
        &["cache", "verify"],
        &["cache", "gc"],
        &["cache", "pin", "last"],
        &["cache", "export", "last", "run.tar"],
    ] {
        told(&with(uses), "disk/home", "Read-only file system", "name another folder");
    }
    // A copy is a home like any other.
    let copied = Command::new("cp").arg("-r").arg(&disk.0).arg(dir.path().join("copy")).status().unwrap();
    assert!(copied.success());
    let elsewhere = dir.done(&["run", TINY, "bpe", "--home", "copy/home"]);
    assert!(elsewhere.stderr.contains("nothing to do"), "{elsewhere}");
    disk.remount("rw");
    assert_eq!(with(&["run", TINY, "bpe"]).code, Some(0));
    assert_eq!(dir.digests_of("disk/home"), digests);
}
