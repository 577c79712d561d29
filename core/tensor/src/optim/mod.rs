//! From losses to new parameters.

mod adamw;
mod ema;
mod gradients;
mod schedule;
mod state;

pub use adamw::AdamW;
pub use ema::Ema;
pub use gradients::{ParamGrads, backward, backward_with, weighted_sum};
pub use schedule::Schedule;
pub use state::StateError;
