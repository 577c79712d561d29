//! `data.concat`: several sets of records one after the other.

use heddle_data::{ManifestWriter, manifest::Union};
use heddle_graph::{
    config::Reader,
    graph::{InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};

use super::{Several, same_images, several_records_in};
use crate::{
    exec::{NodeError, Output, Outputs, RunContext},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct Concat;

struct OneAfterAnother;

impl Kind<dyn Node, Models> for Concat {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.concat",
            version: 1,
            summary: "several sets of records, one after the other",
            details: "Columns are those of all; a record has no value in a column that its set lacks. Columns of one name have \
                      one type: whole and other numbers become numbers, objects get the fields of both, anything else is an \
                      error that names the sets. Images are read as the first set says.",
            example: "[nodes.all]\nkind = \"data.concat\"\nin = [\"pairs\", \"heldout\"]\n",
        }
    }

    fn read(&self, _: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        Box::new(OneAfterAnother)
    }
}

impl NodeSpec for OneAfterAnother {
    fn inputs(&self) -> Vec<InPort> {
        several_records_in("sets of records, in order")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        same_images(inputs)
    }
}

impl Node for OneAfterAnother {
    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let sets = Several::read(cx)?;
        let union = Union::new(&sets.named()).map_err(NodeError::data)?;
        let mut out = ManifestWriter::new(cx.writer()?, union.schema.clone(), union.footer.clone())?;
        for (place, set) in sets.sets.iter().enumerate() {
            for batch in set.records.manifest.batches() {
                cx.check_cancelled()?;
                out.write(union.batch(place, &batch?)?)?;
            }
        }
        cx.progress.note(format!("{} records", out.rows()));
        Ok(Outputs::from([("records".to_owned(), Output::Kept(out.finish()?.finish()?))]))
    }
}
