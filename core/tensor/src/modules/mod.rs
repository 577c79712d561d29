//! The nodes of model graphs. Each is plain settings with a `forward`; a file each.
//!
//! Modules with one main input or output call the port `input` or `output` unless their own word is clearer.

mod attention_pool;
mod flatten_linear;
pub mod internvit;
mod itc;
mod linear;
mod llama;
mod mean_pool;
mod probe;

pub use attention_pool::AttentionPool;
pub use flatten_linear::FlattenLinear;
pub use internvit::{DropPathMode, InternVit};
pub use itc::Itc;
pub use linear::Linear;
pub use llama::Llama;
pub use mean_pool::MeanPool;
pub use probe::Probe;

crate::module::dyn_modules!(AttentionPool, FlattenLinear, InternVit, Itc, Linear, Llama, MeanPool, Probe);
