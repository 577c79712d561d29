//! `data.where`: keeps the records for which an expression holds.

use std::collections::BTreeSet;

use arrow_array::RecordBatch;
use cel::{
    Context, Program, Value,
    common::ast::{EntryExpr, Expr, MapExpr, StructExpr},
};
use heddle_data::manifest::value_at;
use heddle_graph::{
    config::Reader,
    graph::{InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};
use rayon::prelude::*;

use super::{Records, Sieve, records_in, sieve_ports};
use crate::{
    exec::{NodeError, Outputs, RunContext, Weight},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct Where;

/// What happens to a record for which the expression has no answer.
#[derive(Debug, Clone, Copy)]
enum OnError {
    Fail,
    Drop,
    Keep,
}

struct Holds {
    expression: String,
    program: Option<Program>,
    on_error: OnError,
}

impl Kind<dyn Node, Models> for Where {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.where",
            version: 1,
            summary: "keeps the records for which an expression over their columns holds",
            details: "The expression is in CEL (Common Expression Language, cel.dev): `width >= 64 && vendor != \"fluent\"`, \
                      `captions.exists(c, size(c.text) > 5)`, `\"en\" in keywords`. Columns are variables; `captions` is a list \
                      of `text` and `language`; a column without a value is `null`. `records` has what it holds for, \
                      `dropped` the rest.",
            example: "[nodes.large]\nkind = \"data.where\"\nin = \"pairs\"\nexpression = \"group == 'Animals & Nature'\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let expression: String = r.field("expression", "a condition in CEL over the columns").required();
        let on_error = r
            .choice(
                "on-error",
                "what happens to a record for which the expression has no answer, say for its type",
                &[
                    ("fail", OnError::Fail, "the node fails, and names the record"),
                    ("drop", OnError::Drop, "it is dropped, for the reason `no-answer`"),
                    ("keep", OnError::Keep, "it stays"),
                ],
            )
            .or("fail");
        let program = match Program::compile(&expression) {
            Ok(program) => Some(program),
            Err(_) if expression.is_empty() => None,
            Err(errors) => {
                let told: Vec<String> = errors
                    .errors
                    .iter()
                    .map(|error| format!("at character {} of it: {}", error.pos.1, error.msg))
                    .collect();
                r.error(
                    "expression",
                    format!("the expression does not parse: {}", told.join("; ")),
                    Some("CEL looks like `width >= 64 && vendor == \"noto\"`; see cel.dev"),
                );
                None
            }
        };
        Box::new(Holds { expression, program, on_error })
    }
}

impl NodeSpec for Holds {
    fn inputs(&self) -> Vec<InPort> {
        records_in("records that are asked")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(sieve_ports(inputs))
    }
}

impl Node for Holds {
    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let Records { manifest, .. } = Records::read(cx.input("records")?)?;
        let program =
            self.program.as_ref().ok_or_else(|| NodeError::Other("there is no expression".into()))?;
        let mut columns = BTreeSet::new();
        free_variables(&program.expression().expr, &mut Vec::new(), &mut columns);
        let columns: Vec<&str> = columns.into_iter().collect();
        let schema = manifest.schema();
        if let Some(unknown) = columns.iter().find(|name| schema.field_with_name(name).is_err()) {
            let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(NodeError::Other(format!(
                "`{}` names the column `{unknown}`; the records have {}",
                self.expression,
                known.join(", ")
            )));
        }
        let mut sieve = Sieve::new(cx, "where", schema, &manifest.footer)?;
        for batch in manifest.batches() {
            cx.check_cancelled()?;
            let batch = batch?;
            let ask = |row: usize| self.ask(program, &columns, &batch, row);
            let answers: Vec<Result<Option<&str>, NodeError>> =
                (0..batch.num_rows()).into_par_iter().map(ask).collect();
            // The first record that has no answer is named, whichever thread met one first.
            let answers: Vec<Option<&str>> = answers.into_iter().collect::<Result<_, NodeError>>()?;
            sieve.write(&batch, &answers)?;
        }
        sieve.finish()
    }
}

/// The variables that an expression takes from outside: not those that `all`, `exists`, `map` and their like bind.
fn free_variables<'a>(expression: &'a Expr, bound: &mut Vec<&'a str>, free: &mut BTreeSet<&'a str>) {
    let mut each = |expressions: &[&'a Expr], bound: &mut Vec<&'a str>| {
        expressions.iter().for_each(|inner| free_variables(inner, bound, free));
    };
    match expression {
        Expr::Ident(name) => {
            // Types and the macros' own variables (`@result`) are no columns either.
            if !bound.contains(&name.as_str()) && !name.starts_with('@') {
                free.insert(name);
            }
        }
        Expr::Call(call) => {
            let target = call.target.iter().map(|target| &target.expr);
            each(&target.chain(call.args.iter().map(|arg| &arg.expr)).collect::<Vec<_>>(), bound);
        }
        Expr::Select(select) => each(&[&select.operand.expr], bound),
        Expr::List(list) => {
            each(&list.elements.iter().map(|element| &element.expr).collect::<Vec<_>>(), bound)
        }
        Expr::Map(MapExpr { entries }) | Expr::Struct(StructExpr { entries, .. }) => {
            for entry in entries {
                match &entry.expr {
                    EntryExpr::StructField(field) => each(&[&field.value.expr], bound),
                    EntryExpr::MapEntry(entry) => each(&[&entry.key.expr, &entry.value.expr], bound),
                }
            }
        }
        Expr::Comprehension(inner) => {
            each(&[&inner.iter_range.expr, &inner.accu_init.expr], bound);
            let before = bound.len();
            bound.extend([inner.iter_var.as_str(), inner.accu_var.as_str()]);
            bound.extend(inner.iter_var2.as_deref());
            each(&[&inner.loop_cond.expr, &inner.loop_step.expr, &inner.result.expr], bound);
            bound.truncate(before);
        }
        Expr::Literal(_) | Expr::Unspecified => {}
    }
}

impl Holds {
    /// The reason to drop a record, if there is one.
    fn ask(
        &self,
        program: &Program,
        columns: &[&str],
        batch: &RecordBatch,
        row: usize,
    ) -> Result<Option<&'static str>, NodeError> {
        let mut context = Context::default();
        let schema = batch.schema();
        for name in columns {
            let (place, field) =
                schema.column_with_name(name).ok_or_else(|| NodeError::Other("a column went".into()))?;
            let value = value_at(batch.column(place), row, field)?;
            context.add_variable(*name, value).map_err(|error| NodeError::Other(error.to_string()))?;
        }
        let problem = match program.execute(&context) {
            Ok(Value::Bool(true)) => return Ok(None),
            Ok(Value::Bool(false)) => return Ok(Some("condition")),
            Ok(other) => format!("it gives {other:?}, not true or false"),
            Err(error) => error.to_string(),
        };
        match self.on_error {
            OnError::Keep => Ok(None),
            OnError::Drop => Ok(Some("no-answer")),
            OnError::Fail => {
                let key = batch.column_by_name("key").map(|keys| {
                    use arrow_array::cast::AsArray;
                    keys.as_string::<i32>().value(row).to_owned()
                });
                Err(NodeError::Other(format!(
                    "`{}` has no answer for record `{}`: {problem} (`on-error` says what becomes of such records)",
                    self.expression,
                    key.unwrap_or_default()
                )))
            }
        }
    }
}
