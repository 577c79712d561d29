//! Losses of model graphs.

mod cross_entropy;
mod itc;
mod itm;
mod probe;
mod tokens;

pub use cross_entropy::CrossEntropy;
pub use itc::Itc;
pub use itm::Itm;
pub use probe::Probe;
pub use tokens::{Itg, Lm};
