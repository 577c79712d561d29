//! Image-text contrastive loss (Radford et al. 2021, CLIP): the mean of both directions' cross-entropies.
//!
//! Row `i` of the images belongs to row `i` of the texts; all other pairs are negatives.
//!
//! Must not know: how features were made; whether the scale is learnt.

use super::cross_entropy::{self, Options};
use super::math::dot;
use super::matmul::{Matrix, MatrixMut, Write, product};
use super::simd::multiversion;

/// What [`forward`] keeps for [`backward`].
#[derive(Clone, Debug)]
pub struct Saved {
    to_text: Side,
    to_image: Side,
    width: usize,
    scale: f32,
    smoothing: f32,
}

/// One direction: each row picks its partner among all.
#[derive(Clone, Debug)]
struct Side {
    logits: Vec<f32>,
    lse: Vec<f32>,
    loss: f32,
}

/// Where the gradients go; each is added to.
#[derive(Debug, Default)]
pub struct Grads<'a> {
    /// `[N, width]`
    pub image: Option<&'a mut [f32]>,
    /// `[N, width]`
    pub text: Option<&'a mut [f32]>,
    /// Of the scale itself, not of its logarithm.
    pub scale: Option<&'a mut f32>,
}

/// The loss of N pairs, `(CE(scale image text^T) + CE(scale text image^T)) / 2`.
///
/// # Shapes
/// - `image, text: [N, width]`, rows of unit length (see [`super::normalize`])
///
/// `smoothing` is that of [`Options`]. No pairs cost 0.
pub fn forward(image: &[f32], text: &[f32], width: usize, scale: f32, smoothing: f32) -> (f32, Saved) {
    assert!(width > 0 && image.len() == text.len() && image.len().is_multiple_of(width));
    let to_text = side(image, text, width, scale, smoothing);
    let to_image = side(text, image, width, scale, smoothing);
    let loss = 0.5 * (to_text.loss + to_image.loss);
    (loss, Saved { to_text, to_image, width, scale, smoothing })
}

/// Adds the gradients for the loss's own gradient `upstream`; `image` and `text` as in [`forward`].
///
/// With `G` the gradient of the logits from both directions: `dimage += scale G text`,
/// `dtext += scale G^T image`, `dscale += sum of image * (G text)`.
pub fn backward(saved: &Saved, image: &[f32], text: &[f32], upstream: f32, grads: Grads<'_>) {
    let width = saved.width;
    let pairs = saved.to_text.lse.len();
    assert!(image.len() == pairs * width && text.len() == pairs * width);
    if pairs == 0 {
        return;
    }
    let logits = logit_gradient(saved, pairs, upstream);
    let logits = Matrix::new(&logits, pairs, pairs);
    if let Some(dimage) = grads.image {
        let out = MatrixMut::new(dimage, pairs, width);
        product(saved.scale, logits, Matrix::new(text, pairs, width), out, Write::Add);
    }
    if let Some(dtext) = grads.text {
        let out = MatrixMut::new(dtext, pairs, width);
        product(saved.scale, logits.t(), Matrix::new(image, pairs, width), out, Write::Add);
    }
    if let Some(dscale) = grads.scale {
        let mut pull = vec![0.0; image.len()];
        let out = MatrixMut::new(&mut pull, pairs, width);
        product(1.0, logits, Matrix::new(text, pairs, width), out, Write::Overwrite);
        *dscale += inner(image, &pull);
    }
}

fn side(queries: &[f32], keys: &[f32], width: usize, scale: f32, smoothing: f32) -> Side {
    let pairs = queries.len() / width;
    let (mut logits, mut lse, mut losses) = (vec![0.0; pairs * pairs], vec![0.0; pairs], vec![0.0; pairs]);
    let (a, b) = (Matrix::new(queries, pairs, width), Matrix::new(keys, pairs, width).t());
    product(scale, a, b, MatrixMut::new(&mut logits, pairs, pairs), Write::Overwrite);
    let loss = if pairs == 0 {
        0.0
    } else {
        let options = options(pairs, smoothing);
        cross_entropy::forward(&logits, &targets(pairs), options, &mut losses, &mut lse)
            .expect("each row's target is its own number")
            .loss
    };
    Side { logits, lse, loss }
}

/// `[N, N]`: the gradient of the image-to-text logits, the other direction's added in.
fn logit_gradient(saved: &Saved, pairs: usize, upstream: f32) -> Vec<f32> {
    let scale = 0.5 * upstream / pairs as f32;
    let gradient = |side: &Side| {
        let mut out = vec![0.0; pairs * pairs];
        let options = options(pairs, saved.smoothing);
        cross_entropy::backward(&side.logits, &targets(pairs), &side.lse, options, scale, &mut out);
        out
    };
    let (mut rows, columns) = (gradient(&saved.to_text), gradient(&saved.to_image));
    for (i, row) in rows.chunks_exact_mut(pairs).enumerate() {
        row.iter_mut().enumerate().for_each(|(j, g)| *g += columns[j * pairs + i]);
    }
    rows
}

fn options(pairs: usize, smoothing: f32) -> Options {
    Options { classes: pairs, smoothing, ignore: None }
}

fn targets(pairs: usize) -> Vec<u32> {
    (0..pairs as u32).collect()
}

multiversion! {
    fn inner(x: &[f32], y: &[f32]) -> f32 {
        dot::<FMA>(x, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_close, assert_same_on_any_threads, gradient, random, to_f64};

    fn naive(image: &[f64], text: &[f64], width: usize, scale: f64, smoothing: f64) -> f64 {
        let side = |a: &[f64], b: &[f64]| {
            let losses = a.chunks(width).enumerate().map(|(i, query)| {
                let logit = |key: &[f64]| scale * query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>();
                let logits: Vec<f64> = b.chunks(width).map(logit).collect();
                let lse = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
                let mean = logits.iter().sum::<f64>() / logits.len() as f64;
                lse - (1.0 - smoothing) * logits[i] - smoothing * mean
            });
            losses.sum::<f64>() / (a.len() / width) as f64
        };
        0.5 * (side(image, text) + side(text, image))
    }

    #[test]
    fn loss_and_gradients_agree_with_f64() {
        for (pairs, width, smoothing) in [(1, 3, 0.0), (4, 5, 0.0), (7, 9, 0.1)] {
            let (image, text, scale) = (random(pairs * width, 1), random(pairs * width, 2), 3.5);
            let (image64, text64, s) = (to_f64(&image), to_f64(&text), f64::from(smoothing));
            let (loss, saved) = forward(&image, &text, width, scale, smoothing);
            assert_close(&[loss], &[naive(&image64, &text64, width, 3.5, s)], 2e-6);

            let (mut dimage, mut dtext, mut dscale) = (vec![0.0; image.len()], vec![0.0; text.len()], 0.0);
            let grads = Grads { image: Some(&mut dimage), text: Some(&mut dtext), scale: Some(&mut dscale) };
            backward(&saved, &image, &text, 2.0, grads);
            let twice = |i: &[f64], t: &[f64], c: f64| 2.0 * naive(i, t, width, c, s);
            assert_close(&dimage, &gradient(&image, |i| twice(i, &text64, 3.5)), 1e-5);
            assert_close(&dtext, &gradient(&text, |t| twice(&image64, t, 3.5)), 1e-5);
            assert_close(&[dscale], &gradient(&[scale], |c| twice(&image64, &text64, c[0])), 1e-5);
        }
    }

    #[test]
    fn no_pairs_cost_nothing() {
        let (loss, saved) = forward(&[], &[], 4, 1.0, 0.0);
        assert_eq!(loss, 0.0);
        backward(&saved, &[], &[], 1.0, Grads::default());
    }

    #[test]
    fn threads_do_not_change_bits() {
        let (image, text) = (random(200 * 64, 1), random(200 * 64, 2));
        assert_same_on_any_threads(|| {
            let (loss, saved) = forward(&image, &text, 64, 2.0, 0.0);
            let (mut dimage, mut dtext, mut dscale) = (vec![0.0; image.len()], vec![0.0; text.len()], 0.0);
            let grads = Grads { image: Some(&mut dimage), text: Some(&mut dtext), scale: Some(&mut dscale) };
            backward(&saved, &image, &text, 1.0, grads);
            vec![vec![loss, dscale], dimage, dtext]
        });
    }
}
