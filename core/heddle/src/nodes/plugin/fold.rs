//! `data.fold`: statistics that a plugin gathers over all records.

use heddle_graph::{
    config::Reader,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use heddle_plugin::World;

use super::{
    calls::{Calls, Partial, pretty},
    settings::Plugged,
};
use crate::{
    exec::{NodeError, Outputs, RunContext, Weight, output},
    model::Models,
    nodes::{
        Node,
        data::{Records, records_in},
    },
};

/// The kind.
pub struct Fold;

struct Gather {
    plugged: Plugged,
}

impl Kind<dyn Node, Models> for Fold {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.fold",
            version: 1,
            summary: "statistics that a plugin gathers",
            details: "The plugin is a component of the world `fold-plugin`. Every chunk of records has an instance of its \
                      own; their partial results are merged in the order of the records, so the result does not depend on \
                      threads. `json` is what the plugin makes of all.",
            example: "[nodes.statistics]\nkind = \"data.fold\"\nin = \"pairs\"\nplugin = \"embedded:plugins/caption-statistics.wasm\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        Box::new(Gather { plugged: Plugged::read(r, World::Fold) })
    }
}

impl NodeSpec for Gather {
    fn inputs(&self) -> Vec<InPort> {
        records_in("records that the plugin sees, in chunks")
    }

    fn infer(&self, _: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(vec![OutPort::new("json", PortType::plain(Class::Table))])
    }
}

impl Node for Gather {
    fn uses_seed(&self) -> bool {
        true
    }

    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let records = Records::read(cx.input("records")?)?;
        let mut calls = Calls::new(cx, &self.plugged, &records)?;
        let mut partials: Vec<Partial> = Vec::new();
        calls.run(
            |session, batch| {
                let answer = session.fold(batch)?;
                Ok(heddle_plugin::Answer {
                    value: Partial(answer.value),
                    said: answer.said,
                    fuel: answer.fuel,
                })
            },
            |(_, partial)| {
                partials.extend(partial);
                Ok(())
            },
        )?;
        let partials = partials.iter().map(|partial| partial.0.as_slice());
        let result = calls.session().finish(partials).map_err(NodeError::data)?;
        Ok(output("json", pretty(&result.value)?))
    }
}
