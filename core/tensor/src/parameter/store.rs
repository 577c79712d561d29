//! The ordered store of parameters, and the view of it that a module reads through.

use std::collections::BTreeMap;

use dfdx::prelude::{HasShape, PutTape, ReshapeTo, Shape};

use super::{ParameterSpec, init};
use crate::{
    backend::Backend,
    element::Element,
    error::{OnDevice, TensorError},
    tape::Tape,
    tensor::{Flat, Tensor},
};

/// One stored parameter.
#[derive(Debug, Clone)]
pub struct Parameter<B: Backend> {
    /// Published shape.
    pub shape: Vec<usize>,
    /// Whether weight decay applies.
    pub decay: bool,
    /// Whether gradients are computed for it.
    pub trainable: bool,
    /// Its elements, row-major.
    pub value: Flat<B>,
}

/// Parameters by full name, in the order of their names.
///
/// Values rest as flat tensors: dfdx gives a reshaped contiguous tensor the identity and the memory of the
/// original, so any view of a parameter leads to the same gradient.
#[derive(Debug, Clone)]
pub struct Parameters<B: Backend> {
    backend: B,
    by_name: BTreeMap<String, Parameter<B>>,
}

impl<B: Backend> Parameters<B> {
    /// Draws all parameters, each from a random stream of its own seeded by `seed` and its full name.
    ///
    /// # Errors
    /// [`TensorError::Config`] if two specifications have the same full name; [`TensorError::Device`].
    pub fn init(
        specs: impl IntoIterator<Item = (String, ParameterSpec)>,
        seed: u64,
        backend: &B,
    ) -> Result<Self, TensorError> {
        let mut by_name = BTreeMap::new();
        for (name, spec) in specs {
            let value = backend.tensor(backend.buffer(init::draw(&name, &spec, seed))?)?;
            let parameter = Parameter { shape: spec.shape, decay: spec.decay, trainable: true, value };
            if by_name.insert(name.clone(), parameter).is_some() {
                return Err(TensorError::Config(format!("two parameters are named `{name}`")));
            }
        }
        Ok(Self { backend: backend.clone(), by_name })
    }

    /// The backend that holds the values.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// A parameter by full name.
    pub fn get(&self, name: &str) -> Option<&Parameter<B>> {
        self.by_name.get(name)
    }

    /// All parameters in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Parameter<B>)> {
        self.by_name.iter().map(|(name, parameter)| (name.as_str(), parameter))
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Parameter<B>> {
        self.by_name.get_mut(name)
    }

    /// Full names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Number of elements of all parameters together.
    pub fn count(&self) -> usize {
        self.by_name.values().map(|parameter| parameter.value.shape().0).sum()
    }

    /// Number of elements of the trainable parameters.
    pub fn count_trainable(&self) -> usize {
        self.by_name.values().filter(|p| p.trainable).map(|p| p.value.shape().0).sum()
    }

    /// Replaces a parameter's elements.
    ///
    /// # Errors
    /// [`TensorError::MissingParameter`], or [`TensorError::Shape`] for a wrong number of elements.
    pub fn set(&mut self, name: &str, data: Vec<B::Elem>) -> Result<(), TensorError> {
        let parameter = self.by_name.get_mut(name).ok_or_else(|| missing(name))?;
        if data.len() != parameter.value.shape().0 {
            return Err(TensorError::shape(name, parameter.value.shape().0, data.len()));
        }
        parameter.value = self.backend.tensor(self.backend.buffer(data)?)?;
        Ok(())
    }

    /// Decides for each parameter, by its full name, whether gradients are computed for it.
    pub fn set_trainable(&mut self, trainable: impl Fn(&str) -> bool) {
        for (name, parameter) in &mut self.by_name {
            parameter.trainable = trainable(name);
        }
    }

    /// A parameter's elements on the host, row-major.
    ///
    /// # Errors
    /// [`TensorError::MissingParameter`], [`TensorError::Device`]
    pub fn to_host(&self, name: &str) -> Result<Vec<f32>, TensorError> {
        let parameter = self.by_name.get(name).ok_or_else(|| missing(name))?;
        let values = self.backend.buffer_to_vec(&self.backend.read(&parameter.value)?)?;
        Ok(values.into_iter().map(|x| x.wide() as f32).collect())
    }

    /// The parameters of one node, seen under their local names: `scope("vit")` finds `vit/...`-style full
    /// names by putting `prefix` before each local name, so the prefix includes its separator.
    pub fn scope(&self, prefix: impl Into<String>) -> Scope<'_, B> {
        Scope { parameters: self, prefix: prefix.into() }
    }
}

fn missing(name: &str) -> TensorError {
    TensorError::MissingParameter { name: name.to_owned() }
}

/// Parameters whose full names start with a prefix. See [`Parameters::scope`].
#[derive(Debug, Clone)]
pub struct Scope<'a, B: Backend> {
    parameters: &'a Parameters<B>,
    prefix: String,
}

impl<B: Backend> Scope<'_, B> {
    /// The parameter `local` in a shape of the same number of elements. On a tape that is on, a trainable
    /// parameter is recorded; a frozen one is a constant.
    ///
    /// # Errors
    /// [`TensorError::MissingParameter`], or [`TensorError::Shape`] if the shape does not hold the elements.
    pub fn get<S: Shape>(&self, local: &str, shape: S, tape: &Tape<B>) -> Result<Tensor<S, B>, TensorError> {
        let name = format!("{}{local}", self.prefix);
        let parameter = self.parameters.get(&name).ok_or_else(|| missing(&name))?;
        let (expected, found) = (shape.num_elements(), parameter.value.shape().0);
        if expected != found {
            return Err(TensorError::shape(name, expected, found));
        }
        let value = parameter.value.clone().try_reshape_like(&shape).on_device()?;
        if !parameter.trainable {
            return Ok(value.put_tape(Tape::off()));
        }
        tape.note_parameter(&name);
        Ok(value.put_tape(tape.clone()))
    }
}
