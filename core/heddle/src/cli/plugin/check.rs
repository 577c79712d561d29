//! `heddle plugin check`: what a plugin is, after the looks that a node takes at it.

use heddle_plugin::ColumnSpec;
use serde_json::Value;

use super::load;
use crate::cli::{
    args::PluginCheck,
    exit::{Exit, Failure},
    output,
};

/// Runs the command.
pub fn run(options: &PluginCheck) -> Result<Exit, Failure> {
    let plugin = load(&options.file, options.stub_wasi)?;
    let description = plugin.description();
    let (functions, bytes) = plugin.size();
    let column = |spec: &ColumnSpec| {
        let ty = format!("{:?}", spec.ty).to_lowercase();
        let many = if spec.many { ", several a record" } else { "" };
        let nullable = if spec.nullable { ", may be absent" } else { "" };
        format!("  {}: {ty}{many}{nullable}\n", spec.name)
    };
    let mut text = format!(
        "{} {}, a {} plugin\n{}\n{functions} functions, {bytes} bytes, imports {}\n",
        description.name,
        description.version,
        plugin.world().name(),
        description.summary,
        if plugin.imports().is_empty() { "nothing".to_owned() } else { plugin.imports().join(", ") }
    );
    for (heading, specs) in [("reads", &description.reads), ("writes", &description.writes)] {
        if !specs.is_empty() {
            text.push_str(&format!("{heading}\n{}", specs.iter().map(column).collect::<String>()));
        }
    }
    if !description.reasons.is_empty() {
        text.push_str("drops for\n");
        description
            .reasons
            .iter()
            .for_each(|reason| text.push_str(&format!("  {}: {}\n", reason.code, reason.help)));
    }
    let schema: Value = serde_json::from_str(&description.config_schema).unwrap_or_default();
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        text.push_str("config\n");
        for (name, property) in properties {
            let help = property.get("description").and_then(Value::as_str).unwrap_or_default();
            let default =
                property.get("default").map(|value| format!(" (default {value})")).unwrap_or_default();
            text.push_str(&format!(
                "  {}{default}: {}\n",
                heddle_plugin::printable(name),
                heddle_plugin::printable(help)
            ));
        }
    }
    output::result(text.trim_end());
    Ok(Exit::Done)
}
