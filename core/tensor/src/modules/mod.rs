//! The nodes of model graphs. Each is plain settings with a `forward`; a file each.
//!
//! Modules with one main input or output call the port `input` or `output` unless their own word is clearer.

mod attention_pool;
mod cross_entropy;
mod flatten_linear;
pub mod internvit;
mod itc;
mod itm;
mod linear;
mod llama;
mod mean_pool;
mod pairs;
mod probe;
mod projector;
mod qllama;
mod unit_sum;

pub use attention_pool::AttentionPool;
pub use cross_entropy::CrossEntropy;
pub use flatten_linear::FlattenLinear;
pub use internvit::{DropPathMode, InternVit};
pub use itc::Itc;
pub use itm::Itm;
pub use linear::Linear;
pub use llama::{Decoder, KvCache, Llama, Lora, Mix, Projection};
pub use mean_pool::MeanPool;
pub use pairs::{PairScheme, Pairs};
pub use probe::Probe;
pub use projector::Projector;
pub use qllama::{Qllama, Vision};
pub use unit_sum::UnitSum;

crate::module::dyn_modules!(
    AttentionPool,
    CrossEntropy,
    FlattenLinear,
    InternVit,
    Itc,
    Itm,
    Linear,
    Llama,
    MeanPool,
    Pairs,
    Probe,
    Projector,
    Qllama,
    UnitSum,
);
