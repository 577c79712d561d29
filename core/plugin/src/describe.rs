//! Checks what a plugin says of itself, and a config against its schema.

use serde_json::Value;

use crate::{
    World,
    abi::{ColumnSpec, Description},
    text::printable,
};

const NAME: usize = 64;
const TEXT: usize = 4096;
const SCHEMA: usize = 256 << 10;
const ENTRIES: usize = 200;

/// A config that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Keys and places from the config's root down to what is wrong.
    pub path: Vec<String>,
    /// What is wrong with it.
    pub message: String,
}

impl ConfigProblem {
    /// From a JSON pointer (`/words/3`).
    pub(crate) fn at(pointer: &str, message: String) -> Self {
        let step = |step: &str| printable(&step.replace("~1", "/").replace("~0", "~"));
        Self { path: pointer.split('/').skip(1).map(step).collect(), message }
    }
}

/// The description, if everything in it is in order.
///
/// # Errors
/// What is not.
pub fn check(description: Description, world: World) -> Result<Description, String> {
    let Description { name, version, summary, reads, writes, reasons, config_schema, .. } = &description;
    for (what, text) in [("name", name), ("version", version)] {
        if !is_word(text, NAME) {
            let shown = printable(&text.chars().take(NAME).collect::<String>());
            return Err(format!(
                "the {what} is `{shown}`; it has 1 to {NAME} letters, digits, `-`, `_`, `.` or `+`"
            ));
        }
    }
    if summary.len() > TEXT || reasons.iter().any(|reason| reason.help.len() > TEXT) {
        return Err(format!("the summary or a reason has more than {TEXT} bytes"));
    }
    if reads.len() > ENTRIES || writes.len() > ENTRIES || reasons.len() > ENTRIES {
        return Err(format!("there are more than {ENTRIES} columns or reasons"));
    }
    for specs in [reads, writes] {
        for (place, spec) in specs.iter().enumerate() {
            if !is_word(&spec.name, NAME) {
                return Err(format!("a column is called `{}`", printable(&spec.name)));
            }
            if specs[..place].iter().any(|other: &ColumnSpec| other.name == spec.name) {
                return Err(format!("column `{}` is named twice", spec.name));
            }
        }
    }
    for (place, reason) in reasons.iter().enumerate() {
        let kebab = reason.code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !kebab || !is_word(&reason.code, NAME) {
            return Err(format!(
                "a reason is called `{}`; reasons are words like `too-short`",
                printable(&reason.code)
            ));
        }
        if reasons[..place].iter().any(|other| other.code == reason.code) {
            return Err(format!("reason `{}` is named twice", reason.code));
        }
    }
    match world {
        World::Filter if reasons.is_empty() => return Err("a filter that has no reason to drop".into()),
        World::Transform if writes.is_empty() => return Err("a transform that writes no column".into()),
        World::Score if writes.len() != 1 => {
            return Err(format!("a score writes one column, this one {}", writes.len()));
        }
        _ => {}
    }
    if description.max_batch == Some(0) {
        return Err("batches of at most 0 records".into());
    }
    if config_schema.len() > SCHEMA {
        return Err(format!("the config's schema has more than {SCHEMA} bytes"));
    }
    validator(config_schema)?;
    let summary = printable(summary);
    let safe = |reason: &crate::abi::DropReason| crate::abi::DropReason {
        code: reason.code.clone(),
        help: printable(&reason.help),
    };
    let reasons = reasons.iter().map(safe).collect();
    Ok(Description { summary, reasons, ..description })
}

fn is_word(text: &str, most: usize) -> bool {
    let right = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+');
    !text.is_empty() && text.len() <= most && text.bytes().all(right)
}

/// What accepts configs; an empty schema accepts the empty table alone.
pub(crate) fn validator(schema: &str) -> Result<jsonschema::Validator, String> {
    let schema = if schema.is_empty() { r#"{"type":"object","additionalProperties":false}"# } else { schema };
    let schema: Value =
        serde_json::from_str(schema).map_err(|error| format!("the config's schema is no JSON: {error}"))?;
    // Without a resolver nothing is fetched: a reference to elsewhere is an error.
    jsonschema::validator_for(&schema)
        .map_err(|error| format!("the config's schema is no JSON Schema: {}", printable(&error.to_string())))
}

/// Everything that is wrong with a config.
pub(crate) fn problems(validator: &jsonschema::Validator, config: &Value) -> Vec<ConfigProblem> {
    let problem = |error: jsonschema::ValidationError<'_>| {
        ConfigProblem::at(error.instance_path().as_str(), printable(&error.to_string()))
    };
    validator.iter_errors(config).map(problem).collect()
}
