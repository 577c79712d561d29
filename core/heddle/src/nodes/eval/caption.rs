//! `eval.caption`: captions that a model writes, against references.

use std::{collections::BTreeSet, sync::Arc};

use heddle_data::{Record, text::Tokenizer};
use heddle_graph::{
    config::Reader,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use heddle_tensor::Backend;
use indexmap::IndexMap;

use super::{
    cider::{cider, tokenised},
    labels::by_split,
    measure::{Measurement, Metrics},
};
use crate::{
    device::{Need, on_backend},
    exec::{NodeError, Outputs, RunContext, Weight},
    model::{Cut, ModelGraph, Models},
    nodes::{
        Node, SeeFrozen,
        data::{Records, column_texts, read_templates},
        towers::{
            Captioner, Loaded, Seen, check_images, check_vocabulary, model_ports, read_captioner,
            read_languages, read_tokenizer,
        },
    },
};

/// The kind.
pub struct Caption;

struct Eval {
    captioner: Captioner,
    references: Vec<String>,
    templates: IndexMap<String, Vec<String>>,
    batch: usize,
}

impl Kind<dyn Node, Models> for Caption {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "eval.caption",
            version: 1,
            summary: "captions that a model writes: CIDEr, and how many say just what a reference says",
            details: "Writes a caption for every record's image and compares it with the references: the texts of `languages`, \
                      each in each template. `CIDEr` is x 100, as tables have it, on lower-case words without punctuation \
                      (COCO caption tools); `exact` is the share, in per cent, that equals a reference; by split. The output \
                      `captions` has a JSON line for each record. `output` names the scores of a decoder (`write.logits`); \
                      its prompt is the prefix of the text input that it reads (`English caption:`).",
            example: "[nodes.captions]\nkind = \"eval.caption\"\ngraph = \"../graphs/internvl-g.toml\"\nweights = \"stage2\"\n\
                      in = { records = \"heldout\", tokenizer = \"bpe\" }\nbeams = 5\nmax-new = 30\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, models: &Models) -> Box<dyn Node> {
        let references = read_languages(r);
        Box::new(Eval {
            captioner: read_captioner(r, models, "caption"),
            templates: read_templates(r, &references),
            references,
            batch: r
                .field("batch", "records a pass")
                .min(1)
                .max(1 << 16)
                .not_in_key("a record's caption does not depend on its batch")
                .or(64),
        })
    }
}

impl NodeSpec for Eval {
    fn inputs(&self) -> Vec<InPort> {
        model_ports("images with references; their column `split` groups the results")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        if let Some(graph) = &self.captioner.graph {
            check_images(graph, inputs)?;
            check_vocabulary(graph, inputs)?;
        }
        Ok(vec![
            OutPort::new("metrics", PortType::plain(Class::Metrics)),
            OutPort::new("captions.jsonl", PortType::plain(Class::Table)),
        ])
    }
}

impl Node for Eval {
    fn uses_seed(&self) -> bool {
        self.captioner.writing.is_random()
    }

    fn model(&self) -> Option<&Arc<ModelGraph>> {
        self.captioner.graph.as_ref()
    }

    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn need(&self) -> Option<Need> {
        Some(self.captioner.need(self.batch))
    }

    fn memory_bytes(&self) -> u64 {
        self.captioner.memory_bytes()
    }

    fn captioner(&self) -> Option<&Captioner> {
        Some(&self.captioner)
    }

    fn cut(&self) -> Option<Cut> {
        self.captioner.cut()
    }

    fn frozen(&self, cx: &RunContext<'_>, see: &mut SeeFrozen<'_>) -> Result<(), NodeError> {
        self.captioner.see_frozen(cx, self.batch, see)
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let records = Records::read(cx.input("records")?)?;
        let all = records.collect()?;
        let tokenizer = read_tokenizer(cx.input("tokenizer")?)?;
        let captions = on_backend!(cx.compute.open(self.captioner.need(self.batch))?, |backend| {
            let loaded = self.captioner.load(cx.input("weights")?, backend)?;
            self.captions(cx, &loaded, &tokenizer, &records, &all)?
        });
        let metrics = Metrics { measurements: self.scores(&all, &captions), ..Metrics::default() };
        let line = |(record, caption): (&Record, &Option<String>)| {
            let line = serde_json::json!({ "key": record.key, "caption": caption });
            format!("{line}\n")
        };
        let lines: String = all.iter().zip(&captions).map(line).collect();
        Ok(Outputs::from([
            ("metrics".to_owned(), metrics.to_bytes()?.into()),
            ("captions.jsonl".to_owned(), lines.into_bytes().into()),
        ]))
    }
}

impl Eval {
    /// A caption for each record, none where the image does not decode.
    fn captions<B: Backend>(
        &self,
        cx: &RunContext<'_>,
        loaded: &Loaded<B>,
        tokenizer: &Tokenizer,
        records: &Records,
        all: &[Record],
    ) -> Result<Vec<Option<String>>, NodeError> {
        let need = self.captioner.need(self.batch);
        let seen = Seen::open(cx, loaded, records, &self.captioner.reads()?, need)?;
        let mut captions = Vec::new();
        for chunk in all.chunks(self.batch) {
            cx.check_cancelled()?;
            let done = captions.len();
            cx.progress.set(done as u64, all.len() as u64, "");
            let mut images = seen.batch(loaded.backend(), chunk)?;
            let broken = std::mem::take(&mut images.broken);
            let seed = cx.seed.wrapping_add(done as u64);
            captions.extend(self.captioner.write(loaded, tokenizer, images, seed)?.into_iter().map(Some));
            for (place, reason) in broken {
                cx.progress.note(format!("skipped: {reason}"));
                captions[done + place] = None;
            }
        }
        Ok(captions)
    }

    /// CIDEr and exact matches, by split.
    fn scores(&self, all: &[Record], captions: &[Option<String>]) -> Vec<Measurement> {
        let mut measurements = Vec::new();
        for (split, members) in by_split(all, |index, _| captions[index].is_some()) {
            let found: Vec<String> =
                members.iter().filter_map(|(index, _)| captions[*index].as_deref().map(tokenised)).collect();
            let references: Vec<Vec<String>> =
                members.iter().map(|(_, record)| self.references(record)).collect();
            let exact = found.iter().zip(&references).filter(|(found, right)| right.contains(found)).count();
            let different: BTreeSet<&String> = references.iter().filter_map(|texts| texts.first()).collect();
            let scores = cider(&found, &references);
            let base = Measurement {
                n: found.len(),
                ..Measurement::of("caption", "", &split, &self.references.join(", "), different.len())
            };
            let share = |count: f64| 100.0 * count / found.len().max(1) as f64;
            for (metric, value) in [("CIDEr", share(scores.iter().sum())), ("exact", share(exact as f64))] {
                measurements.push(Measurement { metric: metric.to_owned(), value, ..base.clone() });
            }
        }
        measurements
    }

    /// What a record's caption may say.
    fn references(&self, record: &Record) -> Vec<String> {
        let mut references = Vec::new();
        for language in &self.references {
            for text in column_texts(record, language) {
                let templates = self.templates.get(language).map_or(&[][..], Vec::as_slice);
                references.extend(templates.iter().map(|template| tokenised(&template.replace("{}", &text))));
            }
        }
        references
    }
}
