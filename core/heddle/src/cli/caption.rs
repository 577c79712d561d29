//! `heddle caption`: captions for image files.

use serde_json::json;

use super::{
    args::{CaptionOptions, Common},
    exit::{Exit, Failure},
    finished::{artifact, find_node, read_images, sources},
    home, output,
    prepare::{Asked, Prepared},
};
use crate::{
    device::on_backend,
    nodes::{Records, SeenBatch, read_tokenizer},
    project,
};

/// What a captioner needs of a run.
const PORTS: [&str; 3] = ["weights", "tokenizer", "records"];

/// Runs the command: every image is read before any caption is written.
pub fn run(options: &CaptionOptions, common: &Common) -> Result<Exit, Failure> {
    let project = project::load(&options.run.file, &options.run.set)?;
    let id = find_node(&project.graph, options.node.as_deref(), "eval.caption", |node| {
        node.captioner().is_some()
    })?;
    let nodes = sources(&project.graph, id, &PORTS);
    let home = home::of_experiment(common, &options.run.file);
    let asked = Asked::finished(&nodes, &options.run);
    let ready = Prepared::new(project, &home, &format!("caption {}", options.run.file), asked)?;
    let artifact = |port: &str| artifact(&ready, id, port, true);
    let (weights, tokenizer, records) = (artifact("weights")?, artifact("tokenizer")?, artifact("records")?);
    let tokenizer = read_tokenizer(&tokenizer)?;
    let images = read_images(&options.images, &Records::read(&records)?.settings.image)?;
    let graph = &ready.project.graph;
    let captioner = graph.node(id).spec.captioner();
    let captioner = captioner.ok_or_else(|| Failure::Other("the node writes no captions".to_owned()))?;
    let seed = ready.project.experiment.seed;
    let captions = ready.pool.install(|| {
        let opened = ready.compute.open(captioner.need(options.images.len()));
        on_backend!(opened.map_err(crate::exec::NodeError::from)?, |backend| {
            let loaded = captioner.load(&weights, backend)?;
            captioner.write(&loaded, &tokenizer, SeenBatch::images(&loaded, &images)?, seed)
        })
    })?;
    for (image, caption) in options.images.iter().zip(captions) {
        let image = image.display().to_string();
        output::result(&match (options.json, options.images.len()) {
            (true, _) => json!({ "image": image, "caption": caption }).to_string(),
            (false, 1) => output::printable(&caption),
            (false, _) => output::printable(&format!("{image}: {caption}")),
        });
    }
    Ok(Exit::Done)
}
