//! `data.dialogues`: questions about pictures whose answers are columns.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_json::ReaderBuilder;
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use heddle_data::{ManifestWriter, Record, manifest::Added, text::dialogue::IMAGE};
use heddle_graph::{
    config::Reader,
    graph::{InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};
use serde_json::{Value as Json, json};

use super::{By, Records, column_text, records_in, same_records};
use crate::{
    exec::{NodeError, Output, Outputs, RunContext, Weight},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct Dialogues;

struct Ask {
    kind: String,
    questions: Vec<String>,
    answer: String,
}

/// The columns that it writes, and the texts of their entries.
const CONVERSATIONS: (&str, &[&str]) = ("conversations", &["from", "value"]);
const QUESTIONS: (&str, &[&str]) = ("questions", &["kind", "question", "answer"]);

impl Kind<dyn Node, Models> for Dialogues {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.dialogues",
            version: 1,
            summary: "a round of a dialogue from a column: a question about the picture, and its answer",
            details: "What LLaVA's first stage learns from: captions as answers. Each record gets one of `questions`, drawn by a hash \
                      of its key and bytes, and the text of column `answer` as it is. Column `conversations` is the dialogue in \
                      LLaVA's form, `questions` a list of `{ kind, question, answer }`, as `eval.questions` reads it. A record that \
                      has them, from another such node, gets a further round. One without an answer stays as it is.",
            example: "[nodes.talk]\nkind = \"data.dialogues\"\nin = \"pairs\"\nabout = \"what\"\n\
                      questions = [\"What is this?\", \"What does the picture show?\"]\nanswer = \"en\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let questions: Vec<String> = r.field("questions", "ways to ask; one is drawn").required();
        if questions.is_empty() {
            r.error("questions", "there is no question", None);
        }
        Box::new(Ask {
            kind: r
                .field("about", "kind of the question, by which answers are counted")
                .or("what".to_owned()),
            questions,
            answer: r.field("answer", "column whose text is the answer").required(),
        })
    }
}

impl NodeSpec for Ask {
    fn inputs(&self) -> Vec<InPort> {
        records_in("records with the answers in a column")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(vec![OutPort::new("records", same_records(inputs))])
    }
}

impl Node for Ask {
    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let Records { manifest, .. } = Records::read(cx.input("records")?)?;
        let fields = [CONVERSATIONS, QUESTIONS].map(column);
        let added = Added::new(manifest.schema(), fields.to_vec());
        let mut out = ManifestWriter::new(cx.writer()?, added.schema.clone(), (*manifest.footer).clone())?;
        let mut asked = 0;
        for batch in manifest.batches() {
            cx.check_cancelled()?;
            let batch = batch?;
            let mut rows = Vec::with_capacity(batch.num_rows());
            for record in manifest.records_of(&batch)? {
                let round = self.round(&record)?;
                asked += usize::from(round.is_some());
                rows.push(with_round(&record, round)?);
            }
            let columns = arrays(&fields, &rows)?;
            out.write(added.batch(&batch, columns.columns())?)?;
        }
        if asked == 0 {
            let reason = format!("no record has a text in column `{}` (`answer`)", self.answer);
            return Err(NodeError::Other(reason));
        }
        cx.progress.note(format!("{asked} questions, {} other ways to ask", self.questions.len() - 1));
        Ok(Outputs::from([("records".to_owned(), Output::Kept(out.finish()?.finish()?))]))
    }
}

/// A question and what is said to it.
struct Round<'a> {
    kind: &'a str,
    question: &'a str,
    answer: String,
}

impl Ask {
    fn round(&self, record: &Record) -> Result<Option<Round<'_>>, NodeError> {
        let Some(answer) = column_text(record, &self.answer) else { return Ok(None) };
        // The kind is the salt: further rounds are drawn anew.
        let drawn = By::Key.hash(record, &self.kind)? % self.questions.len().max(1) as u64;
        let question = &self.questions[drawn as usize];
        Ok(Some(Round { kind: &self.kind, question, answer }))
    }
}

/// Both columns of a record as JSON, with one more round.
fn with_round(record: &Record, round: Option<Round<'_>>) -> Result<Json, NodeError> {
    let known = |column: &str| match record.column(column) {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Array(list)) => Ok(list.clone()),
        Some(_) => Err(NodeError::Other(format!("record `{}`: column `{column}` is no list", record.key))),
    };
    let (mut turns, mut questions) = (known(CONVERSATIONS.0)?, known(QUESTIONS.0)?);
    if let Some(Round { kind, question, answer }) = round {
        let shown = if turns.is_empty() { format!("{IMAGE}\n{question}") } else { question.to_owned() };
        turns.push(json!({ "from": "human", "value": shown }));
        turns.push(json!({ "from": "gpt", "value": answer }));
        questions.push(json!({ "kind": kind, "question": question, "answer": answer }));
    }
    Ok(json!({ CONVERSATIONS.0: turns, QUESTIONS.0: questions }))
}

/// A list of entries with these texts.
fn column((name, texts): (&str, &[&str])) -> FieldRef {
    let texts: Fields = texts.iter().map(|text| Field::new(*text, DataType::Utf8, true)).collect();
    let entry = Field::new("item", DataType::Struct(texts), true);
    Arc::new(Field::new(name, DataType::List(Arc::new(entry)), true))
}

/// Rows of JSON as arrays.
fn arrays(fields: &[FieldRef], rows: &[Json]) -> Result<RecordBatch, NodeError> {
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let mut decoder = ReaderBuilder::new(schema.clone())
        .with_batch_size(rows.len().max(1))
        .build_decoder()
        .map_err(NodeError::data)?;
    decoder.serialize(rows).map_err(NodeError::data)?;
    let batch = decoder.flush().map_err(NodeError::data)?;
    Ok(batch.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}
