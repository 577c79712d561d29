//! Which tensors of a file a model graph takes, and what is wrong with them.

use std::collections::BTreeMap;

use heddle_tensor::parameter::TensorHead;
use safetensors::Dtype;

use crate::{exec::NodeError, model::ModelGraph};

/// A tensor that a file offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its name in the file.
    pub key: String,
    /// Its type and shape.
    pub head: TensorHead,
}

/// What a file offers, by published name.
pub type Offers = BTreeMap<String, Offer>;

/// What is taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The tensors by published name.
    pub tensors: Offers,
    /// Names in the file that the graph has no use for.
    pub unused: Vec<String>,
}

/// A tensor that does not fit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The graph needs what is not there.
    #[error("`{name}` {needed:?} is not there")]
    Missing {
        /// The published name.
        name: String,
        /// The shape that the graph needs.
        needed: Vec<usize>,
    },
    /// The shape is another.
    #[error("`{key}` has shape {found:?}, but the graph's `{name}` needs {needed:?}")]
    Shape {
        /// The name in the file.
        key: String,
        /// The published name.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that the graph needs.
        needed: Vec<usize>,
    },
    /// Its elements are no floating-point numbers that weights may have.
    #[error("`{key}` holds {dtype}; weights are F64, F32, F16 or BF16")]
    Type {
        /// The name in the file.
        key: String,
        /// Type of its elements.
        dtype: Dtype,
    },
}

/// Everything that does not fit.
#[derive(Debug, thiserror::Error)]
#[error("the weights do not fit:{}{}", lines(.mistakes), there(.unused))]
pub struct Misfits {
    mistakes: Vec<Misfit>,
    /// Names in the file that the graph has no use for: those that are missing may be among them.
    unused: Vec<String>,
}

/// How many mistakes are shown.
const SHOWN: usize = 20;

fn lines(mistakes: &[Misfit]) -> String {
    let shown: String = mistakes.iter().take(SHOWN).map(|mistake| format!("\n  {mistake}")).collect();
    match mistakes.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}\n  and {more} more"),
    }
}

fn there(unused: &[String]) -> String {
    match unused {
        [] => String::new(),
        unused => format!("\nnot used are {}", list(unused)),
    }
}

/// A few names in words.
pub fn list(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(5).map(|name| format!("`{name}`")).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Adds an offer; two of one name are a mistake of `rename`.
pub fn insert(offers: &mut Offers, name: String, offer: Offer) -> Result<(), NodeError> {
    let key = offer.key.clone();
    match offers.insert(name.clone(), offer) {
        None => Ok(()),
        Some(other) => {
            let message = format!("`rename` gives `{}` and `{key}` the same name `{name}`", other.key);
            Err(NodeError::Other(message))
        }
    }
}

/// Offers the tensor `embedding` as `output` too, unless there is one or the graph has none.
pub fn tie(graph: Option<&ModelGraph>, offers: &mut Offers, embedding: &str, output: String) {
    let wants = |graph: &ModelGraph| graph.parameters().iter().any(|parameter| parameter.published == output);
    let Some(offer) = offers.get(embedding).cloned() else { return };
    if graph.is_none_or(wants) {
        offers.entry(output).or_insert(offer);
    }
}

/// Chooses what the graph needs, of the right shape; without a graph everything.
///
/// # Errors
/// Every tensor that is missing or does not fit.
pub fn choose(graph: Option<&ModelGraph>, mut offers: Offers) -> Result<Chosen, Misfits> {
    let (mut tensors, mut mistakes) = (Offers::new(), Vec::new());
    match graph {
        None => tensors = std::mem::take(&mut offers),
        Some(graph) => {
            // Pairs of LoRA start new where the file has none.
            let pairs = graph.adapters();
            let may_be_new = |name: &String| pairs.iter().any(|pair| pair.a == *name || pair.b == *name);
            for parameter in graph.parameters() {
                let (name, needed) = (parameter.published, parameter.spec.shape);
                match offers.remove(&name) {
                    None if may_be_new(&parameter.name) => {}
                    None => mistakes.push(Misfit::Missing { name, needed }),
                    Some(Offer { key, head }) if head.shape != needed => {
                        mistakes.push(Misfit::Shape { key, name, found: head.shape, needed });
                    }
                    Some(offer) => drop(tensors.insert(name, offer)),
                }
            }
        }
    }
    let wrong = tensors.values().filter(|offer| !is_weight(offer.head.dtype));
    mistakes.extend(wrong.map(|offer| Misfit::Type { key: offer.key.clone(), dtype: offer.head.dtype }));
    let unused = offers.into_values().map(|offer| offer.key).collect();
    if mistakes.is_empty() { Ok(Chosen { tensors, unused }) } else { Err(Misfits { mistakes, unused }) }
}

fn is_weight(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}
