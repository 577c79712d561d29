//! What the cache has of a node's records: how many rows of its frozen part, and what became of one record.

use std::collections::{BTreeSet, VecDeque};

use heddle_graph::{digest::Digest, graph::Class, suggest};
use serde::Serialize;

use super::{
    exit::Failure,
    idle::{Idle, Looked},
};
use crate::{
    exec::{NodeError, RowCount},
    nodes::{Frozen, row_key},
};

/// Rows of one output of a node's model graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// The output.
    pub output: String,
    /// How many are in the cache, and how many are not.
    #[serde(flatten)]
    pub count: RowCount,
}

/// The rows that a node needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Needed {
    /// They were counted.
    Counted(Vec<Rows>),
    /// They are not known before these nodes ran.
    Waits(Vec<String>),
}

/// Counts the rows that the node at a place needs; none if it keeps nothing of single records.
pub fn count(idle: &Idle<'_>, place: usize) -> Result<Option<Needed>, Failure> {
    let mut rows = Vec::new();
    let looked = idle.see(place, |part| {
        let kept = part.kept();
        let there = part.looks().iter().filter(|look| kept.contains(&look.key)).count() as u64;
        let count = RowCount { hit: there, new: part.looks().len() as u64 - there };
        rows = part.names().iter().map(|output| Rows { output: output.clone(), count }).collect();
        Ok(())
    })?;
    Ok(match looked {
        Looked::Done => Some(Needed::Counted(rows)),
        Looked::Waits(nodes) => Some(Needed::Waits(nodes)),
        Looked::NothingKept => None,
    })
}

/// What became of a record on its way to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordRows {
    /// Its key.
    pub record: String,
    /// The node that left it out, if it does not arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out_by: Option<String>,
    /// Digest of its picture, if it arrives and has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picture: Option<Digest>,
    /// Its rows, by output and view.
    pub rows: Vec<RecordRow>,
}

/// A row of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordRow {
    /// The output of the node's model graph.
    pub output: String,
    /// The view of the picture.
    pub view: u64,
    /// The row's key within its set.
    pub key: Digest,
    /// Whether the cache has it.
    pub hit: bool,
}

/// Follows a record to the node at a place.
pub fn follow(idle: &Idle<'_>, place: usize, key: &str) -> Result<RecordRows, Failure> {
    let mut found = RecordRows { record: key.to_owned(), left_out_by: None, picture: None, rows: Vec::new() };
    let mut arriving: Vec<String> = Vec::new();
    // The nodes on the way, from the last one back.
    let (mut open, mut seen) = (VecDeque::from([place]), BTreeSet::from([place]));
    let mut known = false;
    while let Some(at) = open.pop_front() {
        for (from, port) in records_inputs(idle, at) {
            let Some(records) = idle.records(from, &port)? else { continue };
            known = true;
            let mut keys = Vec::new();
            for record in records.manifest.records() {
                let record = record.map_err(NodeError::from)?;
                if record.key != key {
                    keys.push(record.key);
                    continue;
                }
                if at == place {
                    found.picture = record.image().map(|part| Digest::from_bytes(part.digest));
                    found.rows = rows_of(idle, place, record.image().map(|part| part.digest))?;
                } else {
                    found.left_out_by = Some(idle.facts[at].name.clone());
                }
                return Ok(found);
            }
            arriving.extend(keys);
            if seen.insert(from) {
                open.push_back(from);
            }
        }
    }
    let name = &idle.facts[place].name;
    if !known {
        return Err(Failure::Other(format!(
            "the records of `{name}` are not in the cache yet: run it first"
        )));
    }
    let near = suggest::help(key, arriving.iter().map(String::as_str));
    let near = near.map(|help| format!("; {help}")).unwrap_or_default();
    Err(Failure::Other(format!("no record upstream of `{name}` has the key `{key}`{near}")))
}

/// The nodes and ports from which a node takes records.
fn records_inputs(idle: &Idle<'_>, place: usize) -> Vec<(usize, String)> {
    let is_records = |from: usize, port: &str| {
        let outputs = &idle.project.graph.node(idle.id(from)).outputs;
        outputs.iter().any(|output| output.name == port && output.ty.class == Class::Records)
    };
    let inputs = idle.facts[place].inputs.iter();
    let records = inputs.filter(|input| is_records(input.from, &input.output));
    records.map(|input| (input.from, input.output.clone())).collect()
}

fn rows_of(idle: &Idle<'_>, place: usize, picture: Option<[u8; 32]>) -> Result<Vec<RecordRow>, Failure> {
    let Some(picture) = picture else { return Ok(Vec::new()) };
    let mut rows = Vec::new();
    idle.see(place, |part: &dyn Frozen| {
        let own = part.looks().iter().filter(|look| look.key == row_key(&picture, look.view));
        for look in own {
            let hit = part.kept().contains(&look.key);
            let row =
                |output: &String| RecordRow { output: output.clone(), view: look.view, key: look.key, hit };
            rows.extend(part.names().iter().map(row));
        }
        Ok(())
    })?;
    Ok(rows)
}

impl RecordRows {
    /// In a few lines.
    pub fn text(&self, node: &str) -> String {
        let Self { record, left_out_by, picture, rows } = self;
        if let Some(by) = left_out_by {
            return format!("record {record} does not reach {node}: {by} left it out");
        }
        let mut text = format!("record {record} reaches {node}");
        if picture.is_none() {
            text.push_str(", and has no picture");
        }
        for RecordRow { output, view, hit, .. } in rows {
            let view = if rows.len() > 1 { format!(", view {view}") } else { String::new() };
            text.push_str(&format!("\n  {output}{view}: {}", if *hit { "hit" } else { "new" }));
        }
        text
    }
}
