//! Optimiser state to and from the safetensors format, so that a stopped run goes on where it was.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};

use crate::{backend::Backend, element::Element, error::TensorError, parameter::to_safetensors};

/// Why saved state could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The bytes are no safetensors file, or lack what belongs to such state.
    #[error("not saved optimiser state: {0}")]
    Format(String),
    /// The device failed.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Writes buffers under their keys, with metadata.
pub(super) fn save<B: Backend>(
    backend: &B,
    buffers: &BTreeMap<String, &B::Buffer>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, TensorError> {
    let mut tensors = BTreeMap::new();
    for (key, buffer) in buffers {
        let values: Vec<f32> = backend.buffer_to_vec(buffer)?.into_iter().map(|x| x.wide() as f32).collect();
        tensors.insert(key.clone(), (vec![values.len()], values));
    }
    Ok(to_safetensors(&tensors, metadata))
}

/// What [`save`] wrote.
pub(super) struct Saved<B: Backend> {
    pub(super) buffers: BTreeMap<String, B::Buffer>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Reads what [`save`] wrote.
pub(super) fn load<B: Backend>(backend: &B, bytes: &[u8]) -> Result<Saved<B>, StateError> {
    let format = |error: safetensors::SafeTensorError| StateError::Format(error.to_string());
    let file = SafeTensors::deserialize(bytes).map_err(format)?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
    let mut buffers = BTreeMap::new();
    for (key, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(StateError::Format(format!("`{key}` holds {:?}, not F32", view.dtype())));
        }
        let values =
            view.data().as_chunks::<4>().0.iter().map(|&b| B::Elem::of(f32::from_le_bytes(b).into()));
        buffers.insert(key, backend.buffer(values.collect())?);
    }
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok(Saved { buffers, metadata })
}
