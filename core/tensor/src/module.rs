//! How a node of a model graph is called.
//!
//! A node is a [`Module`]: plain settings with a `forward` that is generic over the backend. The graph holds
//! nodes as [`DynModule`] trait objects; [`Backend::run`] finds the way back from the object to the generic
//! `forward`. One call reads inputs by port, parameters by local name, and writes the outputs asked for:
//!
//! ```text
//! Forward::new(&backend, parameters.scope("vit/"), Mode::Train, seed)
//!     .with_tape(&tape).input("image", value).want("tokens")
//! backend.run(&*node, &mut cx)?
//! cx.take_outputs()
//! ```

use std::collections::{BTreeMap, BTreeSet};

use dfdx::prelude::Shape;
use rand_chacha::ChaCha8Rng;

use crate::{
    backend::{Backend, Cpu, CpuF64},
    error::TensorError,
    modules::KvCache,
    parameter::{Adapter, ParameterSpec, Scope},
    tape::Tape,
    tensor::{Image, Matrix, Row, Scalar, Seq, Tensor, Vector},
    value::{Tokens, Value},
};

/// Whether a forward pass is part of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Drop path, dropout and token masking are active.
    Train,
    /// Deterministic: the same records give the same outputs.
    Eval,
}

/// The size of one record's input, for counting multiply-adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputSize {
    /// An image in pixels.
    Image {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// A sequence of this many tokens.
    Tokens(usize),
    /// One vector.
    Vector,
}

/// What a module does to single records in training: whether its values of a record may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PerRecord {
    /// A record's outputs depend on its inputs and the parameters alone.
    Fixed,
    /// Random numbers are drawn.
    Draws,
    /// They depend on the other records of the batch.
    Mixes,
}

/// An output at which a pass can begin: given it as an input of this name, a module needs no other input and computes only what
/// follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The port.
    pub port: String,
    /// Other names of the same output.
    pub aliases: Vec<String>,
    /// Beginnings of the names of the parameters that it depends on.
    pub before: Vec<String>,
}

/// A node of a model graph.
pub trait Module: Send + Sync {
    /// The parameters, under their published local names.
    fn parameters(&self) -> Vec<ParameterSpec>;

    /// Pairs of thin matrices among the parameters, under local names: a weight without its pair is a whole model.
    fn adapters(&self) -> Vec<Adapter> {
        Vec::new()
    }

    /// Multiply-adds of the forward pass of one record, down to the last output. 0 for an input size of
    /// another kind than the module takes.
    fn macs(&self, input: InputSize) -> u64;

    /// What it does to single records in training.
    fn per_record(&self) -> PerRecord {
        PerRecord::Fixed
    }

    /// The outputs at which a pass can begin, the deepest last.
    fn resumes(&self) -> Vec<Resume> {
        Vec::new()
    }

    /// Reads inputs from `cx` and writes the outputs wanted.
    ///
    /// # Errors
    /// [`TensorError`] where inputs, parameters and settings do not fit.
    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError>;
}

/// A [`Module`] behind a pointer; implemented for all of [`crate::modules`]. Run it with [`Backend::run`].
pub trait DynModule: Send + Sync {
    /// See [`Module::parameters`].
    fn parameters(&self) -> Vec<ParameterSpec>;
    /// See [`Module::adapters`].
    fn adapters(&self) -> Vec<Adapter>;
    /// See [`Module::macs`].
    fn macs(&self, input: InputSize) -> u64;
    /// See [`Module::per_record`].
    fn per_record(&self) -> PerRecord;
    /// See [`Module::resumes`].
    fn resumes(&self) -> Vec<Resume>;
    /// [`Module::forward`] on [`Cpu`].
    ///
    /// # Errors
    /// See [`Module::forward`].
    fn forward_cpu(&self, cx: &mut Forward<'_, Cpu>) -> Result<(), TensorError>;
    /// [`Module::forward`] on [`CpuF64`].
    ///
    /// # Errors
    /// See [`Module::forward`].
    fn forward_cpu_f64(&self, cx: &mut Forward<'_, CpuF64>) -> Result<(), TensorError>;
    /// [`Module::forward`] on [`Cuda`](crate::Cuda).
    ///
    /// # Errors
    /// See [`Module::forward`].
    #[cfg(feature = "cuda")]
    fn forward_cuda(&self, cx: &mut Forward<'_, crate::Cuda>) -> Result<(), TensorError>;
}

/// Implements [`DynModule`] for modules. Not a blanket implementation, so that each module is compiled for each
/// backend here and not once more in every crate that holds one.
macro_rules! dyn_modules {
    ($($module:ty),* $(,)?) => {$(
        impl $crate::module::DynModule for $module {
            fn parameters(&self) -> Vec<$crate::ParameterSpec> {
                $crate::Module::parameters(self)
            }
            fn adapters(&self) -> Vec<$crate::parameter::Adapter> {
                $crate::Module::adapters(self)
            }
            fn macs(&self, input: $crate::InputSize) -> u64 {
                $crate::Module::macs(self, input)
            }
            fn per_record(&self) -> $crate::PerRecord {
                $crate::Module::per_record(self)
            }
            fn resumes(&self) -> Vec<$crate::Resume> {
                $crate::Module::resumes(self)
            }
            fn forward_cpu(&self, cx: &mut $crate::Forward<'_, $crate::Cpu>) -> Result<(), $crate::TensorError> {
                $crate::Module::forward(self, cx)
            }
            fn forward_cpu_f64(
                &self,
                cx: &mut $crate::Forward<'_, $crate::CpuF64>,
            ) -> Result<(), $crate::TensorError> {
                $crate::Module::forward(self, cx)
            }
            #[cfg(feature = "cuda")]
            fn forward_cuda(&self, cx: &mut $crate::Forward<'_, $crate::Cuda>) -> Result<(), $crate::TensorError> {
                $crate::Module::forward(self, cx)
            }
        }
    )*};
}
pub(crate) use dyn_modules;

/// One call of a module: what it reads and where it writes.
#[derive(Debug)]
pub struct Forward<'a, B: Backend> {
    backend: &'a B,
    scope: Scope<'a, B>,
    mode: Mode,
    seed: u64,
    tape: Tape<B>,
    inputs: BTreeMap<String, Value<B>>,
    wanted: BTreeSet<String>,
    outputs: BTreeMap<String, Value<B>>,
}

impl<'a, B: Backend> Forward<'a, B> {
    /// A call without inputs that records nothing. `seed` drives drop path, dropout and token masking: give each node
    /// and step its own.
    pub fn new(backend: &'a B, scope: Scope<'a, B>, mode: Mode, seed: u64) -> Self {
        let (inputs, wanted, outputs) = Default::default();
        Self { backend, scope, mode, seed, tape: Tape::off(), inputs, wanted, outputs }
    }

    /// Records operations on trainable parameters on this tape.
    #[must_use]
    pub fn with_tape(mut self, tape: &Tape<B>) -> Self {
        self.tape = tape.clone();
        self
    }

    /// Gives a value to an input port.
    #[must_use]
    pub fn input(mut self, port: impl Into<String>, value: Value<B>) -> Self {
        self.inputs.insert(port.into(), value);
        self
    }

    /// Asks for an output.
    #[must_use]
    pub fn want(mut self, port: impl Into<String>) -> Self {
        self.wanted.insert(port.into());
        self
    }

    /// Whether an output was asked for.
    pub fn wants(&self, port: &str) -> bool {
        self.wanted.contains(port)
    }

    /// The outputs asked for.
    pub fn wanted(&self) -> impl Iterator<Item = &str> {
        self.wanted.iter().map(String::as_str)
    }

    /// The outputs by port, once the module has run.
    ///
    /// # Errors
    /// [`TensorError::UnknownOutput`] if an output that was asked for does not exist.
    pub fn take_outputs(&mut self) -> Result<BTreeMap<String, Value<B>>, TensorError> {
        match self.wanted.iter().find(|port| !self.outputs.contains_key(*port)) {
            None => Ok(std::mem::take(&mut self.outputs)),
            Some(port) => {
                let known = self.outputs.keys().map(|port| format!("`{port}`")).collect::<Vec<_>>();
                Err(TensorError::UnknownOutput { port: port.clone(), known: known.join(", ") })
            }
        }
    }

    /// The backend.
    pub fn backend(&self) -> &'a B {
        self.backend
    }

    /// Training or not.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// A random stream of this call for one purpose, the same for the same seed and purpose.
    pub fn random(&self, purpose: &str) -> ChaCha8Rng {
        crate::parameter::random_stream(purpose, self.seed)
    }

    /// Writes an output, if it was asked for.
    pub fn put(&mut self, port: &str, value: Value<B>) {
        if self.wants(port) {
            self.outputs.insert(port.to_owned(), value);
        }
    }

    /// A parameter in the given shape.
    ///
    /// # Errors
    /// [`TensorError::MissingParameter`], [`TensorError::Shape`]
    pub fn parameter<S: Shape>(&self, local: &str, shape: S) -> Result<Tensor<S, B>, TensorError> {
        self.scope.get(local, shape, &self.tape)
    }

    /// A parameter as a matrix.
    ///
    /// # Errors
    /// As for [`Forward::parameter`].
    pub fn matrix(&self, local: &str, rows: usize, columns: usize) -> Result<Matrix<B>, TensorError> {
        self.parameter(local, (rows, columns))
    }

    /// A parameter as a vector.
    ///
    /// # Errors
    /// As for [`Forward::parameter`].
    pub fn row(&self, local: &str, size: usize) -> Result<Row<B>, TensorError> {
        self.parameter(local, (size,))
    }

    /// An input that is an image.
    ///
    /// # Errors
    /// [`TensorError::MissingInput`], [`TensorError::WrongKind`], here and below.
    pub fn image(&mut self, port: &str) -> Result<Image<B>, TensorError> {
        match self.any(port)? {
            Value::Image(image) => Ok(image),
            other => Err(wrong_kind(port, "an image", &other)),
        }
    }

    /// An input that is a text.
    ///
    /// # Errors
    /// As for [`Forward::image`]; [`TensorError::Shape`] for inconsistent tokens.
    pub fn tokens(&mut self, port: &str) -> Result<Tokens, TensorError> {
        match self.any(port)? {
            Value::Text(tokens) => tokens.check().map(|()| tokens),
            other => Err(wrong_kind(port, "a text", &other)),
        }
    }

    /// An input that is a sequence.
    ///
    /// # Errors
    /// As for [`Forward::image`].
    pub fn sequence(&mut self, port: &str) -> Result<Seq<B>, TensorError> {
        match self.any(port)? {
            Value::Sequence(sequence) => Ok(sequence),
            other => Err(wrong_kind(port, "a sequence", &other)),
        }
    }

    /// An input that is a vector per record.
    ///
    /// # Errors
    /// As for [`Forward::image`].
    pub fn vector(&mut self, port: &str) -> Result<Vector<B>, TensorError> {
        match self.any(port)? {
            Value::Vector(vector) => Ok(vector),
            other => Err(wrong_kind(port, "a vector", &other)),
        }
    }

    /// An input that says which rows count, and for what: targets, or a text, whose blank rows do not count and whose
    /// other rows are of class 0.
    ///
    /// # Errors
    /// As for [`Forward::image`].
    pub fn targets(&mut self, port: &str) -> Result<Vec<Option<u32>>, TensorError> {
        match self.any(port)? {
            Value::Targets(targets) => Ok(targets),
            Value::Text(tokens) => {
                Ok(tokens.blank().into_iter().map(|blank| (!blank).then_some(0)).collect())
            }
            other => Err(wrong_kind(port, "targets or a text", &other)),
        }
    }

    /// An input that holds what a decoder has read.
    ///
    /// # Errors
    /// As for [`Forward::image`].
    pub fn cache(&mut self, port: &str) -> Result<KvCache<B>, TensorError> {
        match self.any(port)? {
            Value::Cache(cache) => Ok(cache),
            other => Err(wrong_kind(port, "what a decoder has read", &other)),
        }
    }

    /// Whether an input was given.
    pub fn has(&self, port: &str) -> bool {
        self.inputs.contains_key(port)
    }

    /// An input that holds scores, or vectors, which lie like scores.
    ///
    /// # Errors
    /// As for [`Forward::image`].
    pub fn logits(&mut self, port: &str) -> Result<Matrix<B>, TensorError> {
        match self.any(port)? {
            Value::Logits(logits) | Value::Vector(logits) => Ok(logits),
            other => Err(wrong_kind(port, "logits", &other)),
        }
    }

    /// An input of any kind.
    ///
    /// # Errors
    /// [`TensorError::MissingInput`]
    pub fn any(&mut self, port: &str) -> Result<Value<B>, TensorError> {
        self.inputs.get(port).cloned().ok_or_else(|| TensorError::MissingInput { port: port.to_owned() })
    }

    /// The scalar parameter `local`.
    ///
    /// # Errors
    /// As for [`Forward::parameter`].
    pub fn scalar(&self, local: &str) -> Result<Scalar<B>, TensorError> {
        self.parameter(local, ())
    }
}

/// A value of a kind that a port does not take.
pub(crate) fn wrong_kind<B: Backend>(port: &str, expected: &'static str, found: &Value<B>) -> TensorError {
    TensorError::WrongKind { port: port.to_owned(), expected, found: found.kind() }
}
