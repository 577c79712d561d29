//! The registry as documentation: [`describe`] for reference pages, [`experiment`] and [`model_graph`] as JSON
//! Schema (draft 2020-12) for editors.
//!
//! Both come from reading an empty table with the kind's own reader, so they cannot differ from what is accepted.

mod describe;
mod field;
mod file;

pub use describe::{KindDoc, describe};
pub use file::{experiment, model_graph};
