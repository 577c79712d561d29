//! Named weights.

mod adapter;
mod file;
mod finite;
pub mod folder;
mod init;
mod spec;
mod store;
mod stream;

pub use adapter::{Adapter, merge};
pub use file::{LoadOptions, LoadReport, WeightsError, WeightsFile, to_safetensors};
pub use finite::check_finite;
pub(crate) use init::stream as random_stream;
pub use spec::{Init, ParameterSpec};
pub use store::{Parameter, Parameters, Scope};
pub use stream::{TensorHead, write_safetensors};
