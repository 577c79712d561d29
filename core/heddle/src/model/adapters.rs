//! LoRA's pairs in weight files: the metadata names them, so that whoever reads a file knows what its weights lack.

use std::collections::BTreeMap;

use heddle_tensor::parameter::{Adapter, merge};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value as Json, json};

use super::{ModelGraph, weights::names_of};

/// The metadata key of the list of pairs.
const LORA: &str = "heddle.lora";

/// What the metadata says of a graph's pairs, under published names; nothing if it has none.
pub(super) fn metadata(model: &ModelGraph) -> Option<(String, String)> {
    let names = names_of(model);
    let published = |name: &String| names.get(name).unwrap_or(name).clone();
    let pair = |Adapter { weight, a, b, scale }: &Adapter| {
        let [weight, a, b] = [weight, a, b].map(published);
        json!({ "weight": weight, "a": a, "b": b, "scale": scale })
    };
    let pairs: Vec<Json> = model.adapters().iter().map(pair).collect();
    (!pairs.is_empty()).then(|| (LORA.to_owned(), Json::from(pairs).to_string()))
}

/// The pairs of a file that heddle wrote, of which both parts are there.
///
/// # Errors
/// A phrase if it does not read.
pub fn adapters_in(bytes: &[u8]) -> Result<Vec<Adapter>, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let Some(text) = header.metadata().as_ref().and_then(|metadata| metadata.get(LORA)) else {
        return Ok(Vec::new());
    };
    let pairs: Vec<Json> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let pair = |pair: &Json| {
        let name = |field: &str| pair[field].as_str().map(str::to_owned);
        Some(Adapter {
            weight: name("weight")?,
            a: name("a")?,
            b: name("b")?,
            scale: pair["scale"].as_f64()?,
        })
    };
    let pairs: Option<Vec<Adapter>> = pairs.iter().map(pair).collect();
    let is_there = |pair: &Adapter| [&pair.a, &pair.b].iter().all(|name| header.info(name).is_some());
    let pairs = pairs.ok_or_else(|| format!("`{LORA}` is no list of pairs"))?;
    Ok(pairs.into_iter().filter(is_there).collect())
}

/// A file's weights with their pairs merged into them, as the bytes of single-precision numbers.
///
/// # Errors
/// A phrase if the pairs do not fit.
pub fn merged(file: &SafeTensors<'_>, pairs: &[Adapter]) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let one = |pair: &Adapter| {
        let read = |name: &str| {
            let view = file.tensor(name).map_err(|error| error.to_string())?;
            match (view.dtype(), view.shape()) {
                (Dtype::F32, &[_, columns]) => {
                    let numbers =
                        view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
                    Ok((numbers.collect::<Vec<f32>>(), columns))
                }
                (dtype, shape) => Err(format!("`{name}` is {dtype} {shape:?}, not a matrix of F32")),
            }
        };
        let ((weight, inputs), (a, of_a), (b, rank)) = (read(&pair.weight)?, read(&pair.a)?, read(&pair.b)?);
        if of_a != inputs || a.len() != rank * inputs || b.len() * inputs != weight.len() * rank {
            return Err(format!("the pair beside `{}` has other sizes", pair.weight));
        }
        let sum = merge(&weight, [&a, &b], inputs, pair.scale);
        Ok((pair.weight.clone(), sum.into_iter().flat_map(f32::to_le_bytes).collect()))
    };
    pairs.iter().map(one).collect()
}
