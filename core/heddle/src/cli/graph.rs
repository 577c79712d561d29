//! `heddle graph`: the DAG as Mermaid or Graphviz text.

use heddle_graph::config::{FileKind, file_kind};

use super::{
    args::{DrawFormat, GraphOptions},
    exit::{Exit, Failure},
    output,
};
use crate::{files, project};

/// Runs the command.
pub fn run(options: &GraphOptions) -> Result<Exit, Failure> {
    let text = files::read(&options.file)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let drawing = match file_kind(&text) {
        FileKind::Experiment => {
            let project = project::load(&options.file, &options.set)?;
            match options.format {
                DrawFormat::Mermaid => project.graph.to_mermaid(),
                DrawFormat::Dot => project.graph.to_dot(),
            }
        }
        FileKind::ModelGraph => {
            let model = project::load_model(&options.file, &options.set)?;
            match options.format {
                DrawFormat::Mermaid => model.graph().to_mermaid(),
                DrawFormat::Dot => model.graph().to_dot(),
            }
        }
    };
    output::result(&drawing);
    Ok(Exit::Done)
}
