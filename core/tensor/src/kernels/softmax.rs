//! One row of scores to probabilities and back, with the keys that a query may not see left out.
//!
//! Must not know: heads, strides, tiles.

use super::math::{dot, exp_minus, max};
use super::simd::multiversion;

/// The keys that one query sees: those before `prefix` whose `keep` is true.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Keys from here on are hidden.
    pub prefix: usize,
    /// `[Nk]`; absent means that all are kept.
    pub keep: Option<&'a [bool]>,
}

multiversion! {
    /// Scores to probabilities in place; returns the log-sum-exp.
    ///
    /// Hidden keys get exactly 0. If none is seen, all are 0 and the log-sum-exp is minus infinity.
    pub fn softmax_row(row: &mut [f32], visible: Row<'_>) -> f32 {
        let (seen, hidden) = row.split_at_mut(visible.prefix);
        hidden.fill(0.0);
        hide(seen, visible.keep);
        let top = max(seen);
        // NaN is above no number, so a row of NaNs also lands here and must stay NaN.
        if top == f32::NEG_INFINITY && !seen.iter().any(|s| s.is_nan()) {
            seen.fill(0.0);
            return f32::NEG_INFINITY;
        }
        let total = exp_minus::<FMA>(seen, top);
        let scale = 1.0 / total;
        for s in seen {
            *s *= scale;
        }
        top + total.ln()
    }

    /// Scores to probabilities in place, by the log-sum-exp that [`softmax_row`] returned.
    pub fn probability_row(row: &mut [f32], lse: f32, visible: Row<'_>) {
        let (seen, hidden) = row.split_at_mut(visible.prefix);
        hidden.fill(0.0);
        if lse == f32::NEG_INFINITY {
            return seen.fill(0.0);
        }
        hide(seen, visible.keep);
        exp_minus::<FMA>(seen, lse);
    }

    /// Gradient of the probabilities to gradient of the scores before `scale`, in place:
    /// `ds <- scale p (ds - sum p ds)`.
    pub fn gradient_row(p: &[f32], ds: &mut [f32], scale: f32) {
        let mean = dot::<FMA>(p, ds);
        for (ds, p) in ds.iter_mut().zip(p) {
            *ds = scale * *p * (*ds - mean);
        }
    }
}

#[inline(always)]
fn hide(scores: &mut [f32], keep: Option<&[bool]>) {
    if let Some(keep) = keep {
        for (score, keep) in scores.iter_mut().zip(keep) {
            *score = if *keep { *score } else { f32::NEG_INFINITY };
        }
    }
}
