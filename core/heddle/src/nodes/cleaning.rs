//! `report.cleaning`: what filters kept and dropped, as Table 2 of the InternVL paper shows it.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use heddle_data::manifest::{Step, TruthCount};
use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, Place, PortType},
};
use indexmap::IndexMap;
use serde::Serialize;

use crate::{
    exec::{NodeError, Outputs, RunContext},
    model::Models,
    nodes::{Node, data::Records},
};

/// The kind.
pub struct Cleaning;

struct Writer {
    title: String,
    finds: IndexMap<String, Vec<String>>,
}

impl Kind<dyn Node, Models> for Cleaning {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "report.cleaning",
            version: 1,
            summary: "original, cleaned and remaining records by source, and what each rule dropped",
            details: "After Table 2 of the InternVL paper. Inputs are what is left behind a chain of filters, labelled by rule \
                      set: `in = { records = { stage1 = \"a\", stage2 = \"b\" } }`. Where records have the column `dirt` (`data.dirt`), each \
                      rule is held against what it should find: `finds = { gibberish = [\"noise\"] }`. Precision is the share \
                      of what it dropped that is such dirt, recall the share of such dirt that came to it and was dropped. \
                      `txt` is for the terminal, `csv` has a row per rule set, rule, source and reason, `json` everything.",
            example: "[nodes.report]\nkind = \"report.cleaning\"\nin = { records = { stage1 = \"pairs\" } }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        Box::new(Writer {
            title: r.field("title", "heading of the report").or("Cleaning".to_owned()),
            finds: r.map("finds", "kinds of known dirt that a rule should find, by its name"),
        })
    }
}

impl NodeSpec for Writer {
    fn inputs(&self) -> Vec<InPort> {
        vec![InPort {
            name: "records",
            classes: vec![Class::Records],
            arity: Arity::Many,
            place: Place::In,
            help: "what is left behind each chain of filters",
        }]
    }

    fn infer(&self, _: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(["txt", "csv", "json"].map(|port| OutPort::new(port, PortType::plain(Class::Table))).into())
    }
}

/// One rule set.
#[derive(Serialize)]
struct Set {
    name: String,
    steps: Vec<Step>,
    totals: Vec<Total>,
    rules: Vec<Rule>,
}

/// One source through one rule set.
#[derive(Serialize)]
struct Total {
    source: String,
    original: u64,
    cleaned: u64,
    remain_percent: f64,
}

/// One rule against known dirt.
#[derive(Serialize)]
struct Rule {
    rule: String,
    finds: Vec<String>,
    dropped: u64,
    right: u64,
    there: u64,
    precision_percent: Option<f64>,
    recall_percent: Option<f64>,
}

impl Node for Writer {
    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let mut sets = Vec::new();
        for (place, artifact) in cx.all("records").iter().enumerate() {
            let name = artifact.label.clone().unwrap_or_else(|| format!("rule set {}", place + 1));
            let steps = Records::read(artifact)?.manifest.footer.steps.clone();
            sets.push(Set { totals: totals(&steps), rules: self.rules(&steps), name, steps });
        }
        let unused: Vec<&str> = self
            .finds
            .keys()
            .map(String::as_str)
            .filter(|rule| sets.iter().all(|set| set.steps.iter().all(|step| step.rule != *rule)))
            .collect();
        if !unused.is_empty() {
            let mut known: Vec<&str> =
                sets.iter().flat_map(|set| set.steps.iter().map(|step| step.rule.as_str())).collect();
            known.sort_unstable();
            known.dedup();
            return Err(NodeError::Other(format!(
                "`finds` names {}, which is no rule of these records; there are {}",
                unused.join(", "),
                known.join(", ")
            )));
        }
        let json = serde_json::to_vec_pretty(&sets).map_err(NodeError::data)?;
        Ok(Outputs::from([
            ("txt".to_owned(), text(&self.title, &sets).into_bytes().into()),
            ("csv".to_owned(), csv(&sets)?.into()),
            ("json".to_owned(), json.into()),
        ]))
    }
}

impl Writer {
    /// Every rule that should find something, against what is known.
    fn rules(&self, steps: &[Step]) -> Vec<Rule> {
        let rule = |step: &Step| {
            let finds = self.finds.get(&step.rule)?.clone();
            let found = |count: &dyn Fn(&TruthCount) -> u64, of: &dyn Fn(&str) -> bool| -> u64 {
                step.truth.iter().filter(|(kind, _)| of(kind)).map(|(_, counts)| count(counts)).sum()
            };
            let wanted = |kind: &str| finds.iter().any(|name| name == kind);
            let dropped = found(&|counts| counts.dropped, &|_| true);
            let right = found(&|counts| counts.dropped, &wanted);
            let there = found(&|counts| counts.original, &wanted);
            let share = |of: u64| (of > 0).then(|| 100.0 * right as f64 / of as f64);
            Some(Rule {
                rule: step.rule.clone(),
                dropped,
                right,
                there,
                precision_percent: share(dropped),
                recall_percent: share(there),
                finds,
            })
        };
        steps.iter().filter_map(rule).collect()
    }
}

/// What came to the first rule and what the last one left, by source.
fn totals(steps: &[Step]) -> Vec<Total> {
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Vec::new() };
    let line = |source: &str, original: u64, cleaned: u64| Total {
        source: source.to_owned(),
        original,
        cleaned,
        remain_percent: if original == 0 { 0.0 } else { 100.0 * cleaned as f64 / original as f64 },
    };
    let of = |source: &String| last.sources.get(source).map_or(0, |counts| counts.kept);
    let mut lines: Vec<Total> =
        first.sources.iter().map(|(source, counts)| line(source, counts.original, of(source))).collect();
    lines.push(line("all", first.totals().0, last.totals().1));
    lines
}

fn table(header: &[&str], right: std::ops::Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn text(title: &str, sets: &[Set]) -> String {
    let percent = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1} %"));
    let mut text = format!("{title}\n");
    for set in sets {
        text.push_str(&format!("\n{}\n", set.name));
        let mut sources = table(&["source", "original", "cleaned", "remain"], 1..4);
        for total in &set.totals {
            let Total { source, original, cleaned, remain_percent } = total;
            let source = if source.is_empty() { "(unnamed)" } else { source };
            sources.add_row([
                source.to_owned(),
                original.to_string(),
                cleaned.to_string(),
                format!("{remain_percent:.1} %"),
            ]);
        }
        text.push_str(&format!("{sources}\n\n"));
        let mut rules = table(&["rule", "came", "dropped", "reasons", "precision", "recall"], 1..3);
        for step in &set.steps {
            let (came, kept) = step.totals();
            let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
            for (reason, count) in step.sources.values().flat_map(|counts| &counts.dropped) {
                *reasons.entry(reason).or_default() += count;
            }
            let told: Vec<String> =
                reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            let held = set.rules.iter().find(|rule| rule.rule == step.rule);
            rules.add_row([
                step.rule.clone(),
                came.to_string(),
                (came - kept).to_string(),
                told.join(", "),
                percent(held.and_then(|rule| rule.precision_percent)),
                percent(held.and_then(|rule| rule.recall_percent)),
            ]);
        }
        text.push_str(&format!("{rules}\n"));
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

fn csv(sets: &[Set]) -> Result<Vec<u8>, NodeError> {
    let mut out = csv::Writer::from_writer(Vec::new());
    let mut row = |fields: [&str; 6]| out.write_record(fields).map_err(NodeError::data);
    row(["set", "rule", "source", "reason", "original", "count"])?;
    for set in sets {
        for step in &set.steps {
            for (source, counts) in &step.sources {
                let original = counts.original.to_string();
                row([&set.name, &step.rule, source, "", &original, &counts.kept.to_string()])?;
                for (reason, count) in &counts.dropped {
                    row([&set.name, &step.rule, source, reason, &original, &count.to_string()])?;
                }
            }
        }
        for rule in &set.rules {
            row([&set.name, &rule.rule, "", "known dirt", &rule.there.to_string(), &rule.right.to_string()])?;
        }
    }
    out.into_inner().map_err(|error| NodeError::Other(error.to_string()))
}
