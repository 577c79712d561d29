//! `heddle graph`: the DAG as Mermaid, Graphviz text or a picture; a stage's model graph with its cut.

use heddle_graph::{
    config::{FileKind, file_kind},
    graph::{Graph, NodeId, Paint},
    plan::{Action, Plan},
};
use layout::{
    backends::svg::SVGWriter,
    gv::{DotParser, GraphBuilder},
};

use super::{
    args::{Common, DrawFormat, GraphOptions},
    cut,
    exit::{Exit, Failure},
    output, plan,
};
use crate::{
    files,
    project::{self, Project},
};

/// Runs the command.
pub fn run(options: &GraphOptions, common: &Common) -> Result<Exit, Failure> {
    let text = files::read(&options.file)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let plain = |_: NodeId| Paint::default();
    let drawing = match file_kind(&text) {
        FileKind::Experiment => {
            let project = project::load(&options.file, &options.set)?;
            match &options.cut {
                Some(node) => of_cut(&project, node, options.format)?,
                None if options.plan => {
                    let planned = plan::of_file(&project, &options.file, &options.caches, common)?;
                    draw(&project.graph, options.format, &|id| of_plan(&planned, id))?
                }
                None => draw(&project.graph, options.format, &plain)?,
            }
        }
        FileKind::ModelGraph if options.cut.is_some() || options.plan => {
            let message =
                "`--cut` and `--plan` are of experiments: what learns in a model graph is a stage's affair";
            return Err(Failure::Other(message.to_owned()));
        }
        FileKind::ModelGraph => {
            let model = project::load_model(&options.file, &options.set)?;
            draw(model.graph(), options.format, &plain)?
        }
    };
    output::result(&drawing);
    Ok(Exit::Done)
}

/// The model graph of a node, painted by what is frozen in it.
fn of_cut(project: &Project, node: &str, format: DrawFormat) -> Result<String, Failure> {
    let graph = &project.graph;
    let cut_of = |id: NodeId| Some((graph.node(id).spec.model()?.clone(), graph.node(id).spec.cut()?));
    let found = graph.find(node).and_then(cut_of);
    let Some((model, cut)) = found else {
        let known: Vec<&str> =
            graph.ids().filter(|id| cut_of(*id).is_some()).map(|id| &*graph.node(id).name).collect();
        let message = format!("`{node}` is no node whose model graph is cut; there are {}", known.join(", "));
        return Err(Failure::Other(message));
    };
    draw(model.graph(), format, &|id| cut::paint(&model, &cut, id))
}

fn of_plan(plan: &Plan, id: NodeId) -> Paint {
    match plan.nodes.get(id.index()).map(|node| &node.action) {
        Some(Action::Hit { .. }) => Paint { fill: Some(cut::HIT), note: None },
        Some(Action::Run { reason, .. }) => Paint { fill: Some(cut::MISS), note: Some(reason.to_string()) },
        Some(Action::Skip) | None => Paint::default(),
    }
}

fn draw<N: ?Sized>(
    graph: &Graph<N>,
    format: DrawFormat,
    paint: &dyn Fn(NodeId) -> Paint,
) -> Result<String, Failure> {
    match format {
        DrawFormat::Mermaid => Ok(graph.to_mermaid(paint)),
        DrawFormat::Dot => Ok(graph.to_dot(paint)),
        DrawFormat::Svg => svg(&graph.to_dot(paint)),
    }
}

fn svg(dot: &str) -> Result<String, Failure> {
    let parsed = DotParser::new(dot).process();
    let parsed = parsed.map_err(|error| Failure::Other(format!("the drawing does not read: {error}")))?;
    let mut builder = GraphBuilder::new();
    builder.visit_graph(&parsed);
    let mut writer = SVGWriter::new();
    builder.get().do_it(false, false, false, &mut writer);
    Ok(writer.finalize())
}
