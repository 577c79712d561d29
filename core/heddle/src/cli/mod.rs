//! The command line: one file a command, `output.rs` alone prints.

mod apply;
mod args;
mod cache;
mod caches;
mod caption;
mod cells;
mod chat;
mod check;
mod cut;
mod data;
mod deliver;
mod diff;
mod execute;
mod exit;
mod explain;
mod export;
mod finished;
mod graph;
mod home;
mod idle;
mod init;
mod leaks;
mod metrics;
mod nodes;
mod output;
mod place;
mod plan;
mod plugin;
mod prepare;
mod progress;
mod replay;
mod rows;
mod run;
mod runs;
mod schema;
mod verify;
mod why;

use std::{ffi::OsString, process::ExitCode};

use args::{Command, Invocation};

/// Parses the arguments, runs the command, and turns what came of it into an exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let invocation = match <Invocation as clap::Parser>::try_parse_from(&arguments) {
        Ok(invocation) => invocation,
        Err(error) => return output::usage(&error),
    };
    output::init(&invocation.common);
    let said: Vec<String> =
        arguments.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let common = &invocation.common;
    let result = match &invocation.command {
        Command::Run(options) => run::run(options, common, said),
        Command::Plan(options) => plan::run(options, common),
        Command::Check(options) => check::run(options, common),
        Command::Init(options) => init::run(options),
        Command::Graph(options) => graph::run(options, common),
        Command::Nodes(options) => nodes::run(options),
        Command::Schema(options) => schema::run(options),
        Command::Apply(options) => apply::run(options),
        Command::Caption(options) => caption::run(options, common),
        Command::Chat(options) => chat::run(options, common),
        Command::Data(options) => data::run(options, common),
        Command::Plugin(options) => plugin::run(options),
        Command::Export(options) => export::run(options, common),
        Command::Runs(options) => runs::run(options, common),
        Command::Diff(options) => diff::run(options, common),
        Command::Replay(options) => replay::run(options, common, said),
        Command::Verify(options) => verify::run(options, common),
        Command::Why(options) => why::run(options, common),
        Command::Cache(options) => cache::run(options, common),
    };
    match result {
        Ok(exit) => exit.code(),
        Err(failure) => {
            output::failure(&failure);
            failure.exit().code()
        }
    }
}
