//! Layer normalisation (Ba et al. 2016) and RMS normalisation (Zhang and Sennrich 2019) of rows.
//!
//! The forward hands out each row's statistics; the backward reads them instead of summing again.
//!
//! Must not know: where in a block the norm stands.

use rayon::prelude::*;

use super::math::{dot, fma, squares_about, sum};
use super::simd::multiversion;
use super::split::{add_column_sums, rows_per_task};

/// Rows of a wider matrix: row `i` starts at `data[i * stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// From the first row's first element.
    pub data: &'a [f32],
    /// From one row to the next.
    pub stride: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `width` elements without gaps.
    pub fn new(data: &'a [f32], width: usize) -> Self {
        Self { data, stride: width }
    }

    /// Row `i` of `width` elements.
    #[inline(always)]
    fn row(&self, i: usize, width: usize) -> &'a [f32] {
        &self.data[i * self.stride..][..width]
    }
}

/// What [`layer_forward`] found out about each row.
#[derive(Clone, Copy, Debug)]
pub struct LayerStats<'a> {
    /// `[R]`
    pub mean: &'a [f32],
    /// `[R]`: `1 / sqrt(variance + eps)`.
    pub rstd: &'a [f32],
}

/// `out = x rstd w` with `rstd = 1 / sqrt(mean(x^2) + eps)`, row by row.
///
/// # Shapes
/// - `x, out: [R, C]`, `w: [C]`, `rstd: [R]`
pub fn rms_forward(x: &[f32], w: &[f32], eps: f32, out: &mut [f32], rstd: &mut [f32]) {
    let width = w.len();
    assert!(width > 0 && x.len() == rstd.len() * width && out.len() == x.len());
    let rows = rows_per_task(width);
    let tasks = out.par_chunks_mut(rows * width).zip(x.par_chunks(rows * width));
    tasks.zip(rstd.par_chunks_mut(rows)).for_each(|((out, x), rstd)| {
        rms_rows(Rows::new(x, width), w, eps, out, rstd);
    });
}

/// The backward of [`rms_forward`]; `w` is needed for `dx` only.
///
/// With `g = w dy`: `dx += rstd (g - x rstd^2 mean(g x))` and `dw += sum over rows of dy x rstd`.
///
/// # Shapes
/// - `x, dy, dx: [R, C]`, `w, dw: [C]`, `rstd: [R]`
pub fn rms_backward(
    x: &[f32],
    w: &[f32],
    rstd: &[f32],
    dy: &[f32],
    dx: Option<&mut [f32]>,
    dw: Option<&mut [f32]>,
) {
    let width = w.len();
    assert!(width > 0 && x.len() == rstd.len() * width && dy.len() == x.len());
    if let Some(dx) = dx {
        assert_eq!(dx.len(), x.len());
        let rows = rows_per_task(width);
        let tasks = dx.par_chunks_mut(rows * width).zip(x.par_chunks(rows * width));
        let tasks = tasks.zip(dy.par_chunks(rows * width)).zip(rstd.par_chunks(rows));
        tasks.for_each(|(((dx, x), dy), rstd)| rms_input_rows(Rows::new(x, width), w, rstd, dy, dx, width));
    }
    if let Some(dw) = dw {
        rms_weight_gradient(Rows::new(x, width), rstd, dy, dw);
    }
}

/// What [`rms_forward`] wrote, from the statistics that it found: the same bits.
///
/// # Shapes
/// - `x, out: [R, C]`, `w: [C]`, `rstd: [R]`
pub fn rms_repeat(x: &[f32], w: &[f32], rstd: &[f32], out: &mut [f32]) {
    let width = w.len();
    assert!(width > 0 && x.len() == rstd.len() * width && out.len() == x.len());
    let rows = rows_per_task(width);
    let tasks = out.par_chunks_mut(rows * width).zip(x.par_chunks(rows * width));
    tasks
        .zip(rstd.par_chunks(rows))
        .for_each(|((out, x), rstd)| rms_again(Rows::new(x, width), w, rstd, out));
}

/// `dw += sum over rows of dy x rstd`, of an RMS norm.
///
/// # Shapes
/// - `x: [R, C]`, `dy: [R, C]`, `rstd: [R]`, `dw: [C]`
pub fn rms_weight_gradient(x: Rows<'_>, rstd: &[f32], dy: &[f32], dw: &mut [f32]) {
    let width = dw.len();
    assert_eq!(dy.len(), rstd.len() * width);
    add_column_sums(dw, rstd.len(), |rows, first, acc| {
        let dy = Rows::new(&dy[rows.start * width + first..], width);
        let x = Rows { data: &x.data[rows.start * x.stride + first..], ..x };
        centred_columns(x, dy, &rstd[rows], None, acc);
    });
}

/// `out = (x - mean) rstd w + b` with `rstd = 1 / sqrt(variance + eps)`, row by row.
///
/// # Shapes
/// - `x, out: [R, C]`, `w, b: [C]`, `mean, rstd: [R]`
pub fn layer_forward(
    x: &[f32],
    w: &[f32],
    b: &[f32],
    eps: f32,
    out: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    let width = w.len();
    assert!(width > 0 && b.len() == width && mean.len() == rstd.len());
    assert!(x.len() == rstd.len() * width && out.len() == x.len());
    let rows = rows_per_task(width);
    let tasks = out.par_chunks_mut(rows * width).zip(x.par_chunks(rows * width));
    let tasks = tasks.zip(mean.par_chunks_mut(rows)).zip(rstd.par_chunks_mut(rows));
    tasks.for_each(|(((out, x), mean), rstd)| layer_rows(x, (w, b), eps, out, mean, rstd));
}

/// The backward of [`layer_forward`]; `w` is needed for `dx` only.
///
/// With `g = w dy` and `n = (x - mean) rstd`: `dx += rstd (g - mean(g) - n mean(g n))`,
/// `dw += sum over rows of dy n`, `db += sum over rows of dy`.
///
/// # Shapes
/// - `x, dy, dx: [R, C]`, `w, dw, db: [C]`, statistics `[R]`
pub fn layer_backward(
    x: &[f32],
    w: &[f32],
    stats: LayerStats<'_>,
    dy: &[f32],
    dx: Option<&mut [f32]>,
    dw: Option<&mut [f32]>,
    db: Option<&mut [f32]>,
) {
    let width = w.len();
    let LayerStats { mean, rstd } = stats;
    assert!(width > 0 && mean.len() == rstd.len());
    assert!(x.len() == rstd.len() * width && dy.len() == x.len());
    if let Some(dx) = dx {
        assert_eq!(dx.len(), x.len());
        let rows = rows_per_task(width);
        let tasks = dx.par_chunks_mut(rows * width).zip(x.par_chunks(rows * width));
        let tasks = tasks.zip(dy.par_chunks(rows * width));
        let tasks = tasks.zip(mean.par_chunks(rows)).zip(rstd.par_chunks(rows));
        tasks.for_each(|((((dx, x), dy), mean), rstd)| layer_input_rows(x, w, (mean, rstd), dy, dx));
    }
    if let Some(dw) = dw {
        assert_eq!(dw.len(), width);
        add_column_sums(dw, rstd.len(), |rows, first, acc| {
            let from = rows.start * width + first;
            let (x, dy) = (Rows::new(&x[from..], width), Rows::new(&dy[from..], width));
            centred_columns(x, dy, &rstd[rows.clone()], Some(&mean[rows]), acc);
        });
    }
    if let Some(db) = db {
        assert_eq!(db.len(), width);
        add_column_sums(db, rstd.len(), |rows, first, acc| {
            let from = rows.start * width + first;
            plain_columns(&dy[from..], rows.len(), width, acc);
        });
    }
}

multiversion! {
    /// [`rms_forward`] of the rows that `rstd` counts, on the calling thread.
    pub fn rms_rows(x: Rows<'_>, w: &[f32], eps: f32, out: &mut [f32], rstd: &mut [f32]) {
        let width = w.len();
        for (i, (out, rstd)) in out.chunks_exact_mut(width).zip(rstd).enumerate() {
            let x = x.row(i, width);
            let r = 1.0 / (dot::<FMA>(x, x) / width as f32 + eps).sqrt();
            *rstd = r;
            for ((o, x), w) in out.iter_mut().zip(x).zip(w) {
                *o = *x * r * *w;
            }
        }
    }

    /// What [`rms_rows`] wrote, from the statistics that it found: the same bits.
    pub fn rms_again(x: Rows<'_>, w: &[f32], rstd: &[f32], out: &mut [f32]) {
        let width = w.len();
        for (i, (out, r)) in out.chunks_exact_mut(width).zip(rstd).enumerate() {
            for ((o, x), w) in out.iter_mut().zip(x.row(i, width)).zip(w) {
                *o = *x * r * *w;
            }
        }
    }

    /// `dx` of [`rms_backward`] for the rows that `rstd` counts, on the calling thread; row `i` of `dx` starts at
    /// `dx[i * dx_stride]`.
    pub fn rms_input_rows(
        x: Rows<'_>,
        w: &[f32],
        rstd: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        dx_stride: usize,
    ) {
        let width = w.len();
        let mut g = vec![0.0; width];
        for (i, (dy, r)) in dy.chunks_exact(width).zip(rstd).enumerate() {
            let (x, dx) = (x.row(i, width), &mut dx[i * dx_stride..][..width]);
            for ((g, dy), w) in g.iter_mut().zip(dy).zip(w) {
                *g = *dy * *w;
            }
            let c = dot::<FMA>(&g, x) * r * r / width as f32;
            for ((dx, g), x) in dx.iter_mut().zip(&g).zip(x) {
                *dx = fma::<FMA>(*r, fma::<FMA>(-*x, c, *g), *dx);
            }
        }
    }

    fn layer_rows(
        x: &[f32],
        affine: (&[f32], &[f32]),
        eps: f32,
        out: &mut [f32],
        mean: &mut [f32],
        rstd: &mut [f32],
    ) {
        let (w, b) = affine;
        let width = w.len();
        let rows = x.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for ((x, out), (mean, rstd)) in rows.zip(mean.iter_mut().zip(rstd)) {
            let m = sum(x) / width as f32;
            let r = 1.0 / (squares_about::<FMA>(x, m) / width as f32 + eps).sqrt();
            (*mean, *rstd) = (m, r);
            for ((o, x), (w, b)) in out.iter_mut().zip(x).zip(w.iter().zip(b)) {
                *o = fma::<FMA>((*x - m) * r, *w, *b);
            }
        }
    }

    fn layer_input_rows(x: &[f32], w: &[f32], stats: (&[f32], &[f32]), dy: &[f32], dx: &mut [f32]) {
        let width = w.len();
        let (mut g, mut n) = (vec![0.0; width], vec![0.0; width]);
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for (((x, dy), dx), (m, r)) in rows.zip(stats.0.iter().zip(stats.1)) {
            for ((g, n), ((dy, w), x)) in g.iter_mut().zip(n.iter_mut()).zip(dy.iter().zip(w).zip(x)) {
                *g = *dy * *w;
                *n = (*x - *m) * *r;
            }
            let level = sum(&g) / width as f32;
            let slope = dot::<FMA>(&g, &n) / width as f32;
            for ((dx, g), n) in dx.iter_mut().zip(&g).zip(&n) {
                *dx = fma::<FMA>(*r, fma::<FMA>(-*n, slope, *g - level), *dx);
            }
        }
    }

    /// `acc[c] += dy (x - mean) rstd` over the rows of `rstd`; without `mean` it counts as 0.
    fn centred_columns(x: Rows<'_>, dy: Rows<'_>, rstd: &[f32], mean: Option<&[f32]>, acc: &mut [f32]) {
        for (row, r) in rstd.iter().enumerate() {
            let m = mean.map_or(0.0, |mean| mean[row]);
            let (x, dy) = (x.row(row, acc.len()), dy.row(row, acc.len()));
            for ((a, x), dy) in acc.iter_mut().zip(x).zip(dy) {
                *a = fma::<FMA>(*dy, (*x - m) * *r, *a);
            }
        }
    }

    /// `acc[c] += dy` over `rows` rows.
    fn plain_columns(dy: &[f32], rows: usize, width: usize, acc: &mut [f32]) {
        for row in 0..rows {
            for (a, dy) in acc.iter_mut().zip(&dy[row * width..]) {
                *a += *dy;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{
        assert_close, assert_same_on_any_threads, bits, gradient, probe, random, to_f64,
    };

    const EPS: f32 = 1e-5;

    fn naive_rms(x: &[f64], w: &[f64]) -> Vec<f64> {
        let row = |x: &[f64]| {
            let rstd =
                (x.iter().map(|v| v * v).sum::<f64>() / w.len() as f64 + f64::from(EPS)).sqrt().recip();
            x.iter().zip(w).map(|(x, w)| x * rstd * w).collect::<Vec<_>>()
        };
        x.chunks(w.len()).flat_map(row).collect()
    }

    fn naive_layer(x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
        let row = |x: &[f64]| {
            let mean = x.iter().sum::<f64>() / w.len() as f64;
            let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / w.len() as f64;
            let rstd = (variance + f64::from(EPS)).sqrt().recip();
            x.iter().zip(w).zip(b).map(|((x, w), b)| (x - mean) * rstd * w + b).collect::<Vec<_>>()
        };
        x.chunks(w.len()).flat_map(row).collect()
    }

    fn rms(x: &[f32], w: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
        let (mut out, mut rstd) = (vec![f32::NAN; x.len()], vec![0.0; x.len() / w.len()]);
        rms_forward(x, w, EPS, &mut out, &mut rstd);
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
        rms_backward(x, w, &rstd, dy, Some(&mut dx), Some(&mut dw));
        [out, dx, dw]
    }

    fn layer(x: &[f32], w: &[f32], b: &[f32], dy: &[f32]) -> [Vec<f32>; 4] {
        let rows = x.len() / w.len();
        let (mut out, mut mean, mut rstd) = (vec![f32::NAN; x.len()], vec![0.0; rows], vec![0.0; rows]);
        layer_forward(x, w, b, EPS, &mut out, &mut mean, &mut rstd);
        let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; w.len()]);
        let stats = LayerStats { mean: &mean, rstd: &rstd };
        layer_backward(x, w, stats, dy, Some(&mut dx), Some(&mut dw), Some(&mut db));
        [out, dx, dw, db]
    }

    #[test]
    fn forward_and_gradients_agree_with_f64() {
        for (rows, width) in [(1, 2), (3, 5), (4, 17), (2, 70), (130, 3)] {
            let (x, dy) = (random(rows * width, 1), random(rows * width, 2));
            let (w, b) = (random(width, 3), random(width, 4));
            let [x64, w64, b64] = [&x, &w, &b].map(|v| to_f64(v));
            let [out, dx, dw] = rms(&x, &w, &dy);
            assert_close(&out, &naive_rms(&x64, &w64), 2e-6);
            assert_close(&dx, &gradient(&x, |x| probe(&naive_rms(x, &w64), &dy)), 1e-4);
            assert_close(&dw, &gradient(&w, |w| probe(&naive_rms(&x64, w), &dy)), 1e-4);

            let [out, dx, dw, db] = layer(&x, &w, &b, &dy);
            assert_close(&out, &naive_layer(&x64, &w64, &b64), 1e-4);
            // Two features that nearly agree make the variance tiny and the slope steep.
            let tolerance = if width == 2 { 2e-2 } else { 1e-3 };
            assert_close(&dx, &gradient(&x, |x| probe(&naive_layer(x, &w64, &b64), &dy)), tolerance);
            assert_close(&dw, &gradient(&w, |w| probe(&naive_layer(&x64, w, &b64), &dy)), 1e-4);
            assert_close(&db, &gradient(&b, |b| probe(&naive_layer(&x64, &w64, b), &dy)), 1e-4);
        }
    }

    #[test]
    fn a_large_offset_does_not_spoil_the_variance() {
        let x: Vec<f32> = random(96, 5).iter().map(|v| v + 100.0).collect();
        let [out, ..] = layer(&x, &[1.0; 96], &[0.0; 96], &x);
        assert_close(&out, &naive_layer(&to_f64(&x), &[1.0; 96], &[0.0; 96]), 1e-4);
    }

    #[test]
    fn threads_and_company_do_not_change_bits() {
        let (x, w) = (random(700 * 97, 1), random(97, 2));
        assert_same_on_any_threads(|| {
            let mut all = rms(&x, &w, &x).to_vec();
            all.extend(layer(&x, &w, &w, &x));
            all
        });
        let (all, one) = (layer(&x, &w, &w, &x), layer(&x[..97], &w, &w, &x[..97]));
        assert_eq!(bits(&[all[0][..97].to_vec(), all[1][..97].to_vec()]), bits(&one[..2]));
    }
}
