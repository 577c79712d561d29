//! Named weights.

mod file;
mod init;
mod spec;
mod store;

pub use file::{LoadOptions, LoadReport, WeightsError, WeightsFile, to_safetensors};
pub(crate) use init::stream as random_stream;
pub use spec::{Init, ParameterSpec};
pub use store::{Parameter, Parameters, Scope};
