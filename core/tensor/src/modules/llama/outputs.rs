//! What a decoder says of a text, by port.

use dfdx::prelude::HasShape;

use super::{
    decoder::{Decoder, last_rows},
    layout::Layout,
    stack::States,
};
use crate::{
    backend::Backend,
    error::TensorError,
    module::Forward,
    tensor::{Matrix, reshape},
    value::{Tokens, Value},
};

/// What the outputs depend on.
#[derive(Clone, Copy)]
pub struct TextOutputs<'a> {
    /// The stack.
    pub decoder: &'a Decoder,
    /// Width of `text_projection`, if there is one.
    pub projection: Option<usize>,
}

/// Which rows of `[B N, C]` the wanted outputs read, those of [`put_text`] and the queries, in order; none for all, padding with
/// them.
pub(super) fn rows_read<B: Backend>(
    cx: &Forward<'_, B>,
    layout: &Layout,
    tokens: Option<&Tokens>,
) -> Result<Option<Vec<u32>>, TensorError> {
    let whole = |port: &str| port == "hidden" || port == "logits" || port.starts_with("states.");
    if cx.wanted().any(whole) {
        return Ok(None);
    }
    let mut rows = if cx.wants("queries") { layout.places_of_queries() } else { Vec::new() };
    if let Some(tokens) = tokens {
        let places = layout.places_of_text();
        if ["next", "last", "eos"].into_iter().any(|port| cx.wants(port)) {
            rows.extend(last_rows(tokens).into_iter().map(|row| places[row as usize]));
        }
        if cx.wants("predictions") {
            rows.extend(predicting(tokens, &places)?.0);
        }
    }
    rows.sort_unstable();
    rows.dedup();
    Ok((!rows.is_empty()).then_some(rows))
}

/// Rows, and the tokens that they predict.
type Predicting = (Vec<u32>, Vec<Option<u32>>);

/// The rows that predict a token which counts, and these tokens; one row without a target if there is none.
fn predicting(tokens: &Tokens, places: &[u32]) -> Result<Predicting, TensorError> {
    let known = tokens.predictions().map(|(row, target)| (places[row], Some(target)));
    let (rows, targets): (Vec<_>, Vec<_>) = known.unzip();
    match places.first() {
        Some(first) if rows.is_empty() => Ok((vec![*first], vec![None])),
        Some(_) => Ok((rows, targets)),
        None => Err(TensorError::shape("tokens of the texts", "one at least", 0)),
    }
}

/// Writes the outputs that are wanted, as [`Llama`](super::Llama) lists them.
pub fn put_text<B: Backend>(
    cx: &mut Forward<'_, B>,
    outputs: TextOutputs<'_>,
    states: &States<B>,
    tokens: &Tokens,
) -> Result<(), TensorError> {
    let TextOutputs { decoder, projection } = outputs;
    let places = states.layout.places_of_text();
    if cx.wants("next") {
        let last: Vec<u32> = last_rows(tokens).into_iter().map(|row| places[row as usize]).collect();
        let last = states.pick(cx.backend(), &last)?;
        let scores = decoder.logits(cx, last)?;
        cx.put("next", Value::Logits(scores));
    }
    if cx.wants("last") || cx.wants("eos") {
        let last: Vec<u32> = last_rows(tokens).into_iter().map(|row| places[row as usize]).collect();
        let last = states.pick(cx.backend(), &last)?;
        cx.put("last", Value::Vector(last.clone()));
        let eos = match projection {
            None => last,
            Some(out) => {
                let weight = cx.matrix("text_projection", decoder.width, out)?;
                cx.backend().linear_transposed(last, weight)?
            }
        };
        cx.put("eos", Value::Vector(eos));
    }
    if cx.wants("predictions") || cx.wants("targets") {
        put_predictions(cx, decoder, states, tokens, &places)?;
    }
    if cx.wants("hidden") || cx.wants("logits") {
        let text = states.pick(cx.backend(), &places)?;
        let sequence = |rows: Matrix<B>| {
            let width = rows.shape().1;
            Ok::<_, TensorError>(Value::Sequence(reshape::<_, _, B>(
                rows,
                (tokens.batch, tokens.len, width),
            )?))
        };
        if cx.wants("logits") {
            let logits = decoder.logits(cx, text.clone())?;
            cx.put("logits", sequence(logits)?);
        }
        cx.put("hidden", sequence(text)?);
    }
    Ok(())
}

fn put_predictions<B: Backend>(
    cx: &mut Forward<'_, B>,
    decoder: &Decoder,
    states: &States<B>,
    tokens: &Tokens,
    places: &[u32],
) -> Result<(), TensorError> {
    let (rows, targets) = predicting(tokens, places)?;
    if cx.wants("predictions") {
        let rows = states.pick(cx.backend(), &rows)?;
        let logits = decoder.logits(cx, rows)?;
        cx.put("predictions", Value::Logits(logits));
    }
    cx.put("targets", Value::Targets(targets));
    Ok(())
}
