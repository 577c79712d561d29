//! The reference bodies of the [`Backend`](super::Backend) operations, composed of dfdx operations.
//!
//! They are correct on every device and slow: an elementwise pass per arithmetic sign.
//!
//! dfdx 0.13 facts that shape this code: `reshape` (of contiguous data), `permute` and `broadcast` keep the
//! tensor's identity and cost nothing; a binary operation on twice the same tensor is an assertion failure; the
//! backward step of a slice overwrites instead of adding. Maxima are taken outside the tape, because they only
//! keep exponentials in range.

mod activation;
mod attention;
mod dense;
mod loss;
mod norm;
mod scalar;
mod sequence;
mod sublayer;

pub use activation::{gated, gelu, scale_each, silu};
pub use attention::{attention, rotary};
pub use dense::{linear, linear_onto, linear_transposed, matmul};
pub use loss::{contrastive, cross_entropy};
pub use norm::{layer_norm, normalize_rows, rms_norm};
pub use scalar::{dot, exp_limited, fresh_copy, scale_by, weighted_sum};
pub use sequence::{
    add_class_and_positions, concat_rows, embedding, mean_tokens, residual, scatter_rows, slice_rows, unfold,
};
pub use sublayer::{cross_attention, llama_attention, llama_mlp, vit_attention, vit_mlp};
