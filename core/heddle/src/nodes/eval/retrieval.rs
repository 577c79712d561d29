//! `eval.retrieval`: images to texts and texts to images within each split.

use std::{collections::BTreeMap, sync::Arc};

use heddle_data::Record;
use heddle_graph::{
    config::Reader,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use rayon::prelude::*;

use super::{
    labels::{Splits, by_split, name_in, require_column},
    measure::{Measurement, Metrics, rank},
};
use crate::{
    device::Need,
    exec::{NodeError, Outputs, RunContext, Weight, output},
    model::{ModelGraph, Models},
    nodes::{
        Node,
        data::{Records, column_text},
        towers::{Features, Rows, TextSide, features_of, read_languages, text_ports},
    },
};

/// The kind.
pub struct Retrieval;

struct Eval {
    text: TextSide,
    languages: Vec<String>,
    positives: Option<String>,
    splits: Option<Vec<String>>,
}

/// The cut-offs of R@K.
const CUTOFFS: [usize; 3] = [1, 5, 10];

impl Kind<dyn Node, Models> for Retrieval {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "eval.retrieval",
            version: 2,
            summary: "image-text retrieval: R@1, R@5, R@10 both ways, per language and split",
            details: "Every record's image and text form a pair; candidates are all pairs of the record's split. R@K is \
                      the share of queries with at least one positive among the K nearest by cosine, in per cent. Pairs \
                      with an equal value of `positives` are positives of each other, as several captions of an image are.",
            example: "[nodes.retrieval]\nkind = \"eval.retrieval\"\ngraph = \"../graphs/internvl-c.toml\"\nweights = \"stage1\"\n\
                      in = { records = \"heldout\", features = \"embed\", tokenizer = \"bpe\" }\nlanguages = [\"en\"]\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, models: &Models) -> Box<dyn Node> {
        Box::new(Eval {
            text: TextSide::read(r, models),
            languages: read_languages(r),
            positives: r
                .field(
                    "positives",
                    "column whose equal values make pairs positives of each other; default: each pair alone",
                )
                .optional(),
            splits: r.field("splits", "splits that are scored; default: all").optional(),
        })
    }
}

impl NodeSpec for Eval {
    fn inputs(&self) -> Vec<InPort> {
        text_ports("pairs of image and text; their column `split` groups the results")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        self.text.check(inputs)?;
        Ok(vec![OutPort::new("metrics", PortType::plain(Class::Metrics))])
    }
}

impl Node for Eval {
    fn model(&self) -> Option<&Arc<ModelGraph>> {
        self.text.graph.as_ref()
    }

    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn need(&self) -> Option<Need> {
        Some(self.text.need())
    }

    fn memory_bytes(&self) -> u64 {
        self.text.memory_bytes()
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let records = Records::read(cx.input("records")?)?;
        let features = features_of(cx, &records)?;
        let encode = self.text.encoder(cx)?;
        let all = records.collect()?;
        let splits = self.splits(&all, &features)?;
        let mut metrics = Metrics { notes: features.notes(), ..Metrics::default() };
        for language in &self.languages {
            for (split, members) in &splits {
                cx.check_cancelled()?;
                let texts: Vec<String> =
                    members.iter().map(|(_, record)| name_in(record, language)).collect::<Result<_, _>>()?;
                let texts = encode.texts(cx, &texts)?;
                let images = members.iter().filter_map(|(index, _)| features.row(*index)).flatten();
                let images = Rows { width: texts.width, data: images.copied().collect() };
                let ids = self.positive_ids(members);
                for (direction, queries, answers) in [("i2t", &images, &texts), ("t2i", &texts, &images)] {
                    let ranks = ranks(queries, answers, &ids);
                    let base = Measurement::of("retrieval", "", split, language, ranks.len());
                    metrics.measurements.extend(CUTOFFS.iter().map(|cutoff| Measurement {
                        metric: format!("{direction} R@{cutoff}"),
                        value: 100.0 * ranks.iter().filter(|rank| *rank < cutoff).count() as f64
                            / ranks.len() as f64,
                        n: ranks.len(),
                        ..base.clone()
                    }));
                }
            }
        }
        Ok(output("metrics", metrics.to_bytes()?))
    }
}

impl Eval {
    /// The records that have features, by split, those splits that are wanted.
    fn splits<'a>(&self, records: &'a [Record], features: &Features) -> Result<Splits<'a>, NodeError> {
        if let Some(column) = &self.positives {
            require_column(records, column)?;
        }
        let all = by_split(records, |index, _| features.row(index).is_some());
        let Some(wanted) = &self.splits else { return Ok(all) };
        if let Some(missing) = wanted.iter().find(|split| !all.contains_key(*split)) {
            let there: Vec<&str> = all.keys().map(String::as_str).collect();
            return Err(NodeError::Other(format!(
                "no record has the split `{missing}`; there are {}",
                there.join(", ")
            )));
        }
        Ok(all.into_iter().filter(|(split, _)| wanted.contains(split)).collect())
    }

    /// A number per pair; equal numbers are positives of each other.
    fn positive_ids(&self, members: &[(usize, &Record)]) -> Vec<usize> {
        let Some(column) = &self.positives else { return (0..members.len()).collect() };
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut id = |(place, (_, record)): (usize, &(usize, &Record))| match column_text(record, column) {
            Some(value) => *seen.entry(value).or_insert(place),
            None => place,
        };
        members.iter().enumerate().map(&mut id).collect()
    }
}

/// Per query the rank of its best positive: how many other answers come before it (ties: the earlier first).
fn ranks(queries: &Rows, answers: &Rows, ids: &[usize]) -> Vec<usize> {
    let of = |query: usize| {
        let scores = queries.row(query).map(|row| answers.scores(row)).unwrap_or_default();
        let positives = (0..scores.len()).filter(|answer| ids[*answer] == ids[query]);
        positives.map(|answer| rank(&scores, answer)).min().unwrap_or(scores.len())
    };
    (0..ids.len()).into_par_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_positive_counts() {
        // Query 0 is nearest to answer 1; they are positives of each other only if their ids agree.
        let rows = |data: &[f32]| Rows { width: 2, data: data.to_vec() };
        let queries = rows(&[1.0, 0.0, 0.0, 1.0]);
        let answers = rows(&[0.5, 0.5, 1.0, 0.0]);
        assert_eq!(ranks(&queries, &answers, &[0, 1]), [1, 1]);
        assert_eq!(ranks(&queries, &answers, &[0, 0]), [0, 0]);
    }
}
