//! Losses of model graphs.

mod itc;
mod itm;
mod probe;
mod tokens;

pub use itc::Itc;
pub use itm::Itm;
pub use probe::Probe;
pub use tokens::{Itg, Lm};
