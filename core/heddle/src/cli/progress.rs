//! Progress on standard error: bars on a terminal, plain lines otherwise, nothing with `--quiet`.

use std::{
    collections::HashMap,
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{explain::duration, output};
use crate::exec::Event;

/// Plain lines come no faster than this per node.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How much a run says while it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// Nothing.
    Quiet,
    /// Bars or lines.
    Usual,
    /// Lines that begin with this name: other runs go on beside it.
    Named(String),
}

impl Show {
    /// For a run that is alone.
    pub fn usual(quiet: bool) -> Self {
        if quiet { Self::Quiet } else { Self::Usual }
    }
}

/// A reader of the run's events.
pub struct Progress {
    receiver: UnboundedReceiver<Event>,
    display: Display,
}

enum Display {
    Quiet,
    Lines { of: String, last: HashMap<String, Instant> },
    Bars { all: MultiProgress, nodes: HashMap<String, ProgressBar> },
}

impl Progress {
    /// Chooses the display from what standard error is.
    pub fn new(show: Show, receiver: UnboundedReceiver<Event>) -> Self {
        let lines = |of: String| Display::Lines { of, last: HashMap::new() };
        let display = match show {
            Show::Quiet => Display::Quiet,
            Show::Named(name) => lines(format!("[{name}] ")),
            Show::Usual if std::io::stderr().is_terminal() => {
                Display::Bars { all: MultiProgress::new(), nodes: HashMap::new() }
            }
            Show::Usual => lines(String::new()),
        };
        Self { receiver, display }
    }

    /// Shows events until the run ends.
    pub fn follow(mut self) {
        while let Some(event) = self.receiver.blocking_recv() {
            match &mut self.display {
                Display::Quiet => {}
                Display::Lines { of, last } => lines(event, of, last),
                Display::Bars { all, nodes } => bars(event, all, nodes),
            }
        }
    }
}

/// What an event says for good; progress says nothing here.
fn sentence(event: &Event) -> Option<String> {
    Some(match event {
        Event::Hit { node, remote: false } => format!("hit   {node}"),
        Event::Hit { node, remote: true } => format!("hit   {node} (remote)"),
        Event::Started { node, why } => format!("run   {node}: {why}"),
        Event::Progressed { .. } => return None,
        Event::Noted { node, message } => format!("note  {node}: {message}"),
        Event::Finished { node, seconds, outputs } => {
            let bytes: u64 = outputs.iter().map(|(_, _, bytes)| bytes).sum();
            format!("done  {node} ({}, {} kB)", duration(*seconds), bytes.div_ceil(1000))
        }
        Event::Failed { node, error } => format!("fail  {node}: {error}"),
        Event::Cancelled { node } => format!("stop  {node}"),
    })
}

fn lines(event: Event, of: &str, last: &mut HashMap<String, Instant>) {
    if let Event::Progressed { node, done, total, message } = &event {
        let now = Instant::now();
        let due = last.get(node).is_none_or(|then| now.duration_since(*then) >= LINE_EVERY);
        if due || done == total {
            last.insert(node.clone(), now);
            output::note(&format!("{of}      {node} {done}/{total} {message}"));
        }
    }
    if let Some(sentence) = sentence(&event) {
        output::note(&format!("{of}{sentence}"));
    }
}

fn bars(event: Event, all: &MultiProgress, nodes: &mut HashMap<String, ProgressBar>) {
    match &event {
        Event::Progressed { node, done, total, message } => {
            let bar = nodes.entry(node.clone()).or_insert_with(|| {
                let style = ProgressStyle::with_template("      {prefix} {bar:28} {pos}/{len} {eta} {msg}");
                let bar = all.add(ProgressBar::new(*total));
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.set_prefix(node.clone());
                bar
            });
            bar.set_length(*total);
            bar.set_position(*done);
            bar.set_message(message.clone());
        }
        Event::Finished { node, .. } | Event::Failed { node, .. } | Event::Cancelled { node } => {
            if let Some(bar) = nodes.remove(node) {
                bar.finish_and_clear();
                all.remove(&bar);
            }
        }
        _ => {}
    }
    if let Some(sentence) = sentence(&event) {
        // A line above the bars; fails only if the terminal is gone.
        let _ = all.println(sentence);
    }
}
