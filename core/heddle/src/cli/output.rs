//! The one place that prints. Results go to standard output, everything else to standard error.
#![expect(clippy::print_stderr, reason = "this module is where printing happens")]

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    sync::OnceLock,
};

use heddle_cache::CacheError;
use heddle_graph::render;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use super::{
    args::{Color, Common, LogFormat},
    exit::{Exit, Failure},
};
use crate::{exec::StoreError, project::Broken};

/// How this process talks; set once from the arguments.
#[derive(Debug, Clone, Copy)]
struct Manner {
    quiet: bool,
    color: bool,
}

static MANNER: OnceLock<Manner> = OnceLock::new();

fn manner() -> Manner {
    MANNER.get().copied().unwrap_or(Manner { quiet: false, color: false })
}

/// Sets up messages and logs.
pub fn init(common: &Common) {
    let terminal = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let color = match common.color {
        Color::Auto => terminal,
        Color::Always => true,
        Color::Never => false,
    };
    let _ = MANNER.set(Manner { quiet: common.quiet, color });
    // Who asks for JSON wants the spans of the nodes; people see progress lines for that. sled speaks at `info` too.
    let usual = if common.log == LogFormat::Json { "info,sled=warn" } else { "warn" };
    let filter = EnvFilter::try_from_env("HEDDLE_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // Fails only if a subscriber exists already, as when a test calls `main` twice.
    let _ = match common.log {
        LogFormat::Text => registry.with(layer.with_target(false).with_ansi(color)).try_init(),
        LogFormat::Json => {
            let spans = tracing_subscriber::fmt::format::FmtSpan::CLOSE;
            registry.with(layer.json().with_span_events(spans)).try_init()
        }
    };
    // A panic is a bug of heddle. The scheduler turns one in a node into that node's failure; the place it came
    // from goes to the log. sled answers some damage with a panic: the cache takes it for damage, and says so itself.
    std::panic::set_hook(Box::new(|info| match info.location() {
        Some(place) if place.file().contains("sled-0.34") => tracing::debug!("sled: {info}"),
        _ => tracing::error!("internal error: {info}"),
    }));
}

/// Writes a result to standard output; a reader that went away (`| head`) is no error.
pub fn result(text: &str) {
    let mut out = std::io::stdout().lock();
    let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    let _ = write!(out, "{text}{end}").and_then(|()| out.flush());
}

/// Writes a result as JSON.
pub fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Other(error.to_string()))?;
    result(&text);
    Ok(())
}

/// Writes a part of a result, as it comes.
pub fn part(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

/// Invites the user to write a line, on standard error.
pub fn invite(text: &str) {
    eprint!("{text}");
}

/// Text of the data for the terminal: control characters written out, so that no escape reaches it.
pub fn printable(text: &str) -> String {
    heddle_plugin::printable(text)
}

/// A line for the user, not with `--quiet`.
pub fn note(text: &str) {
    if !manner().quiet {
        eprintln!("{text}");
    }
}

/// Why a command failed.
pub fn failure(failure: &Failure) {
    match failure {
        Failure::Broken(broken) => diagnostics(broken),
        Failure::Store(StoreError::Cache(held @ CacheError::Held(_))) => {
            eprintln!("error: {held}; `--wait` waits for it");
        }
        other => eprintln!("error: {other}"),
    }
}

/// The mistakes in the files, each with its place.
pub fn diagnostics(broken: &Broken) {
    eprint!("{}", render(&broken.diagnostics, &broken.sources, manner().color));
    let count = broken.diagnostics.len();
    eprintln!("{count} {} found; nothing was run", if count == 1 { "mistake" } else { "mistakes" });
}

/// Wrong usage, help and version, as clap words them.
pub fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() { Exit::WorkLeft.code() } else { Exit::Done.code() }
}
