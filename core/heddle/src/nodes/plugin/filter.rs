//! `data.filter`: a plugin keeps or drops records.

use heddle_graph::{
    config::Reader,
    graph::{InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};
use heddle_plugin::World;

use super::{
    calls::Calls,
    settings::{OnError, Plugged},
};
use crate::{
    exec::{NodeError, Outputs, RunContext, Weight},
    model::Models,
    nodes::{
        Node,
        data::{Records, Sieve, records_in, sieve_ports},
    },
};

/// The kind.
pub struct Filter;

struct Plug {
    plugged: Plugged,
}

impl Kind<dyn Node, Models> for Filter {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.filter",
            version: 1,
            summary: "keeps the records that a plugin keeps",
            details: "The plugin is a WebAssembly component of the world `filter-plugin` (plugins/README.md). It sees the \
                      columns that it declares, in chunks, and nothing else. `records` has what it keeps, `dropped` the \
                      rest with the column `reason`. Verdicts are kept for every chunk of records under the plugin's \
                      digest, its config and the chunk, so that a change upstream costs the chunks that changed.",
            example: "[nodes.clean]\nkind = \"data.filter\"\nin = \"pairs\"\nplugin = \"embedded:plugins/caption-length.wasm\"\n\
                      config = { min_words = 2 }\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        Box::new(Plug { plugged: Plugged::read(r, World::Filter) })
    }
}

impl NodeSpec for Plug {
    fn inputs(&self) -> Vec<InPort> {
        records_in("records that the plugin sees, in chunks")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(sieve_ports(inputs))
    }
}

impl Node for Plug {
    fn uses_seed(&self) -> bool {
        true
    }

    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let records = Records::read(cx.input("records")?)?;
        let mut calls = Calls::new(cx, &self.plugged, &records)?;
        let reasons: Vec<String> =
            self.plugged.plugin()?.description().reasons.iter().map(|reason| reason.code.clone()).collect();
        let (footer, schema) = (&*records.manifest.footer, records.manifest.schema());
        let mut sieve = Sieve::new(cx, calls.name(), schema, footer)?;
        let on_error = self.plugged.on_error;
        calls.run(
            |session, batch| session.filter(batch),
            |(chunk, codes)| {
                let codes = match (codes, on_error) {
                    (Some(codes), _) => codes,
                    (None, OnError::Keep) => vec![0; chunk.num_rows()],
                    // One behind the last reason.
                    (None, _) => vec![reasons.len() as u8 + 1; chunk.num_rows()],
                };
                let reason = |code: &u8| {
                    let place = code.checked_sub(1)?;
                    Some(reasons.get(usize::from(place)).map_or("plugin-failed", String::as_str))
                };
                sieve.write(&chunk, &codes.iter().map(reason).collect::<Vec<_>>())
            },
        )?;
        sieve.finish()
    }
}
