//! What a run leaves for people: artifacts as files, measurements in the record, tables on the terminal.

use std::path::Path;

use heddle_graph::graph::Class;

use super::exit::Failure;
use crate::{
    exec::{NodeState, RunRecord, Store},
    nodes::file_name,
    project::Project,
};

/// Writes the artifacts of the run as files, notes the metrics in the record, and returns the tables to show.
pub fn artifacts(
    project: &Project,
    store: &Store,
    record: &mut RunRecord,
    dir: &Path,
) -> Result<Vec<String>, Failure> {
    let folder = dir.join("artifacts");
    std::fs::create_dir_all(&folder)
        .map_err(Failure::io(format!("making the folder {}", folder.display())))?;
    let mut tables = Vec::new();
    for id in project.graph.ids() {
        let node = project.graph.node(id);
        let done = record.nodes.iter_mut().find(|done| done.name == node.name);
        let Some(done) = done.filter(|done| matches!(done.state, NodeState::Hit | NodeState::Ran)) else {
            continue;
        };
        for port in &node.outputs {
            let Some(artifact) = done.outputs.get_mut(&port.name) else { continue };
            let bytes = store.artifact(&artifact.digest)?.ok_or_else(|| {
                Failure::Other(format!("the artifact `{}.{}` is damaged; run again", node.name, port.name))
            })?;
            let name = file_name(&node.name, &port.name, port.ty.class);
            let file = folder.join(&name);
            std::fs::write(&file, &*bytes).map_err(Failure::io(format!("writing {}", file.display())))?;
            artifact.file = Some(name);
            if port.ty.class == Class::Metrics
                && let Ok(metrics) = serde_json::from_slice(&bytes)
            {
                record.metrics.insert(node.name.clone(), metrics);
            }
            if port.ty.class == Class::Table && port.name == "txt" {
                tables.push(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
    Ok(tables)
}
