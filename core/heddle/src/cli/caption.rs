//! `heddle caption`: captions for image files.

use std::path::Path;

use heddle_data::image::{DecodeLimits, ImageSpec, decode, preprocess};
use heddle_tensor::HostTensor;
use serde_json::json;

use super::{
    args::{CaptionOptions, Common},
    exit::{Exit, Failure},
    finished::{artifact, find_node, sources},
    home, output,
    prepare::{Asked, Prepared},
};
use crate::{
    device::on_backend,
    nodes::{Records, read_tokenizer},
    project,
};

/// What a captioner needs of a run.
const PORTS: [&str; 3] = ["weights", "tokenizer", "records"];

/// Runs the command: every image is read before any caption is written.
pub fn run(options: &CaptionOptions, common: &Common) -> Result<Exit, Failure> {
    let project = project::load(&options.file, &options.set)?;
    let id = find_node(&project.graph, options.node.as_deref(), "eval.caption", |node| {
        node.captioner().is_some()
    })?;
    let nodes = sources(&project.graph, id, &PORTS);
    let home = home::of_experiment(common, &options.file);
    let asked = Asked::finished(&nodes, options.wait, options.threads);
    let ready = Prepared::new(project, &home, &format!("caption {}", options.file), asked)?;
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
            captioner.write(&loaded, &tokenizer, &images, seed)
        })
    })?;
    for (image, caption) in options.images.iter().zip(captions) {
        let image = image.display().to_string();
        output::result(&match (options.json, options.images.len()) {
            (true, _) => json!({ "image": image, "caption": caption }).to_string(),
            (false, 1) => caption,
            (false, _) => format!("{image}\t{caption}"),
        });
    }
    Ok(Exit::Done)
}

/// Images `[n,3,H,W]` as the model was trained on them.
fn read_images(files: &[impl AsRef<Path>], spec: &ImageSpec) -> Result<HostTensor, Failure> {
    let [height, width] = spec.size.map(|side| side as usize);
    let mut data = Vec::with_capacity(files.len() * 3 * height * width);
    for file in files.iter().map(AsRef::as_ref) {
        let bytes = std::fs::read(file).map_err(Failure::io(format!("reading {}", file.display())))?;
        let image = decode(&bytes, &DecodeLimits::default())
            .map_err(|error| Failure::Other(format!("{}: {error}", file.display())))?;
        data.extend(preprocess(&image, spec));
    }
    Ok(HostTensor { shape: vec![files.len(), 3, height, width], data })
}
