//! AdamW with decoupled weight decay.

use std::collections::BTreeMap;

use dfdx::prelude::HasShape;

use super::{
    gradients::ParamGrads,
    state::{self, StateError},
};
use crate::{
    backend::{AdamWStep, Backend},
    error::TensorError,
    parameter::Parameters,
};

/// AdamW (Loshchilov and Hutter, 2019). Parameters that do not decay (`Parameter::decay`) keep their size;
/// parameters without a gradient are left alone, and their moments with them.
#[derive(Debug, Clone)]
pub struct AdamW<B: Backend> {
    /// Decay of the first and the second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled decay: parameters lose `lr * weight_decay` of themselves each step.
    pub weight_decay: f64,
    steps: u64,
    moments: BTreeMap<String, [B::Buffer; 2]>,
}

impl<B: Backend> AdamW<B> {
    /// An optimiser that has taken no step.
    pub fn new(betas: [f64; 2], eps: f64, weight_decay: f64) -> Self {
        Self { betas, eps, weight_decay, steps: 0, moments: BTreeMap::new() }
    }

    /// Number of steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Updates every parameter that has a gradient with the learning rate `lr`.
    ///
    /// # Errors
    /// [`TensorError::MissingParameter`] for a gradient of no parameter; [`TensorError::Device`].
    pub fn step(
        &mut self,
        parameters: &mut Parameters<B>,
        gradients: &ParamGrads<B>,
        lr: f64,
    ) -> Result<(), TensorError> {
        self.step_scaled(parameters, gradients, lr, |_| 1.0)
    }

    /// As [`AdamW::step`], with the learning rate of each parameter multiplied by a factor that its full name
    /// decides (layer-wise decay, one rate per tower).
    ///
    /// # Errors
    /// As for [`AdamW::step`].
    pub fn step_scaled(
        &mut self,
        parameters: &mut Parameters<B>,
        gradients: &ParamGrads<B>,
        lr: f64,
        factor: impl Fn(&str) -> f64,
    ) -> Result<(), TensorError> {
        self.steps += 1;
        let backend = parameters.backend().clone();
        let names: Vec<String> = gradients.names().map(str::to_owned).collect();
        for name in names {
            let missing = || TensorError::MissingParameter { name: name.clone() };
            let parameter = parameters.get_mut(&name).ok_or_else(missing)?;
            let gradient = gradients.get(&name).ok_or_else(missing)?;
            let step = self.update(lr * factor(&name), parameter.decay);
            if !self.moments.contains_key(&name) {
                let zeros = || backend.zeros(parameter.value.shape().0);
                self.moments.insert(name.clone(), [zeros()?, zeros()?]);
            }
            let [m, v] = self.moments.get_mut(&name).ok_or_else(missing)?;
            backend.adamw(&mut parameter.value, gradient, [m, v], &step)?;
        }
        Ok(())
    }

    fn update(&self, lr: f64, decays: bool) -> AdamWStep {
        let correction = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        AdamWStep {
            lr,
            betas: self.betas,
            eps: self.eps,
            weight_decay: if decays { self.weight_decay } else { 0.0 },
            bias_corrections: self.betas.map(correction),
        }
    }

    /// Moments and step count as the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub fn save(&self, backend: &B) -> Result<Vec<u8>, TensorError> {
        let mut buffers = BTreeMap::new();
        for (name, [m, v]) in &self.moments {
            buffers.insert(format!("m:{name}"), m);
            buffers.insert(format!("v:{name}"), v);
        }
        let metadata = BTreeMap::from([("steps".to_owned(), self.steps.to_string())]);
        state::save(backend, &buffers, &metadata)
    }

    /// Takes moments and step count from what [`AdamW::save`] wrote; settings stay.
    ///
    /// # Errors
    /// [`StateError`]
    pub fn load(&mut self, backend: &B, bytes: &[u8]) -> Result<(), StateError> {
        let mut saved = state::load(backend, bytes)?;
        let steps = saved.metadata.get("steps").and_then(|steps| steps.parse().ok());
        let steps = steps.ok_or_else(|| StateError::Format("no step count".to_owned()))?;
        let names: Vec<String> =
            saved.buffers.keys().filter_map(|key| key.strip_prefix("m:").map(str::to_owned)).collect();
        let mut moments = BTreeMap::new();
        for name in names {
            let mut take = |kind: &str| {
                let key = format!("{kind}:{name}");
                saved.buffers.remove(&key).ok_or_else(|| StateError::Format(format!("no `{key}`")))
            };
            let pair = [take("m")?, take("v")?];
            moments.insert(name, pair);
        }
        (self.steps, self.moments) = (steps, moments);
        Ok(())
    }
}
