//! What can go wrong between a module's inputs and its outputs.
//!
//! Errors of reading and writing weights are in [`crate::parameter::WeightsError`].

use std::fmt::Display;

/// Why a computation on tensors could not be done.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// The device refused (mostly: out of memory).
    #[error("the device failed: {0}")]
    Device(String),
    /// Two sizes that have to agree do not.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// Which tensor or dimension.
        what: String,
        /// What it had to be.
        expected: String,
        /// What it was.
        found: String,
    },
    /// A module was run without one of its inputs.
    #[error("input `{port}` is missing")]
    MissingInput {
        /// The port's name.
        port: String,
    },
    /// A port was given a value of another kind.
    #[error("`{port}` takes {expected}, not {found}")]
    WrongKind {
        /// The port's name.
        port: String,
        /// Kinds that it takes.
        expected: &'static str,
        /// Kind that it was given.
        found: &'static str,
    },
    /// A module was asked for an output that it does not have.
    #[error("there is no output `{port}`; there are {known}")]
    UnknownOutput {
        /// The output asked for.
        port: String,
        /// The outputs that exist.
        known: String,
    },
    /// A parameter that the store does not hold.
    #[error("there is no parameter `{name}`")]
    MissingParameter {
        /// Full name.
        name: String,
    },
    /// A token id beyond the vocabulary, or a class beyond the classes.
    #[error("{what} {id} is out of range: there are {limit}")]
    OutOfRange {
        /// What the number stands for.
        what: &'static str,
        /// The number.
        id: u64,
        /// How many there are.
        limit: usize,
    },
    /// A setting of a module that cannot work.
    #[error("{0}")]
    Config(String),
    /// `backward` was called on a loss that no tape has seen, or whose tape was already used.
    #[error("the loss depends on nothing that is recorded, so it has no gradient")]
    NoGradient,
}

impl TensorError {
    /// A disagreement of sizes, each side written with its `Debug` form.
    pub fn shape(
        what: impl Into<String>,
        expected: impl std::fmt::Debug,
        found: impl std::fmt::Debug,
    ) -> Self {
        Self::Shape { what: what.into(), expected: format!("{expected:?}"), found: format!("{found:?}") }
    }
}

/// Turns a device's own error type into [`TensorError::Device`].
///
/// Each dfdx device has an error type of its own, reachable only as an associated type, so `From` cannot
/// cover them; this method does.
pub trait OnDevice<T> {
    /// The value, or the device's error in words.
    fn on_device(self) -> Result<T, TensorError>;
}

impl<T, E: Display> OnDevice<T> for Result<T, E> {
    fn on_device(self) -> Result<T, TensorError> {
        self.map_err(|error| TensorError::Device(error.to_string()))
    }
}

/// Checks that a size is what it has to be.
pub fn expect_size(what: &str, expected: usize, found: usize) -> Result<(), TensorError> {
    if expected == found { Ok(()) } else { Err(TensorError::shape(what, expected, found)) }
}
