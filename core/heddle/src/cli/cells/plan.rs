//! The plans of variants side by side: what is there, what runs, what an earlier variant of the same set will have made.

use std::collections::{BTreeSet, HashMap};

use comfy_table::{CellAlignment, Table, presets};
use heddle_graph::{
    digest::{Digest, DigestWriter},
    plan::{Action, Facts, KeyParts, Plan, RunReason},
};
use serde::Serialize;

use super::super::explain::duration;
use crate::exec::CellRecord;

/// One variant with its plan.
#[derive(Serialize)]
pub struct Planned {
    /// Which variant.
    #[serde(flatten)]
    pub cell: CellRecord,
    /// How many nodes are hits.
    pub hits: usize,
    /// How many run.
    pub work: usize,
    /// Nodes that an earlier variant of the set makes.
    pub shared: Vec<String>,
    /// Predicted seconds of the nodes that it runs itself.
    pub predicted_seconds: f64,
    /// Whether every node that it runs itself has a prediction.
    pub predicted_for_all: bool,
    /// Every node.
    #[serde(flatten)]
    pub plan: Plan,
}

/// Plans of a set, one after the other.
#[derive(Default)]
pub struct Plans {
    /// What earlier variants make, by what a node is made of.
    made: BTreeSet<Digest>,
    /// The variants.
    pub cells: Vec<Planned>,
}

impl Plans {
    /// Adds a variant's plan.
    pub fn add(&mut self, cell: CellRecord, facts: &[Facts], plan: Plan) {
        let identities = identities(facts, &plan);
        let (mut shared, mut own) = (Vec::new(), (0.0, true, 0));
        for (node, identity) in plan.nodes.iter().zip(identities) {
            let Action::Run { seconds, .. } = &node.action else { continue };
            if !self.made.insert(identity) {
                shared.push(node.name.clone());
                continue;
            }
            own.2 += 1;
            match seconds {
                Some(seconds) => own.0 += seconds,
                None => own.1 = false,
            }
        }
        self.cells.push(Planned {
            cell,
            hits: plan.hits(),
            work: own.2,
            shared,
            predicted_seconds: own.0,
            predicted_for_all: own.1,
            plan,
        });
    }

    /// How many nodes run in all.
    pub fn work(&self) -> usize {
        self.cells.iter().map(|cell| cell.work).sum()
    }

    /// A line a variant, and the sum.
    pub fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["cell", "hits", "run", "shared", "cost", "why"]);
        for cell in &self.cells {
            table.add_row([
                cell.cell.label(),
                cell.hits.to_string(),
                cell.work.to_string(),
                cell.shared.len().to_string(),
                cost(cell.work, cell.predicted_seconds, cell.predicted_for_all),
                why(cell),
            ]);
        }
        for column in table.column_iter_mut().skip(1).take(4) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let lines = table.to_string();
        let lines: Vec<&str> = lines.lines().map(str::trim_end).collect();
        let sum: f64 = self.cells.iter().map(|cell| cell.predicted_seconds).sum();
        let complete = self.cells.iter().all(|cell| cell.predicted_for_all);
        let cost = match cost(self.work(), sum, complete) {
            text if text.is_empty() => text,
            text => format!(" ({text})"),
        };
        let cells = counted(self.cells.len(), "cell");
        format!("{}\n{cells}, {} to run{cost}", lines.join("\n"), counted(self.work(), "node"))
    }
}

/// `1 cell`, `2 cells`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn cost(work: usize, seconds: f64, complete: bool) -> String {
    match (work, complete) {
        (0, _) => String::new(),
        (_, true) => duration(seconds),
        (_, false) if seconds > 0.0 => format!("over {}", duration(seconds)),
        _ => "?".to_owned(),
    }
}

/// The first nodes that run for a reason of their own.
fn why(cell: &Planned) -> String {
    let own = cell.plan.nodes.iter().find_map(|node| match &node.action {
        Action::Run { reason, .. } if !cell.shared.contains(&node.name) => Some((node, reason)),
        _ => None,
    });
    match own {
        // What differs besides the inputs says more than for whom the node waits.
        Some((node, RunReason::Upstream { changes, .. })) if !changes.is_empty() => {
            format!("{}: {}", node.name, changes[0])
        }
        Some((node, reason)) => format!("{}: {reason}", node.name),
        None => String::new(),
    }
}

/// What every node is made of: its key, where upstream nodes that have yet to run stand for what they will give.
fn identities(facts: &[Facts], plan: &Plan) -> Vec<Digest> {
    let mut identities: Vec<Digest> = Vec::with_capacity(facts.len());
    let mut outputs: HashMap<(usize, &str), Digest> = HashMap::new();
    for (place, fact) in facts.iter().enumerate() {
        let digests: Vec<Digest> = fact
            .inputs
            .iter()
            .map(|input| match &plan.nodes[input.from].action {
                Action::Hit { trace } if trace.outputs.contains_key(&input.output) => {
                    trace.outputs[&input.output]
                }
                _ => *outputs.entry((input.from, &input.output)).or_insert_with(|| {
                    let mut writer = DigestWriter::new("heddle expected output 1");
                    writer.str(&identities[input.from].to_string()).str(&input.output);
                    writer.finish()
                }),
            })
            .collect();
        debug_assert_eq!(place, identities.len());
        identities.push(KeyParts::new(fact, &digests).digest());
    }
    identities
}
