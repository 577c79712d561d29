//! Why a node runs: the comparison of its key with the one it had when it last ran, field by field.

use std::fmt;

use serde::Serialize;

use super::key::KeyParts;

/// One field of the key that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where, e.g. `config.optimizer.lr` or `inputs.records[0]`.
    pub field: String,
    /// The value when the node last ran; none if the field is new.
    pub old: Option<String>,
    /// The value now; none if the field is gone.
    pub new: Option<String>,
}

/// Why a node has to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum RunReason {
    /// No node of this name ran in this cache.
    NeverRan,
    /// It ran before with another key.
    Changed {
        /// The fields that differ, at least one.
        changes: Vec<Change>,
    },
    /// The key is known, but an artifact is no longer there (cleared or damaged).
    Lost {
        /// The output ports whose artifacts are gone.
        outputs: Vec<String>,
    },
    /// The user asked for it.
    Forced,
    /// A node upstream runs; whether this one has to follow depends on the bytes that come out.
    Upstream {
        /// The nodes upstream that run.
        nodes: Vec<String>,
        /// What already differs without them.
        changes: Vec<Change>,
    },
}

impl RunReason {
    /// Compares the key of now with that of then.
    pub fn compare(old: &KeyParts, new: &KeyParts) -> Vec<Change> {
        let (old, new) = (old.leaves(), new.leaves());
        let mut fields: Vec<&String> = old.keys().chain(new.keys()).collect();
        fields.sort();
        fields.dedup();
        fields
            .into_iter()
            .filter(|field| old.get(*field) != new.get(*field))
            .map(|field| Change {
                field: field.clone(),
                old: old.get(field).cloned(),
                new: new.get(field).cloned(),
            })
            .collect()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<String>| value.as_deref().map_or("nothing".to_owned(), shorten);
        write!(f, "{} {} -> {}", self.field, show(&self.old), show(&self.new))
    }
}

/// Digests and long values are cut for the terminal; `--json` has them whole.
fn shorten(value: &str) -> String {
    let is_digest = value.len() == 64 && value.bytes().all(|c| c.is_ascii_hexdigit());
    let limit = if is_digest { 12 } else { 60 };
    if value.chars().count() <= limit {
        return value.to_owned();
    }
    let cut: String = value.chars().take(limit).collect();
    if is_digest { cut } else { format!("{cut}…") }
}

/// At most this many changes are said in one line.
const SAID: usize = 3;

impl fmt::Display for RunReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, changes: &[Change]| {
            let said: Vec<String> = changes.iter().take(SAID).map(Change::to_string).collect();
            f.write_str(&said.join("; "))?;
            match changes.len().saturating_sub(SAID) {
                0 => Ok(()),
                more => write!(f, "; and {more} more"),
            }
        };
        match self {
            Self::NeverRan => f.write_str("never ran in this cache"),
            Self::Changed { changes } => list(f, changes),
            Self::Lost { outputs } => write!(f, "artifact gone from the cache: {}", outputs.join(", ")),
            Self::Forced => f.write_str("forced"),
            Self::Upstream { nodes, changes } => {
                if !changes.is_empty() {
                    list(f, changes)?;
                    f.write_str("; ")?;
                }
                write!(f, "waits for {}", nodes.join(", "))
            }
        }
    }
}
