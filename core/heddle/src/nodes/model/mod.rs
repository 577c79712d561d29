//! Modules of model graphs.

mod attention_pool;
mod decoder;
mod flatten_linear;
mod internvit;
mod linear;
mod llama;
mod lora;
mod mean_pool;
mod pairs;
mod projector;
mod qllama;
mod unit_sum;

pub use attention_pool::AttentionPool;
pub use flatten_linear::FlattenLinear;
pub use internvit::InternVit;
pub use linear::Linear;
pub use llama::Llama;
pub use mean_pool::MeanPool;
pub use pairs::Pairs;
pub use projector::Projector;
pub use qllama::Qllama;
pub use unit_sum::UnitSum;

use heddle_graph::{
    config::Reader,
    graph::{Arity, Class, Dim, InPort, Inputs, Mismatch, Place},
};

/// The single input of a module.
fn one_input(name: &'static str, classes: &[Class], help: &'static str) -> Vec<InPort> {
    vec![InPort { name, classes: classes.to_vec(), arity: Arity::One, place: Place::In, help }]
}

/// The size of a dimension that has to be known because weights depend on it. `from_end` counts from the last.
pub(super) fn known(
    inputs: &Inputs,
    port: &'static str,
    from_end: usize,
    what: &str,
) -> Result<usize, Mismatch> {
    let ty = inputs.get(port);
    let dim = ty.and_then(|ty| ty.shape.iter().rev().nth(from_end));
    dim.and_then(Dim::known).ok_or_else(|| Mismatch {
        port: Some(port),
        param: None,
        message: match (ty, dim) {
            (Some(ty), Some(dim)) => {
                format!("the {what} of {ty} is `{dim}`, known only at run time, but weights depend on it")
            }
            _ => format!("the {what} is not known"),
        },
        help: Some(
            "give the graph's input a size, as in `inputs = { image = { type = \"image\", size = 224 } }`"
                .into(),
        ),
    })
}

/// The width of the checked input, for building the module after `infer` accepted it.
pub(super) fn width(inputs: &Inputs, port: &'static str) -> usize {
    known(inputs, port, 0, "width").unwrap_or(0)
}

/// The batch dimension of an input.
pub(super) fn batch(inputs: &Inputs, port: &str) -> Dim {
    inputs.get(port).and_then(|ty| ty.shape.first().cloned()).unwrap_or_else(|| Dim::sym("B"))
}

/// The attribute `checkpoint` of a transformer.
fn checkpoint(r: &mut Reader<'_>) -> bool {
    r.field(
        "checkpoint",
        "training keeps each block's input only and computes the block again: less memory, more time",
    )
    .not_in_key("the results have the same bits")
    .or(false)
}
