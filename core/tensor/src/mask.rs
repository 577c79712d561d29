//! Which keys a query may attend to.

use std::sync::Arc;

use crate::error::{TensorError, expect_size};

/// An attention mask. Host data, shared by all layers of one forward pass.
///
/// A query that may attend to nothing (a padded row behind a fully padded prefix) has an output without
/// meaning, but a finite one.
#[derive(Debug, Clone, Default)]
pub enum Mask {
    /// Every query sees every key.
    #[default]
    None,
    /// Query `i` sees keys `j <= i + (k_len - q_len)`.
    Causal,
    /// Real keys only, `keep` is `[B, Nk]`; with `causal`, both conditions hold.
    Padding {
        /// `[B, Nk]`, true where a key may be attended to.
        keep: Arc<[bool]>,
        /// Whether the causal condition holds as well.
        causal: bool,
    },
    /// Any pattern per record, `[B, Nq, Nk]`, true where a query may attend to a key.
    Pattern(Arc<[bool]>),
}

impl Mask {
    /// Checks the mask's size against an attention of `batch` records, `q_len` queries and `k_len` keys.
    ///
    /// # Errors
    /// [`TensorError::Shape`] where they differ.
    pub fn check(&self, batch: usize, q_len: usize, k_len: usize) -> Result<(), TensorError> {
        match self {
            Self::None | Self::Causal => Ok(()),
            Self::Padding { keep, .. } => expect_size("elements of the key mask", batch * k_len, keep.len()),
            Self::Pattern(allowed) => {
                expect_size("elements of the attention mask", batch * q_len * k_len, allowed.len())
            }
        }
    }

    /// Whether record `b`'s query `i` of `q_len` may attend to key `j` of `k_len`.
    pub fn allows(&self, b: usize, (i, q_len): (usize, usize), (j, k_len): (usize, usize)) -> bool {
        let causal = j + q_len <= i + k_len;
        match self {
            Self::None => true,
            Self::Causal => causal,
            Self::Padding { keep, causal: both } => keep[b * k_len + j] && (!both || causal),
            Self::Pattern(allowed) => allowed[(b * q_len + i) * k_len + j],
        }
    }
}
