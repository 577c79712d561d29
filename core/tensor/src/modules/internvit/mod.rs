//! InternViT (InternVL, CVPR 2024, section 3.2): a vision transformer with pre-norm RMS norms, query/key
//! normalisation and LayerScale.

mod block;
mod config;
mod forward;
mod masking;
mod positions;

pub use config::{DropPathMode, InternVit};
