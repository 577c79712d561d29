//! The parameter `unused`: what happens to tensors that the graph has no use for.

use heddle_graph::config::Reader;

use super::fit::list;
use crate::exec::{NodeError, RunContext};

/// What happens to tensors that the graph has no use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unused {
    /// They are named.
    Report,
    /// They are a mistake.
    Refuse,
}

impl Unused {
    /// Reads the parameter `unused`.
    pub fn read(r: &mut Reader<'_>) -> Self {
        r.choice(
            "unused",
            "tensors that the graph has no use for",
            &[
                ("report", Self::Report, "are left out and named in a note"),
                ("error", Self::Refuse, "end the run"),
            ],
        )
        .or("report")
    }

    /// Names what is left out, or fails.
    pub fn apply(self, cx: &RunContext<'_>, unused: &[String]) -> Result<(), NodeError> {
        match self {
            _ if unused.is_empty() => Ok(()),
            Self::Report => {
                cx.progress.note(format!("the graph does not use {}", list(unused)));
                Ok(())
            }
            Self::Refuse => {
                Err(NodeError::Other(format!("the graph does not use {} (`unused`)", list(unused))))
            }
        }
    }
}
