//! The host against plugins that are assembled here: good ones, and all that a plugin could do wrong.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod hostile;
mod wat;
mod works;
