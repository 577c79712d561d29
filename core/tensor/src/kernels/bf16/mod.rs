//! Forward passes of frozen sub-layers in bf16: InternViT blocks and LLaMA layers without gradients.
//!
//! In: the residual stream `[B, N, C]` in `f32`, and weights that were rounded to bf16 and packed once. Out: the
//! residual stream after the sub-layer, in `f32`. In between, what a matrix product reads is rounded to bf16 (to
//! nearest, ties to even); what it adds up, every statistic and every activation function stay in `f32`. This is
//! PyTorch's arithmetic under `autocast` with a residual stream in `f32`.
//!
//! ```text
//! vit_attention  vit_mlp  llama_attention  llama_mlp  linear       whole sub-layers, parallel
//!   on:  attention  norm  rope                                     what lies between two products
//!        product, which runs tile (12 rows x 32 columns) and hands each to an epilogue
//!   on:  pack (weights)  scratch (buffers)  prefetch  element (Bf16, Line)
//! ```
//!
//! Both promises of [`super`] hold: every output row has one order of addition, whatever rows are beside it, and
//! tasks are cut at fixed numbers of rows. The bits do depend on the [`Engine`], which the processor decides.
//!
//! Must not know: dfdx, tapes, gradients, parameter names.

mod attention;
mod element;
mod epilogue;
mod linear;
mod llama;
mod norm;
mod pack;
mod prefetch;
mod product;
mod rope;
mod scratch;
mod self_attention;
mod tile;
mod vit;

#[cfg(test)]
mod tests;

pub use linear::linear;
pub use llama::{LlamaAttention, LlamaMlp, llama_attention, llama_mlp};
pub use norm::Norm;
pub use pack::PackedWeights;
pub use rope::Rotary;
pub use tile::Engine;
pub use vit::{QkNorm, VitAttention, VitMlp, vit_attention, vit_mlp};

/// Whether this processor multiplies bf16 itself, so that frozen weights in bf16 are faster than in `f32`.
///
/// Without it everything here still runs, on [`Engine::Portable`].
pub fn supported() -> bool {
    Engine::detect() != Engine::Portable
}
