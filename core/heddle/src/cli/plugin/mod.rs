//! `heddle plugin`: write a plugin's project, build it, look it over, hold it against expected answers, measure it.

mod bench;
mod build;
mod check;
mod new;
mod test;

use heddle_plugin::{LoadOptions, Plugin};

use super::{
    args::{PluginCommand, PluginOptions},
    exit::{Exit, Failure},
};
use crate::plugins;

/// Runs the command.
pub fn run(options: &PluginOptions) -> Result<Exit, Failure> {
    match &options.command {
        PluginCommand::New(options) => new::run(options),
        PluginCommand::Build(options) => build::run(options),
        PluginCommand::Check(options) => check::run(options),
        PluginCommand::Test(options) => test::run(options),
        PluginCommand::Bench(options) => bench::run(options),
    }
}

fn load(path: &str, stub_wasi: bool) -> Result<Plugin, Failure> {
    plugins::load(path, LoadOptions { stub_wasi, ..LoadOptions::default() })
        .map_err(|error| Failure::Other(error.to_string()))
}
