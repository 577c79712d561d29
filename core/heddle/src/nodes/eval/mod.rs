//! Evaluations: records and features in, [`Measurement`]s out.

mod labels;
mod measure;
mod pixel_floor;
mod retrieval;
mod tasks;
mod zero_shot;

pub use measure::{CurvePoint, Measurement, Metrics};
pub use pixel_floor::PixelFloor;
pub use retrieval::Retrieval;
pub use zero_shot::ZeroShot;
