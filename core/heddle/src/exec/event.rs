//! A run is a sequence of typed events; the terminal and the run record are two readers of it.

use std::sync::Arc;

use heddle_graph::digest::Digest;
use tokio::sync::mpsc;

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A node was found in the cache.
    Hit {
        /// The node.
        node: String,
        /// Whether it was in the remote one.
        remote: bool,
    },
    /// A node started.
    Started {
        /// The node.
        node: String,
        /// Why it runs, in a sentence.
        why: String,
    },
    /// A node went on.
    Progressed {
        /// The node.
        node: String,
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
        /// What it says of itself (`loss 2.31`).
        message: String,
    },
    /// A node has something to say that the user should see.
    Noted {
        /// The node.
        node: String,
        /// The note.
        message: String,
    },
    /// A node finished and its artifacts are in the cache.
    Finished {
        /// The node.
        node: String,
        /// Wall time, seconds.
        seconds: f64,
        /// Output port, digest, bytes.
        outputs: Vec<(String, Digest, u64)>,
    },
    /// A node failed.
    Failed {
        /// The node.
        node: String,
        /// The error, with its causes.
        error: String,
    },
    /// A node was stopped at a step boundary.
    Cancelled {
        /// The node.
        node: String,
    },
}

/// The sending side; cheap to clone.
#[derive(Debug, Clone)]
pub struct Events(mpsc::UnboundedSender<Event>);

impl Events {
    /// A channel of events.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Sends an event; when nobody listens any more it is lost, which is what the reader chose.
    pub fn send(&self, event: Event) {
        let _ = self.0.send(event);
    }

    /// The progress of one node.
    pub fn progress(&self, node: &str) -> Progress {
        Progress { node: node.into(), events: self.clone() }
    }
}

/// What a node reports its progress to.
#[derive(Debug, Clone)]
pub struct Progress {
    node: Arc<str>,
    events: Events,
}

impl Progress {
    /// `done` of `total` units, with a word on how it goes.
    pub fn set(&self, done: u64, total: u64, message: impl Into<String>) {
        let node = self.node.to_string();
        self.events.send(Event::Progressed { node, done, total, message: message.into() });
    }

    /// A note that the user should see.
    pub fn note(&self, message: impl Into<String>) {
        self.events.send(Event::Noted { node: self.node.to_string(), message: message.into() });
    }
}
