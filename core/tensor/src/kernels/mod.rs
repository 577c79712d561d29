//! Fused CPU kernels: pure functions over row-major, contiguous `f32` slices.
//!
//! In: slices whose lengths the caller has already made to agree, and small structs of sizes. Out: results
//! written to slices that the caller owns. A forward *overwrites* its outputs; a backward *adds* to its
//! gradients (`+=`), and each gradient is an `Option`, so that a frozen part costs nothing.
//!
//! Two promises, which the tests of each file hold the kernels to:
//!
//! * the bits of a result do not depend on the number of threads;
//! * the bits of one record's rows do not depend on how many other records share the batch, nor which.
//!
//! Both follow from one rule: work is split at places fixed by the shape, and every sum has one order. Work
//! runs on rayon's current pool.
//!
//! Must not know: dfdx, tapes, modules, parameter names. A length that does not fit is a bug of the caller
//! and asserted; what a user's data can get wrong (an id beyond the vocabulary) is an error.
//!
//! ```text
//! linear        forward, backward                 x w^T + b
//! norm          rms_*, layer_*                    normalisation of rows, with weights
//! normalize     forward, backward                 rows to unit length
//! activation    gelu_*, and pieces of sub-layers
//! sublayer      whole attention and perceptron branches
//! attention     forward, backward                 all heads; masks; packed or separate q, k, v
//! rope          apply                             in place; its backward is the other direction
//! residual      forward, backward                 x + keep gamma y
//! embedding     forward, backward                 ids to rows
//! cross_entropy forward, backward                 rows of logits
//! contrastive   forward, backward                 image-text pairs, both directions
//! patch         unfold, fold                      images to patches and back
//! adamw         step
//! bf16          forwards of whole frozen sub-layers
//! vector        sum_of_squares, axpy, scale
//! compact       weights of a decoder, for its steps
//!   on:  memory (leases)  packed (rows times weights)  outer (their gradients)  matmul (gemm)  softmax  math (exp, normal, sums)  split (tasks)  simd (instruction sets)
//! ```

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod bf16;
pub mod compact;
pub mod contrastive;
pub mod cross_entropy;
pub mod embedding;
mod few;
pub mod linear;
mod math;
pub mod matmul;
mod memory;
pub mod norm;
pub mod normalize;
mod outer;
mod packed;
pub mod patch;
pub mod residual;
pub mod rope;
mod simd;
mod softmax;
mod split;
pub mod sublayer;
pub mod vector;

#[cfg(test)]
mod attention_tests;
#[cfg(test)]
mod reference;
