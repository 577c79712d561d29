//! `eval.questions`: a chat model's answers to questions with known answers.

use std::{collections::BTreeMap, sync::Arc};

use heddle_data::Record;
use heddle_graph::{
    config::Reader,
    graph::{Class, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use heddle_tensor::Backend;
use indexmap::IndexMap;
use serde_json::Value as Json;

use super::measure::{Measurement, Metrics};
use crate::{
    device::Need,
    device::on_backend,
    exec::{NodeError, Outputs, RunContext, Weight},
    model::{Cut, ModelGraph, Models},
    nodes::{
        Node, SeeFrozen,
        data::{Records, column_text},
        towers::{
            Captioner, Loaded, Seen, Tokenizers, check_dialogues, check_images, check_vocabulary,
            model_ports, questions_port, read_captioner,
        },
    },
};

/// The kind.
pub struct Questions;

struct Eval {
    captioner: Captioner,
    column: String,
    batch: usize,
}

impl Kind<dyn Node, Models> for Questions {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "eval.questions",
            version: 1,
            summary: "a chat model's answers to questions about images, by kind of question",
            details: "`column` holds a list of `{ kind, question, answer, setting }` for each record, as `data.scenes` writes it. \
                      Every question is asked in a dialogue of its own. `correct`: the share of answers that are the right one, in \
                      lower case and without the last full stop, by kind. Questions with a `setting` are POPE's (Li et al., 2023): \
                      an answer with the word `no` or `not` before its first full stop is a no, all others a yes; accuracy, \
                      precision, recall, F1 (a yes is positive) and the share of yes, for each setting, in per cent. The output \
                      `answers` has a JSON line for each question.",
            example: "[nodes.answers]\nkind = \"eval.questions\"\ngraph = \"../graphs/internvl-chat.toml\"\nweights = \"stage3\"\n\
                      in = { records = \"heldout\", tokenizer = \"bpe\" }\nmax-new = 10\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, models: &Models) -> Box<dyn Node> {
        let captioner = read_captioner(r, models, "answer");
        if let Some(graph) = &captioner.graph {
            check_dialogues(r, graph);
        }
        Box::new(Eval {
            captioner,
            column: r.field("column", "column with the questions").or("questions".to_owned()),
            batch: r
                .field("batch", "questions a pass")
                .min(1)
                .max(1 << 16)
                .not_in_key("an answer does not depend on its batch")
                .or(64),
        })
    }
}

impl NodeSpec for Eval {
    fn inputs(&self) -> Vec<InPort> {
        [model_ports("images with questions"), vec![questions_port()]].concat()
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        if let Some(graph) = &self.captioner.graph {
            check_images(graph, inputs)?;
            check_vocabulary(graph, inputs)?;
        }
        Ok(vec![
            OutPort::new("metrics", PortType::plain(Class::Metrics)),
            OutPort::new("answers.jsonl", PortType::plain(Class::Table)),
        ])
    }
}

/// One question about one image.
#[derive(Debug, Clone)]
struct Asked {
    record: usize,
    kind: String,
    setting: Option<String>,
    question: String,
    answer: String,
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

    fn chatter(&self) -> Option<&Captioner> {
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
        let tokenizers = Tokenizers::read(cx.input("tokenizer")?, cx.optional("questions"))?;
        let questions = self.questions(&all)?;
        let answers = on_backend!(cx.compute.open(self.captioner.need(self.batch))?, |backend| {
            let loaded = self.captioner.load(cx.input("weights")?, backend)?;
            self.answers(cx, &loaded, &tokenizers, (&records, &all), &questions)?
        });
        let split = all.first().and_then(|record| column_text(record, "split")).unwrap_or_default();
        let metrics = Metrics { measurements: measure(&questions, &answers, &split), ..Metrics::default() };
        let line = |(asked, said): (&Asked, &String)| {
            let key = &all[asked.record].key;
            let Asked { kind, setting, question, answer, .. } = asked;
            let line = serde_json::json!({ "key": key, "kind": kind, "setting": setting, "question": question,
                "answer": answer, "said": said });
            format!("{line}\n")
        };
        let lines: String = questions.iter().zip(&answers).map(line).collect();
        Ok(Outputs::from([
            ("metrics".to_owned(), metrics.to_bytes()?.into()),
            ("answers.jsonl".to_owned(), lines.into_bytes().into()),
        ]))
    }
}

impl Eval {
    /// The questions of all records.
    fn questions(&self, all: &[Record]) -> Result<Vec<Asked>, NodeError> {
        let mut questions = Vec::new();
        for (record, of) in all.iter().enumerate() {
            let wrong = |reason: &str| {
                NodeError::Other(format!("record `{}`: column `{}` {reason}", of.key, self.column))
            };
            let list = of.column(&self.column).and_then(Json::as_array);
            for entry in list.ok_or_else(|| wrong("is no list of questions"))? {
                let text = |field: &str| entry.get(field).and_then(Json::as_str).map(str::to_owned);
                let needed = |field: &str| {
                    text(field).ok_or_else(|| wrong(&format!("has an entry without `{field}`")))
                };
                questions.push(Asked {
                    record,
                    kind: text("kind").unwrap_or_default(),
                    setting: text("setting"),
                    question: needed("question")?,
                    answer: needed("answer")?,
                });
            }
        }
        match questions.is_empty() {
            true => Err(NodeError::Other("there are no questions".to_owned())),
            false => Ok(questions),
        }
    }

    fn answers<B: Backend>(
        &self,
        cx: &RunContext<'_>,
        loaded: &Loaded<B>,
        tokenizers: &Tokenizers,
        (records, all): (&Records, &[Record]),
        questions: &[Asked],
    ) -> Result<Vec<String>, NodeError> {
        let need = self.captioner.need(self.batch);
        let seen = Seen::open(cx, loaded, records, &self.captioner.reads()?, need)?;
        let mut answers = Vec::new();
        for chunk in questions.chunks(self.batch) {
            cx.check_cancelled()?;
            let done = answers.len();
            cx.progress.set(done as u64, questions.len() as u64, "");
            let asked: Vec<Record> = chunk.iter().map(|asked| all[asked.record].clone()).collect();
            let images = seen.batch(loaded.backend(), &asked)?;
            if let Some((_, reason)) = images.broken.first() {
                let message = format!("an image does not decode: {reason}; drop it with `data.decode`");
                return Err(NodeError::Other(message));
            }
            let texts: Vec<&str> = chunk.iter().map(|asked| asked.question.as_str()).collect();
            let seed = cx.seed.wrapping_add(done as u64);
            answers.extend(self.captioner.answer(loaded, tokenizers, images, &texts, seed)?);
        }
        Ok(answers)
    }
}

/// Lower case, trimmed, without the last full stop.
fn plain(text: &str) -> String {
    text.trim().trim_end_matches('.').trim().to_lowercase()
}

/// POPE's reading of an answer (official InternVL evaluation): what stands before the first full stop, without commas; no if
/// one of its words is `No`, `not` or `no`.
fn is_yes(answer: &str) -> bool {
    let sentence = answer.split('.').next().unwrap_or_default().replace(',', "");
    !sentence.split(' ').any(|word| ["No", "not", "no"].contains(&word))
}

fn measure(questions: &[Asked], answers: &[String], split: &str) -> Vec<Measurement> {
    let mut kinds: IndexMap<&str, [usize; 2]> = IndexMap::new();
    let mut settings: BTreeMap<&str, Vec<[bool; 2]>> = BTreeMap::new();
    for (asked, said) in questions.iter().zip(answers) {
        let [right, count] = kinds.entry(asked.kind.as_str()).or_default();
        *right += usize::from(plain(said) == plain(&asked.answer));
        *count += 1;
        if let Some(setting) = &asked.setting {
            settings.entry(setting).or_default().push([is_yes(&asked.answer), is_yes(said)]);
        }
    }
    let of = |task: &str, metric: &str, value: f64, n: usize| Measurement {
        metric: metric.to_owned(),
        value: 100.0 * value,
        n,
        ..Measurement::of("questions", task, split, "", 0)
    };
    let share = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let by_kind =
        kinds.iter().map(|(kind, [right, count])| of(kind, "correct", share(*right, *count), *count));
    let mut measurements: Vec<Measurement> = by_kind.collect();
    for (setting, pairs) in settings {
        let count = |is: fn(&[bool; 2]) -> bool| pairs.iter().filter(|pair| is(pair)).count();
        let (positive, said, hit) =
            (count(|[yes, _]| *yes), count(|[_, said]| *said), count(|[yes, said]| *yes && *said));
        let right = count(|[yes, said]| yes == said);
        let (precision, recall) = (share(hit, said), share(hit, positive));
        let f1 =
            if precision + recall == 0.0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
        let n = pairs.len();
        let task = format!("pope {setting}");
        for (metric, value) in [
            ("accuracy", share(right, n)),
            ("precision", precision),
            ("recall", recall),
            ("F1", f1),
            ("yes", share(said, n)),
        ] {
            measurements.push(of(&task, metric, value, n));
        }
    }
    measurements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_pope_reads_them() {
        let cases = [
            ("No.", false),
            ("no, it is not", false),
            ("Yes, there is no.", false),
            ("Yes. not", true),
            ("nothing", true),
        ];
        for (answer, yes) in cases {
            assert_eq!(is_yes(answer), yes, "{answer}");
        }
    }

    #[test]
    fn scores_by_kind_and_setting() {
        let asked = |kind: &str, setting: Option<&str>, answer: &str| Asked {
            record: 0,
            kind: kind.into(),
            setting: setting.map(str::to_owned),
            question: String::new(),
            answer: answer.into(),
        };
        let questions = [
            asked("existence", Some("random"), "yes"),
            asked("existence", Some("random"), "yes"),
            asked("existence", Some("random"), "no"),
            asked("count", None, "2"),
        ];
        let said = ["Yes.", "no", "yes", "2."].map(str::to_owned);
        let found: Vec<String> = measure(&questions, &said, "test")
            .iter()
            .map(|m| format!("{} {} {:.1} of {}", m.task, m.metric, m.value, m.n))
            .collect();
        let expected = [
            "existence correct 33.3 of 3",
            "count correct 100.0 of 1",
            "pope random accuracy 33.3 of 3",
            "pope random precision 50.0 of 3",
            "pope random recall 50.0 of 3",
            "pope random F1 50.0 of 3",
            "pope random yes 66.7 of 3",
        ];
        assert_eq!(found, expected);
    }
}
