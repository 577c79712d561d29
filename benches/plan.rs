//! `cargo bench -p heddle --bench plan`: planning a generated experiment of 2,000 nodes, against a limit of one second.
//!
//! The time is that of the whole command `heddle plan FILE` in a process of its own, everything a miss: reading,
//! checking, wiring, digesting the shards, deciding. The limit is what a person still takes as immediate.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::{fmt::Write, process::Command, time::Instant};

const NODES: usize = 2_000;
const LIMIT_SECONDS: f64 = 1.0;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("generated.toml");
    std::fs::write(&file, experiment()).expect("writing the experiment");
    let heddle = env!("CARGO_BIN_EXE_heddle");
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            let status = Command::new(heddle).arg("plan").arg(&file).output().expect("running heddle").status;
            assert_eq!(status.code(), Some(2), "the plan has work left");
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    println!(
        "plan of {NODES} nodes: {:.3} s, {:.2} of the limit of {LIMIT_SECONDS} s",
        best,
        best / LIMIT_SECONDS
    );
}

/// Sources, tokenizers and floors in groups of five that read each other.
fn experiment() -> String {
    let mut text = "schema = 1\n".to_owned();
    let tasks = "tasks = { concept = { class = \"cp\" } }";
    for group in 0..NODES / 5 {
        let image = format!("image = {{ size = {} }}\nlimit = {}", 8 + group % 8, 1 + group);
        for (name, shards) in [("train", "train-*"), ("held", "val-*")] {
            let _ = write!(
                text,
                "[nodes.{name}{group}]\nkind = \"data.webdataset\"\nshards = \"embedded:emoji/{shards}.tar\"\n{image}\n"
            );
        }
        let _ = write!(
            text,
            "[nodes.bpe{group}]\nkind = \"text.bpe\"\nin = \"train{group}\"\nvocab = {}\n\
             [nodes.floor{group}]\nkind = \"eval.pixel-floor\"\nin = {{ records = \"held{group}\", train = \"train{group}\" }}\n{tasks}\n\
             [nodes.report{group}]\nkind = \"report\"\nin = \"floor{group}\"\n",
            300 + group
        );
    }
    text
}
