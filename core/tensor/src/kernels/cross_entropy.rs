//! Cross-entropy of rows of logits, with label smoothing (Szegedy et al. 2016) as PyTorch defines it.
//!
//! With `lse = log sum exp(logits)` and smoothing `s`, a row costs
//! `lse - (1 - s) logits[target] - s mean(logits)`.
//!
//! Must not know: what the classes are.

use rayon::prelude::*;

use super::math::{exp, fma, max, sum, sum_exp_minus};
use super::simd::multiversion;
use super::split::rows_per_task;

/// What the rows have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// V: logits of a row.
    pub classes: usize,
    /// s: the part of a target's weight that goes to all classes alike; 0 for none.
    pub smoothing: f32,
    /// Rows with this target count for nothing.
    pub ignore: Option<u32>,
}

/// Mean loss over the rows that count; 0 if none does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub loss: f32,
    /// Rows that count.
    pub counted: usize,
}

/// A target names no class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("target {target} of row {row} is beyond the {classes} classes")]
pub struct TargetOutOfRange {
    /// The target.
    pub target: u32,
    /// Its row.
    pub row: usize,
    /// Classes of the logits.
    pub classes: usize,
}

/// Loss and log-sum-exp of every row, and the mean loss.
///
/// # Shapes
/// - `logits: [R, V]`, `targets, losses, lse: [R]`
///
/// # Errors
/// The first target that neither counts for nothing nor is below V.
pub fn forward(
    logits: &[f32],
    targets: &[u32],
    options: Options,
    losses: &mut [f32],
    lse: &mut [f32],
) -> Result<Mean, TargetOutOfRange> {
    let classes = options.classes;
    assert!(classes > 0 && logits.len() == targets.len() * classes);
    assert!(losses.len() == targets.len() && lse.len() == targets.len());
    let wrong = |target: &u32| Some(*target) != options.ignore && *target as usize >= classes;
    if let Some(row) = targets.iter().position(wrong) {
        return Err(TargetOutOfRange { target: targets[row], row, classes });
    }
    let rows = rows_per_task(classes);
    let tasks = logits.par_chunks(rows * classes).zip(targets.par_chunks(rows));
    let tasks = tasks.zip(losses.par_chunks_mut(rows)).zip(lse.par_chunks_mut(rows));
    tasks.for_each(|(((logits, targets), losses), lse)| row_losses(logits, targets, options, losses, lse));

    let counted = targets.iter().filter(|target| Some(**target) != options.ignore).count();
    let total: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
    Ok(Mean { loss: (total / counted.max(1) as f64) as f32, counted })
}

/// `dlogits += scale (softmax(logits) - (1 - s) onehot(target) - s / V)` for the rows that count.
///
/// For the mean of [`forward`], `scale` is the loss's own gradient divided by [`Mean::counted`].
///
/// # Shapes
/// - `logits, dlogits: [R, V]`, `targets, lse: [R]` (targets as [`forward`] accepted them)
pub fn backward(
    logits: &[f32],
    targets: &[u32],
    lse: &[f32],
    options: Options,
    scale: f32,
    dlogits: &mut [f32],
) {
    let classes = options.classes;
    assert!(classes > 0 && logits.len() == targets.len() * classes);
    assert!(lse.len() == targets.len() && dlogits.len() == logits.len());
    let rows = rows_per_task(classes);
    let tasks = dlogits.par_chunks_mut(rows * classes).zip(logits.par_chunks(rows * classes));
    let tasks = tasks.zip(targets.par_chunks(rows)).zip(lse.par_chunks(rows));
    tasks.for_each(|(((dlogits, logits), targets), lse)| {
        row_gradients(logits, (targets, lse), options, scale, dlogits);
    });
}

multiversion! {
    fn row_losses(
        logits: &[f32],
        targets: &[u32],
        options: Options,
        losses: &mut [f32],
        lse: &mut [f32],
    ) {
        let rows = logits.chunks_exact(options.classes).zip(targets);
        for ((row, target), (loss, lse)) in rows.zip(losses.iter_mut().zip(lse)) {
            let top = max(row);
            *lse = top + sum_exp_minus::<FMA>(row, top).ln();
            *loss = 0.0;
            if Some(*target) != options.ignore {
                let nll = *lse - row[*target as usize];
                let uniform = *lse - sum(row) / options.classes as f32;
                *loss = if options.smoothing == 0.0 {
                    nll
                } else {
                    (1.0 - options.smoothing) * nll + options.smoothing * uniform
                };
            }
        }
    }

    fn row_gradients(
        logits: &[f32],
        rows: (&[u32], &[f32]),
        options: Options,
        scale: f32,
        dlogits: &mut [f32],
    ) {
        let shared = options.smoothing / options.classes as f32;
        let slices = logits.chunks_exact(options.classes).zip(dlogits.chunks_exact_mut(options.classes));
        for ((row, drow), (target, lse)) in slices.zip(rows.0.iter().zip(rows.1)) {
            if Some(*target) == options.ignore {
                continue;
            }
            for (d, logit) in drow.iter_mut().zip(row) {
                *d = fma::<FMA>(scale, exp::<FMA>(*logit - *lse) - shared, *d);
            }
            drow[*target as usize] -= scale * (1.0 - options.smoothing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_close, assert_same_on_any_threads, gradient, random, to_f64};

    fn naive(logits: &[f64], targets: &[u32], options: Options) -> Vec<f64> {
        let smoothing = f64::from(options.smoothing);
        let row = |(row, target): (&[f64], &u32)| {
            if Some(*target) == options.ignore {
                return 0.0;
            }
            let lse = row.iter().map(|l| l.exp()).sum::<f64>().ln();
            let mean = row.iter().sum::<f64>() / row.len() as f64;
            lse - (1.0 - smoothing) * row[*target as usize] - smoothing * mean
        };
        logits.chunks(options.classes).zip(targets).map(row).collect()
    }

    #[test]
    fn losses_and_gradients_agree_with_f64() {
        for (rows, classes) in [(1, 1), (4, 3), (5, 17), (3, 67)] {
            for (smoothing, ignore) in [(0.0, None), (0.1, None), (0.0, Some(0)), (0.2, Some(0))] {
                let options = Options { classes, smoothing, ignore };
                let logits: Vec<f32> = random(rows * classes, 1).iter().map(|l| l * 4.0).collect();
                let targets: Vec<u32> = (0..rows).map(|r| (r * 5 % classes) as u32).collect();
                let (mut losses, mut lse) = (vec![f32::NAN; rows], vec![0.0; rows]);
                let mean = forward(&logits, &targets, options, &mut losses, &mut lse).expect("targets fit");
                let exact = naive(&to_f64(&logits), &targets, options);
                assert_close(&losses, &exact, 2e-6);
                let counted = targets.iter().filter(|t| Some(**t) != ignore).count();
                assert_eq!(mean.counted, counted);
                let total = exact.iter().sum::<f64>();
                assert_close(&[mean.loss], &[total / counted.max(1) as f64], 2e-6);

                let mut dlogits = vec![1.0; logits.len()];
                backward(&logits, &targets, &lse, options, 0.5, &mut dlogits);
                let exact = gradient(&logits, |l| {
                    naive(l, &targets, options).iter().sum::<f64>() * 0.5 + l.iter().sum::<f64>()
                });
                assert_close(&dlogits, &exact, 2e-6);
            }
        }
    }

    #[test]
    fn a_target_beyond_the_classes_is_an_error() {
        let options = Options { classes: 2, smoothing: 0.0, ignore: Some(9) };
        let run = |targets: &[u32]| forward(&[0.0; 4], targets, options, &mut [0.0; 2], &mut [0.0; 2]);
        assert_eq!(run(&[9, 9]), Ok(Mean { loss: 0.0, counted: 0 }));
        assert_eq!(run(&[9, 2]), Err(TargetOutOfRange { target: 2, row: 1, classes: 2 }));
    }

    #[test]
    fn threads_do_not_change_bits() {
        let options = Options { classes: 301, smoothing: 0.1, ignore: Some(0) };
        let (logits, targets) = (random(500 * 301, 1), (0..500).map(|r| r % 301).collect::<Vec<u32>>());
        assert_same_on_any_threads(|| {
            let (mut losses, mut lse) = (vec![0.0; 500], vec![0.0; 500]);
            let mean = forward(&logits, &targets, options, &mut losses, &mut lse).expect("targets fit");
            let mut dlogits = vec![0.0; logits.len()];
            backward(&logits, &targets, &lse, options, 1.0, &mut dlogits);
            vec![vec![mean.loss], losses, lse, dlogits]
        });
    }
}
