//! `heddle schema`: JSON Schema from the registry that parses the files.

use heddle_graph::schema;

use super::{
    args::{SchemaOf, SchemaOptions},
    exit::{Exit, Failure},
    output,
};
use crate::{
    model::Models,
    nodes::{KINDS, MODEL_KINDS},
};

/// Runs the command.
pub fn run(options: &SchemaOptions) -> Result<Exit, Failure> {
    let document = match options.of {
        SchemaOf::Experiment => schema::experiment(KINDS, &Models::default()),
        SchemaOf::Model => schema::model_graph(MODEL_KINDS, &()),
    };
    output::result(
        &serde_json::to_string_pretty(&document).map_err(|error| Failure::Other(error.to_string()))?,
    );
    Ok(Exit::Done)
}
