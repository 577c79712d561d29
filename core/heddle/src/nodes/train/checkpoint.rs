//! Checkpoints: where a stage that was stopped goes on.
//!
//! What learns, the optimiser's state and the moving average are payloads of the cache; one value under the key of the artifact names
//! them, with the step and what the learning curve has so far. The order of records, augmentation and all other random numbers are
//! functions of seed and step, so that nothing else is needed. A checkpoint that is incomplete or damaged counts as none.

use heddle_cache::Payload;
use heddle_graph::digest::Digest;
use heddle_tensor::{AdamW, Backend, Ema, Parameters, parameter::LoadOptions};
use serde::{Deserialize, Serialize};

use super::stage::Sums;
use crate::{
    exec::{NodeError, RunContext},
    nodes::eval::CurvePoint,
};

const SPACE: &str = "checkpoint";

/// Where a stage stands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// The learning curve so far.
    pub curve: Vec<CurvePoint>,
    /// What the next point will average.
    pub since: Sums,
}

/// The value in the cache.
#[derive(Serialize, Deserialize)]
struct Saved {
    progress: Progress,
    parameters: Digest,
    optimizer: Digest,
    ema: Option<Digest>,
}

/// What learns, and how.
pub struct Learning<'a, B: Backend> {
    /// The parameters; frozen ones are in no checkpoint.
    pub parameters: &'a mut Parameters<B>,
    /// Its moments and step count.
    pub optimizer: &'a mut AdamW<B>,
    /// The moving average.
    pub ema: Option<&'a mut Ema<B>>,
}

/// Writes a checkpoint, in the place of the one before.
pub fn save<B: Backend>(
    cx: &RunContext<'_>,
    learning: &Learning<'_, B>,
    progress: &Progress,
) -> Result<(), NodeError> {
    let Learning { parameters, optimizer, ema } = learning;
    let learns = |name: &str| parameters.get(name).is_some_and(|parameter| parameter.trainable);
    let weights =
        parameters.save_selected(|name| learns(name).then(|| name.to_owned()), &Default::default())?;
    let state = optimizer.save(parameters.backend())?;
    let average = ema.as_ref().map(|ema| ema.save(parameters.backend())).transpose()?;
    let cache = cx.store.cache();
    let payloads: Vec<&[u8]> = [&weights, &state].into_iter().chain(&average).map(Vec::as_slice).collect();
    let digests = cache.put_many(&payloads)?;
    let saved = Saved {
        progress: progress.clone(),
        parameters: digests[0],
        optimizer: digests[1],
        ema: digests.get(2).copied(),
    };
    let value = serde_json::to_vec(&saved).map_err(NodeError::data)?;
    Ok(cache.set(SPACE, cx.key.as_bytes(), &value)?)
}

/// Goes back to the last checkpoint; none if there is none that is whole.
pub fn load<B: Backend>(
    cx: &RunContext<'_>,
    learning: Learning<'_, B>,
) -> Result<Option<Progress>, NodeError> {
    let value = cx.store.value(SPACE, cx.key.as_bytes())?;
    let Some(saved) = value.and_then(|value| serde_json::from_slice::<Saved>(&value).ok()) else {
        return Ok(None);
    };
    let payload = |digest: &Digest| -> Result<Option<Payload>, NodeError> { Ok(cx.store.here(digest)?) };
    let (Some(weights), Some(state)) = (payload(&saved.parameters)?, payload(&saved.optimizer)?) else {
        return Ok(None);
    };
    let average = saved.ema.as_ref().map(payload).transpose()?.flatten();
    let Learning { parameters, optimizer, ema } = learning;
    if ema.is_some() != average.is_some() {
        return Ok(None);
    }
    let backend = parameters.backend().clone();
    if let Some((ema, bytes)) = ema.zip(average) {
        ema.load(&backend, &bytes).map_err(NodeError::data)?;
    }
    optimizer.load(&backend, &state).map_err(NodeError::data)?;
    let learns: Vec<String> = parameters
        .iter()
        .filter(|(_, parameter)| parameter.trainable)
        .map(|(name, _)| name.to_owned())
        .collect();
    let options = LoadOptions { strict: true, ..LoadOptions::default() };
    let key = |name: &str| learns.iter().any(|known| known == name).then(|| name.to_owned());
    parameters.load(&weights, key, options).map_err(NodeError::data)?;
    Ok(Some(saved.progress))
}

/// Forgets the checkpoint of a stage that is done.
pub fn forget(cx: &RunContext<'_>) -> Result<(), NodeError> {
    Ok(cx.store.cache().remove(SPACE, cx.key.as_bytes())?)
}
