//! `data.split`: divides records by a hash.

use arrow_array::BooleanArray;
use arrow_select::filter::filter_record_batch;
use heddle_data::{ManifestError, ManifestWriter};
use heddle_graph::{
    config::Reader,
    graph::{InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};
use indexmap::IndexMap;

use super::{By, Records, records_in, same_records};
use crate::{
    exec::{NodeError, Output, Outputs, RunContext},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct Split;

struct Divide {
    /// Names with the ends of their ranges in [0, 1].
    parts: Vec<(String, f64)>,
    by: By,
    salt: String,
}

impl Kind<dyn Node, Models> for Split {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.split",
            version: 1,
            summary: "divides records into parts by a hash",
            details: "`parts = { train = 0.9, val = 0.1 }` gives the ports `train` and `val`. Which part a record belongs to follows \
                      from a hash of what `by` names, and of `salt`, alone: not from its place, a seed, or the other records. So \
                      records that come later move none of those that are there, and a column such as a concept or a \
                      photographer keeps its records together.",
            example: "[nodes.halves]\nkind = \"data.split\"\nin = \"pairs\"\nparts = { train = 0.95, val = 0.05 }\nby = \"group\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let shares: IndexMap<String, f64> =
            r.map("parts", "names of the parts with their shares, which add up to 1");
        let by = By::read(r, "image");
        let salt: String = r.field("salt", "another text gives another division").or(String::new());
        if !r.is_documenting() {
            check(r, &shares);
        }
        let mut end = 0.0;
        let mut parts: Vec<(String, f64)> = Vec::new();
        for (name, share) in shares {
            end += share;
            parts.push((name, end));
        }
        // What rounding leaves open belongs to the last part.
        if let Some((_, end)) = parts.last_mut() {
            *end = 1.0;
        }
        Box::new(Divide { parts, by, salt })
    }
}

fn check(r: &mut Reader<'_>, shares: &IndexMap<String, f64>) {
    let help = Some("for example `parts = { train = 0.9, val = 0.1 }`");
    if shares.is_empty() {
        return r.error("parts", "`parts` is needed", help);
    }
    let named = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    if let Some(name) = shares.keys().find(|name| !named(name)) {
        r.error("parts", format!("`{name}` is no name of a port: letters, digits, `_` and `-`"), None);
    }
    if let Some((name, share)) = shares.iter().find(|(_, share)| !(**share > 0.0 && **share <= 1.0)) {
        r.error("parts", format!("the share of `{name}` is {share}, not between 0 and 1"), help);
    }
    let sum: f64 = shares.values().sum();
    if (sum - 1.0).abs() > 1e-9 {
        r.error("parts", format!("the shares add up to {sum}, not to 1"), help);
    }
}

impl NodeSpec for Divide {
    fn inputs(&self) -> Vec<InPort> {
        records_in("records that are divided")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(self.parts.iter().map(|(name, _)| OutPort::new(name, same_records(inputs))).collect())
    }
}

impl Node for Divide {
    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let Records { manifest, .. } = Records::read(cx.input("records")?)?;
        let mut writers = Vec::with_capacity(self.parts.len());
        for _ in &self.parts {
            writers.push(ManifestWriter::new(
                cx.writer()?,
                manifest.schema().clone(),
                (*manifest.footer).clone(),
            )?);
        }
        for batch in manifest.batches() {
            cx.check_cancelled()?;
            let batch = batch?;
            let chances = manifest.records_of(&batch)?;
            let chances = chances.iter().map(|record| self.by.chance(record, &self.salt));
            let chances: Vec<f64> = chances.collect::<Result<_, _>>()?;
            let mut start = 0.0;
            for ((_, end), writer) in self.parts.iter().zip(&mut writers) {
                let inside: BooleanArray = chances.iter().map(|at| Some(*at >= start && at < end)).collect();
                writer.write(filter_record_batch(&batch, &inside).map_err(ManifestError::from)?)?;
                start = *end;
            }
        }
        let counts: Vec<String> = self
            .parts
            .iter()
            .zip(&writers)
            .map(|((name, _), writer)| format!("{name} {}", writer.rows()))
            .collect();
        cx.progress.note(counts.join(", "));
        let mut outputs = Outputs::new();
        for ((name, _), writer) in self.parts.iter().zip(writers) {
            outputs.insert(name.clone(), Output::Kept(writer.finish()?.finish()?));
        }
        Ok(outputs)
    }
}
