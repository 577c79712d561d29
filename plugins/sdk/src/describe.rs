//! Describing a plugin, and reading its config.

use serde::de::DeserializeOwned;

use crate::{
    ColumnSpec, ColumnType, Description, DropReason, Error, State,
    bindings::heddle::plugin::types::ConfigError,
};

/// A description of a plugin without state that reads and writes no column yet.
pub fn stateless(name: &str, summary: &str, schema: &str) -> Description {
    Description {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        summary: summary.to_owned(),
        config_schema: schema.to_owned(),
        reads: Vec::new(),
        writes: Vec::new(),
        reasons: Vec::new(),
        state: State::None,
        max_batch: None,
    }
}

/// A column: `(name, type, several a record, may be absent)`.
pub fn reads(columns: &[(&str, ColumnType, bool, bool)]) -> Vec<ColumnSpec> {
    let spec = |(name, ty, many, nullable): &(&str, ColumnType, bool, bool)| ColumnSpec {
        name: (*name).to_owned(),
        ty: *ty,
        many: *many,
        nullable: *nullable,
    };
    columns.iter().map(spec).collect()
}

/// Reasons to drop: `(word, sentence)`.
pub fn reasons(reasons: &[(&str, &str)]) -> Vec<DropReason> {
    let reason =
        |(code, help): &(&str, &str)| DropReason { code: (*code).to_owned(), help: (*help).to_owned() };
    reasons.iter().map(reason).collect()
}

/// The config as the node has it.
#[derive(Clone, Copy)]
pub struct Config<'a>(&'a str);

impl<'a> Config<'a> {
    /// A config from JSON.
    pub fn new(json: &'a str) -> Self {
        Self(json)
    }

    /// The config as a type of the plugin's own.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_str(self.0).map_err(|error| Self::wrong("", &error.to_string()))
    }

    /// An error that points at a part of the config (`/words/3`).
    pub fn wrong(path: &str, message: &str) -> Error {
        Error::Config(ConfigError { path: path.to_owned(), message: message.to_owned() })
    }
}
