//! Backward pass, and the gradients that it leaves.

use std::collections::BTreeMap;

use dfdx::prelude::{Device, Dtype, HasShape, ReshapeTo, SplitTape, Storage};

use crate::{
    backend::Backend,
    element::Element,
    error::{OnDevice, TensorError},
    parameter::Parameters,
    tape::{Grads, Tape},
    tensor::{Flat, Plain, Scalar, Tensor},
    value::{HostTensor, Value},
};

/// `sum of weight * loss`, 0 without losses.
///
/// # Errors
/// [`TensorError::Device`]
pub fn weighted_sum<B: Backend>(backend: &B, losses: &[(f64, Scalar<B>)]) -> Result<Scalar<B>, TensorError> {
    backend.weighted_sum(losses)
}

/// Gradients of trainable parameters, by full name.
#[derive(Debug, Clone)]
pub struct ParamGrads<B: Backend> {
    backend: B,
    by_name: BTreeMap<String, B::Buffer>,
}

/// Gradients of `loss` with respect to the trainable parameters that its tape has seen. Uses the tape up.
///
/// # Errors
/// [`TensorError::NoGradient`] if nothing was recorded; [`TensorError::Device`].
pub fn backward<B: Backend>(
    loss: Scalar<B>,
    parameters: &Parameters<B>,
) -> Result<ParamGrads<B>, TensorError> {
    Ok(backward_with(loss, parameters, &[])?.0)
}

/// As [`backward`], and the gradients with respect to `inputs`, which must be on the tape of the loss (see
/// [`Value::from_host`]); texts have none.
///
/// # Errors
/// As for [`backward`].
pub fn backward_with<B: Backend>(
    loss: Scalar<B>,
    parameters: &Parameters<B>,
    inputs: &[Value<B>],
) -> Result<(ParamGrads<B>, Vec<Option<HostTensor>>), TensorError> {
    let backend = parameters.backend();
    let (loss, tape) = loss.split_tape();
    let (mut grads, used) = run_backward::<B>(&loss, &tape)?;
    let mut by_name = BTreeMap::new();
    for name in used {
        if let Some(parameter) = parameters.get(&name) {
            by_name.insert(name, backend.take_gradient(&mut grads, &parameter.value)?);
        }
    }
    let of_input = |value: &Value<B>| input_gradient(backend, &mut grads, value);
    let inputs = inputs.iter().map(of_input).collect::<Result<_, _>>()?;
    Ok((ParamGrads { backend: backend.clone(), by_name }, inputs))
}

/// Runs the recorded operations backwards from `loss`. Gives the gradients, and the names of the parameters
/// that were read.
fn run_backward<B: Backend>(
    loss: &Plain<(), B>,
    tape: &Tape<B>,
) -> Result<(Grads<B>, Vec<String>), TensorError> {
    let mut record = tape.take().ok_or(TensorError::NoGradient)?;
    if record.is_empty() {
        return Err(TensorError::NoGradient);
    }
    let names = std::mem::take(&mut record.parameters).into_iter().collect();
    let mut grads = Grads::<B>::leaky();
    fill_with_ones(loss.device(), grads.get_or_alloc_mut(loss).on_device()?)?;
    record.run_backward(&mut grads)?;
    Ok((grads, names))
}

/// dfdx keeps the trait of `try_fill_with_ones` to itself; the bound on a type parameter brings it in reach.
fn fill_with_ones<E: Dtype, D: Device<E>>(
    device: &D,
    gradient: &mut <D as Storage<E>>::Vec,
) -> Result<(), TensorError> {
    device.try_fill_with_ones(gradient).on_device()
}

fn input_gradient<B: Backend>(
    backend: &B,
    grads: &mut Grads<B>,
    value: &Value<B>,
) -> Result<Option<HostTensor>, TensorError> {
    let flat = match value {
        Value::Image(t) | Value::Map(t) => flatten::<_, B>(t)?,
        Value::Sequence(t) => flatten::<_, B>(t)?,
        Value::Vector(t) | Value::Logits(t) => flatten::<_, B>(t)?,
        Value::Scalar(t) => flatten::<_, B>(t)?,
        Value::Text(_) | Value::Targets(_) | Value::Cache(_) => return Ok(None),
    };
    let data = backend.buffer_to_vec(&backend.take_gradient(grads, &flat)?)?;
    let data = data.into_iter().map(|x| x.wide() as f32).collect();
    Ok(Some(HostTensor { shape: value.shape(), data }))
}

fn flatten<S: dfdx::shapes::Shape, B: Backend>(tensor: &Tensor<S, B>) -> Result<Flat<B>, TensorError> {
    let len = tensor.shape().num_elements();
    tensor.clone().split_tape().0.try_reshape_like(&(len,)).on_device()
}

impl<B: Backend> ParamGrads<B> {
    /// The gradient of a parameter, as device memory.
    pub fn get(&self, name: &str) -> Option<&B::Buffer> {
        self.by_name.get(name)
    }

    /// Full names of the parameters, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// A gradient on the host, row-major.
    ///
    /// # Errors
    /// [`TensorError::MissingParameter`], [`TensorError::Device`]
    pub fn to_host(&self, name: &str) -> Result<Vec<f32>, TensorError> {
        let missing = || TensorError::MissingParameter { name: name.to_owned() };
        let values = self.backend.buffer_to_vec(self.by_name.get(name).ok_or_else(missing)?)?;
        Ok(values.into_iter().map(|x| x.wide() as f32).collect())
    }

    /// Adds another backward pass, as when a batch is split into parts.
    ///
    /// # Errors
    /// [`TensorError::Shape`] if a parameter has changed its size in between.
    pub fn accumulate(&mut self, other: Self) -> Result<(), TensorError> {
        for (name, gradient) in other.by_name {
            match self.by_name.get_mut(&name) {
                Some(sum) => self.backend.axpy(1.0, &gradient, sum)?,
                None => drop(self.by_name.insert(name, gradient)),
            }
        }
        Ok(())
    }

    /// Multiplies all gradients by `factor`.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub fn scale(&mut self, factor: f64) -> Result<(), TensorError> {
        let backend = &self.backend;
        self.by_name.values_mut().try_for_each(|gradient| backend.scale(factor, gradient))
    }

    /// Euclidean norm of all gradients together; parameters are summed in the order of their names.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub fn norm(&self) -> Result<f64, TensorError> {
        let gradients: Vec<&B::Buffer> = self.by_name.values().collect();
        Ok(self.backend.sums_of_squares(&gradients)?.into_iter().sum::<f64>().sqrt())
    }

    /// Scales the gradients down to `max_norm` if their norm is larger. Gives the norm before.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub fn clip(&mut self, max_norm: f64) -> Result<f64, TensorError> {
        let norm = self.norm()?;
        if norm > max_norm {
            self.scale(max_norm / norm)?;
        }
        Ok(norm)
    }
}
