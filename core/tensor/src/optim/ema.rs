//! A moving average of parameters.

use std::collections::BTreeMap;

use super::state::{self, StateError};
use crate::{backend::Backend, error::TensorError, parameter::Parameters};

/// Exponential moving average: after each step, `average = decay * average + (1 - decay) * parameter`.
#[derive(Debug, Clone)]
pub struct Ema<B: Backend> {
    /// How much of the average stays at each step.
    pub decay: f64,
    averages: BTreeMap<String, B::Buffer>,
}

impl<B: Backend> Ema<B> {
    /// Starts from the parameters as they are.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub fn new(decay: f64, parameters: &Parameters<B>) -> Result<Self, TensorError> {
        let copy = |(name, parameter): (&str, &crate::parameter::Parameter<B>)| {
            Ok((name.to_owned(), parameters.backend().read(&parameter.value)?))
        };
        let trainable = parameters.iter().filter(|(_, parameter)| parameter.trainable);
        Ok(Self { decay, averages: trainable.map(copy).collect::<Result<_, TensorError>>()? })
    }

    /// Moves the averages towards the parameters.
    ///
    /// # Errors
    /// [`TensorError::MissingParameter`] if one has gone; [`TensorError::Device`].
    pub fn update(&mut self, parameters: &Parameters<B>) -> Result<(), TensorError> {
        let backend = parameters.backend();
        for (name, average) in &mut self.averages {
            let missing = || TensorError::MissingParameter { name: name.clone() };
            let now = backend.read(&parameters.get(name).ok_or_else(missing)?.value)?;
            backend.scale(self.decay, average)?;
            backend.axpy(1.0 - self.decay, &now, average)?;
        }
        Ok(())
    }

    /// The parameters with the averages in their places.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub fn apply(&self, parameters: &Parameters<B>) -> Result<Parameters<B>, TensorError> {
        let mut averaged = parameters.clone();
        for (name, average) in &self.averages {
            if let Some(parameter) = averaged.get_mut(name) {
                parameter.value = parameters.backend().tensor(average.clone())?;
            }
        }
        Ok(averaged)
    }

    /// The averages as the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub fn save(&self, backend: &B) -> Result<Vec<u8>, TensorError> {
        let buffers = self.averages.iter().map(|(name, average)| (name.clone(), average)).collect();
        state::save(backend, &buffers, &BTreeMap::new())
    }

    /// Takes the averages that [`Ema::save`] wrote.
    ///
    /// # Errors
    /// [`StateError`]
    pub fn load(&mut self, backend: &B, bytes: &[u8]) -> Result<(), StateError> {
        self.averages = state::load(backend, bytes)?.buffers;
        Ok(())
    }
}
