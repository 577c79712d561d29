//! Tests of the program as a user runs it: files in, exit code, standard output and standard error out.
//!
//! Each test works in a folder of its own ([`util::Dir`]). What the library crates promise is tested there; here
//! stands what only the whole shows.
#![expect(clippy::unwrap_used, reason = "tests")]

/// Temporary folders, the program, filters for snapshots.
mod util;

/// `apply`: outputs and gradients against the official implementation's, f32 against f64.
mod apply;
/// `cache`: size, damage, emptying, what goes and what stays, export and import.
mod cache;
/// Ablations and sweeps: `run` and `plan` on a set of variants.
mod cells;
/// `check` on correct files: parameters and multiply-adds, published sizes.
mod check;
/// Nodes that clean data.
mod cleaning;
/// Times that cannot be.
mod clocks;
/// Past runs: `runs ls`, `diff`, `replay`, `why`.
mod compare;
/// Damage in every file that heddle keeps.
mod damage;
/// What happens when a run is killed, interrupted, raced or fed with broken data.
mod faults;
/// Data in other tools' forms, in and out: `data show`, `data export`.
mod formats;
/// Frozen parts of stages: what runs once for each record.
mod frozen;
/// The body of the fuzz target `bundle`.
#[path = "fuzz/src/bundle.rs"]
mod fuzz_bundle;
/// Stages that write: `caption`, matching, inherited weights.
mod generative;
/// GGUF files.
mod gguf;
/// Writes small GGUF files.
#[path = "../core/gguf/tests/writer.rs"]
mod gguf_writer;
/// `graph`: drawings.
mod graph;
/// `plugin new`, `build` and `bench`, and plugins in all languages.
mod guests;
/// `init`: what it writes can be checked and run.
mod init;
/// `check` on wrong files: every file under `invalid/` and what is said about it.
mod invalid;
/// What is in the keys: a walk through all parameters of all kinds.
mod keys;
/// Kills at random moments.
mod kills;
/// The order of the crate's modules.
mod layers;
/// LoRA: training, evaluating, exporting.
mod lora;
/// `nodes` and the registry behind it.
mod nodes;
/// `plan`: hits, reasons, what enters a key and what does not.
mod plan;
/// `plugin`, the example plugins, and nodes that run plugins.
mod plugins;
/// Nodes that choose, combine and widen records.
mod records;
/// `--remote`: a cache that machines share.
mod remote;
/// `run`: results, repeated runs, seeds, threads.
mod run;
/// `runs`: looking back.
mod runs;
/// Scenes composed of single pictures.
mod scenes;
/// `schema`: JSON Schema.
mod schema;
/// Replays the seeds of a fuzz target.
#[path = "fuzz/src/seeds.rs"]
mod seeds;
/// Sources other than tar shards.
mod sources;
/// Disks that are full or may not be written.
mod storage;
/// Tokenizers.
mod text;
/// Weights from and for others: `weights.*`, `export`.
mod weights;
