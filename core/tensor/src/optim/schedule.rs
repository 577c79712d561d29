//! Learning-rate schedules: a factor per step, with linear warm-up.

use std::f64::consts::PI;

/// How the learning rate falls after warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// It stays.
    Constant {
        /// Steps of linear warm-up.
        warmup_steps: u64,
    },
    /// Half a cosine from 1 down to `floor` (Loshchilov and Hutter, 2017).
    Cosine {
        /// Steps of linear warm-up.
        warmup_steps: u64,
        /// The last factor.
        floor: f64,
    },
    /// `(1 - progress)^power`.
    Poly {
        /// Steps of linear warm-up.
        warmup_steps: u64,
        /// Exponent; 1 falls linearly.
        power: f64,
    },
}

impl Schedule {
    /// The factor for step `step` (from 0) of `total`. Warm-up step `i` of `w` has `(i + 1) / w`; progress
    /// then runs from 0 at the first step after warm-up to 1 at `total`, which is not reached.
    pub fn lr_at(&self, step: u64, total: u64) -> f64 {
        let warmup = match *self {
            Self::Constant { warmup_steps }
            | Self::Cosine { warmup_steps, .. }
            | Self::Poly { warmup_steps, .. } => warmup_steps,
        };
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        let rest = total.saturating_sub(warmup).max(1) as f64;
        let progress = ((step - warmup) as f64 / rest).min(1.0);
        match *self {
            Self::Constant { .. } => 1.0,
            Self::Cosine { floor, .. } => floor + (1.0 - floor) * 0.5 * (1.0 + (PI * progress).cos()),
            Self::Poly { power, .. } => (1.0 - progress).powf(power),
        }
    }
}
