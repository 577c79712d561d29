//! Writing chosen tensors as an artifact, one at a time.

use std::{borrow::Cow, collections::BTreeMap};

use heddle_tensor::parameter::{TensorHead, check_finite, write_safetensors};

use super::fit::{Offer, Offers};
use crate::{
    exec::{NodeError, Output, Outputs, RunContext},
    model::{self, ModelGraph},
};

/// Writes tensors to the port `weights`. `data` gives the elements of one of them when its turn comes; all have to be
/// finite. With a graph, its nodes' parameters can be taken from the artifact one by one (`"pretrained/vit"`).
pub fn write<'a>(
    cx: &RunContext<'_>,
    graph: Option<&ModelGraph>,
    tensors: &Offers,
    mut data: impl FnMut(&Offer) -> Result<Cow<'a, [u8]>, NodeError>,
) -> Result<Outputs, NodeError> {
    let heads: BTreeMap<String, TensorHead> =
        tensors.iter().map(|(name, offer)| (name.clone(), offer.head.clone())).collect();
    let metadata = graph.map(model::metadata).unwrap_or_default();
    let mut writer = cx.writer()?;
    let mut done = 0;
    write_safetensors(&mut writer, &heads, &metadata, |name| {
        cx.check_cancelled()?;
        cx.progress.set(done, heads.len() as u64, name);
        done += 1;
        let offer = &tensors[name];
        let bytes = data(offer)?;
        check_finite(&offer.key, offer.head.dtype, &bytes).map_err(NodeError::data)?;
        Ok::<_, NodeError>(bytes)
    })?;
    Ok(Outputs::from([("weights".to_owned(), Output::Kept(writer.finish()?))]))
}

/// What was written, in words: `291 tensors, 134515008 parameters (BF16)`.
pub fn summary(tensors: &Offers) -> String {
    let parameters: usize = tensors.values().map(|offer| offer.head.len()).sum();
    let mut types: Vec<String> = tensors.values().map(|offer| offer.head.dtype.to_string()).collect();
    types.sort_unstable();
    types.dedup();
    format!("{} tensors, {parameters} parameters ({})", tensors.len(), types.join(", "))
}
