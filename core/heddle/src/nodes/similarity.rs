//! `data.similarity`: how alike a record's image and captions are, as a column.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array};
use arrow_schema::{DataType, Field};
use heddle_data::{Caption, ManifestWriter, manifest::Added, record::FIXED_COLUMNS};
use heddle_graph::{
    config::Reader,
    graph::{InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};

use super::{
    Node,
    data::{Records, same_records},
    towers::{Features, Rows, TextSide, features_of, text_ports},
};
use crate::{
    device::Need,
    exec::{NodeError, Output, Outputs, RunContext, Weight},
    model::{ModelGraph, Models},
};

/// The kind.
pub struct Similarity;

/// Which of several captions counts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reduce {
    Max,
    Mean,
    First,
}

struct Compare {
    text: TextSide,
    column: String,
    languages: Option<Vec<String>>,
    reduce: Reduce,
}

impl Kind<dyn Node, Models> for Similarity {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.similarity",
            version: 1,
            summary: "a column with the cosine of a record's image and captions",
            details: "What CLIP scores are to web data: image features come from a `features` node over the same records, captions go \
                      through the graph's text tower, and their cosine is a column for `data.where` or a plugin such as `score-threshold` \
                      (which reads `score`) to look at. Records without a caption or whose image does not decode have no value.",
            example: "[nodes.alike]\nkind = \"data.similarity\"\ngraph = \"../graphs/internvl-c.toml\"\nweights = \"stage1\"\n\
                      in = { records = \"heldout\", features = \"embed\", tokenizer = \"bpe\" }\ncolumn = \"score\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, models: &Models) -> Box<dyn Node> {
        let text = TextSide::read(r, models);
        let column: String = r.field("column", "name of the column").or("similarity".to_owned());
        if FIXED_COLUMNS.contains(&column.as_str()) {
            let message = format!("records have a field `{column}` already, which this would replace");
            r.error("column", message, Some("choose another name"));
        }
        let languages: Option<Vec<String>> = r
            .field("languages", "captions of these languages count; `und` for unknown; default: all")
            .optional();
        let reduce = r
            .choice(
                "reduce",
                "what becomes of several captions",
                &[
                    ("max", Reduce::Max, "the one that is most alike counts"),
                    ("mean", Reduce::Mean, "the mean of their similarities"),
                    ("first", Reduce::First, "the first one counts"),
                ],
            )
            .or("max");
        Box::new(Compare { text, column, languages, reduce })
    }
}

impl NodeSpec for Compare {
    fn inputs(&self) -> Vec<InPort> {
        text_ports("records whose captions are compared with their images")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        self.text.check(inputs)?;
        Ok(vec![OutPort::new("records", same_records(inputs))])
    }
}

impl Node for Compare {
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
        let manifest = &records.manifest;
        let features = features_of(cx, &records)?;
        let encoder = self.text.encoder(cx)?;
        let field = Arc::new(Field::new(&self.column, DataType::Float32, true));
        let added = Added::new(manifest.schema(), vec![field]);
        let mut out = ManifestWriter::new(cx.writer()?, added.schema.clone(), (*manifest.footer).clone())?;
        let (mut done, mut known) = (0, 0);
        for batch in manifest.batches() {
            cx.progress.set(done as u64, manifest.len() as u64, "records");
            let batch = batch?;
            let mut texts = Vec::new();
            let mut ends = Vec::with_capacity(batch.num_rows());
            for record in manifest.records_of(&batch)? {
                texts.extend(self.chosen(&record.captions).map(|caption| caption.text.clone()));
                ends.push(texts.len());
            }
            let rows = encoder.texts(cx, &texts)?;
            let scores = self.scores(&features, done, &rows, &ends);
            known += scores.iter().flatten().count();
            done += batch.num_rows();
            let column: ArrayRef = Arc::new(Float32Array::from(scores));
            out.write(added.batch(&batch, &[column])?)?;
        }
        cx.progress.note(format!("{known} of {done} records have a similarity"));
        Ok(Outputs::from([("records".to_owned(), Output::Kept(out.finish()?.finish()?))]))
    }
}

impl Compare {
    /// The captions that count.
    fn chosen<'a>(&'a self, captions: &'a [Caption]) -> impl Iterator<Item = &'a Caption> {
        let wanted = |caption: &&Caption| {
            let language = caption.language.as_deref().unwrap_or("und");
            self.languages.as_ref().is_none_or(|languages| languages.iter().any(|known| known == language))
        };
        let most = if self.reduce == Reduce::First { 1 } else { usize::MAX };
        captions.iter().filter(wanted).take(most)
    }

    /// A score for every record of a batch that begins at `first`; `ends` says which texts are whose.
    fn scores(&self, features: &Features, first: usize, texts: &Rows, ends: &[usize]) -> Vec<Option<f32>> {
        let mut start = 0;
        let mut scores = Vec::with_capacity(ends.len());
        for (place, end) in ends.iter().enumerate() {
            let own = std::mem::replace(&mut start, *end)..*end;
            let image = features.row(first + place);
            let cosines = own.filter_map(|text| {
                Some(image?.iter().zip(texts.row(text)?).map(|(a, b)| a * b).sum::<f32>())
            });
            scores.push(reduce(self.reduce, cosines));
        }
        scores
    }
}

fn reduce(how: Reduce, scores: impl Iterator<Item = f32>) -> Option<f32> {
    let scores: Vec<f32> = scores.collect();
    match how {
        Reduce::First => scores.first().copied(),
        Reduce::Max => scores.iter().copied().reduce(f32::max),
        Reduce::Mean => (!scores.is_empty()).then(|| scores.iter().sum::<f32>() / scores.len() as f32),
    }
}
