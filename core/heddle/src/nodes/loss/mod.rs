//! Losses of model graphs.

mod itc;
mod probe;

pub use itc::Itc;
pub use probe::Probe;
