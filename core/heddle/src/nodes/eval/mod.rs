//! Evaluations: records and features in, [`Measurement`]s out.

mod caption;
mod cider;
mod classification;
mod labels;
mod matching;
mod measure;
mod pixel_floor;
mod questions;
mod retrieval;
mod tasks;
mod zero_shot;

pub use caption::Caption;
pub use classification::Classification;
pub use matching::Matching;
pub use measure::{CurvePoint, Measurement, Metrics};
pub use pixel_floor::PixelFloor;
pub use questions::Questions;
pub use retrieval::Retrieval;
pub use zero_shot::ZeroShot;
