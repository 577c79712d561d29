//! Attention against a naive `f64` reference, for every mask and layout.

use super::attention::{Grads, Inputs, Mask, Shape, backward, forward};
use super::reference::{assert_close, assert_same_on_any_threads, bits, gradient, probe, random, to_f64};

fn shape(batch: usize, heads: usize, head_dim: usize, q_len: usize, k_len: usize) -> Shape {
    let width = heads * head_dim;
    Shape {
        batch,
        heads,
        head_dim,
        q_len,
        k_len,
        q_stride: width,
        k_stride: width,
        v_stride: width,
        out_stride: width,
        scale: 1.0 / (head_dim as f32).sqrt(),
    }
}

fn sees(mask: Mask<'_>, shape: &Shape, b: usize, i: usize, j: usize) -> bool {
    let before = j + shape.q_len <= i + shape.k_len;
    match mask {
        Mask::None => true,
        Mask::Causal => before,
        Mask::KeyPadding { keep, causal } => keep[b * shape.k_len + j] && (before || !causal),
        Mask::Pattern(pattern) => pattern[(b * shape.q_len + i) * shape.k_len + j],
    }
}

/// Contiguous q, k, v of heads side by side.
fn naive(q: &[f64], k: &[f64], v: &[f64], mask: Mask<'_>, shape: &Shape) -> Vec<f64> {
    let Shape { batch, heads, head_dim, q_len, k_len, .. } = *shape;
    let width = heads * head_dim;
    let mut out = vec![0.0; batch * q_len * width];
    for (b, head, i) in (0..batch * heads * q_len).map(|n| (n / q_len / heads, n / q_len % heads, n % q_len))
    {
        let part = |data: &[f64], row: usize| data[row * width + head * head_dim..][..head_dim].to_vec();
        let query = part(q, b * q_len + i);
        let weight = |j: usize| {
            let key = part(k, b * k_len + j);
            let score: f64 = query.iter().zip(key).map(|(q, k)| q * k).sum();
            (score * f64::from(shape.scale)).exp()
        };
        let seen: Vec<usize> = (0..k_len).filter(|j| sees(mask, shape, b, i, *j)).collect();
        let total: f64 = seen.iter().map(|j| weight(*j)).sum();
        for j in seen {
            let value = part(v, b * k_len + j);
            for c in 0..head_dim {
                out[(b * q_len + i) * width + head * head_dim + c] += weight(j) / total * value[c];
            }
        }
    }
    out
}

fn check(shape: &Shape, mask: Mask<'_>) {
    let width = shape.heads * shape.head_dim;
    let [queries, keys] = [shape.q_len, shape.k_len].map(|len| shape.batch * len * width);
    let (q, k, v, dout) = (random(queries, 1), random(keys, 2), random(keys, 3), random(queries, 4));
    let [q64, k64, v64] = [&q, &k, &v].map(|x| to_f64(x));
    let inputs = Inputs { q: &q, k: &k, v: &v, mask };
    let mut out = vec![f32::NAN; queries];
    let mut lse = vec![f32::NAN; shape.batch * shape.heads * shape.q_len];
    forward(inputs, &mut out, &mut lse, shape);
    assert_close(&out, &naive(&q64, &k64, &v64, mask, shape), 1e-5);

    let (mut dq, mut dk, mut dv) = (vec![0.0; queries], vec![0.0; keys], vec![0.0; keys]);
    let grads = Grads::Separate { dq: Some(&mut dq), dk: Some(&mut dk), dv: Some(&mut dv) };
    backward(inputs, &lse, &dout, grads, shape);
    assert_close(&dq, &gradient(&q, |q| probe(&naive(q, &k64, &v64, mask, shape), &dout)), 2e-5);
    assert_close(&dk, &gradient(&k, |k| probe(&naive(&q64, k, &v64, mask, shape), &dout)), 2e-5);
    assert_close(&dv, &gradient(&v, |v| probe(&naive(&q64, &k64, v, mask, shape), &dout)), 2e-5);
}

#[test]
fn every_mask_agrees_with_f64() {
    for (batch, heads, head_dim, q_len, k_len) in [
        (1, 1, 1, 1, 1),
        (2, 2, 3, 5, 5),
        (2, 3, 4, 2, 7),
        (1, 2, 5, 7, 3),
        (1, 1, 2, 66, 4),
        (1, 1, 17, 3, 18),
        (2, 2, 8, 4, 6),
        (1, 2, 24, 9, 11),
    ] {
        check_masks(&shape(batch, heads, head_dim, q_len, k_len), check);
    }
}

fn check_masks(shape: &Shape, check: impl Fn(&Shape, Mask<'_>)) {
    let Shape { batch, q_len, k_len, .. } = *shape;
    check(shape, Mask::None);
    check(shape, Mask::Causal);
    // The first record of a batch hides some keys, the last query of a pattern sees none.
    let keep: Vec<bool> = (0..batch * k_len).map(|j| j % 3 != 1).collect();
    check(shape, Mask::KeyPadding { keep: &keep, causal: false });
    check(shape, Mask::KeyPadding { keep: &keep, causal: true });
    // Padding at the end, of another length in each record; the last record is all padding.
    let keep: Vec<bool> =
        (0..batch * k_len).map(|n| n % k_len < k_len * (batch - n / k_len) / (batch + 1)).collect();
    check(shape, Mask::KeyPadding { keep: &keep, causal: false });
    check(shape, Mask::KeyPadding { keep: &keep, causal: true });
    let pairs = batch * q_len * k_len;
    let pattern: Vec<bool> = (0..pairs).map(|n| n % 4 != 0 && n < pairs - k_len).collect();
    check(shape, Mask::Pattern(&pattern));
}

/// The gradients by the formula of [`backward`], for heads side by side.
fn naive_backward([q, k, v, dout]: [&[f64]; 4], mask: Mask<'_>, shape: &Shape) -> [Vec<f64>; 3] {
    let Shape { batch, heads, head_dim: d, q_len, k_len, .. } = *shape;
    let (width, scale) = (heads * d, f64::from(shape.scale));
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let [mut dq, mut dk, mut dv] = [q, k, v].map(|x| vec![0.0; x.len()]);
    for (b, head, i) in (0..batch * heads * q_len).map(|n| (n / q_len / heads, n / q_len % heads, n % q_len))
    {
        let query = (b * q_len + i) * width + head * d;
        let key = |j: usize| (b * k_len + j) * width + head * d;
        let seen: Vec<usize> = (0..k_len).filter(|j| sees(mask, shape, b, i, *j)).collect();
        let weight = |j: usize| (scale * dot(&q[query..query + d], &k[key(j)..key(j) + d])).exp();
        let total: f64 = seen.iter().map(|j| weight(*j)).sum();
        let dp = |j: usize| dot(&dout[query..query + d], &v[key(j)..key(j) + d]);
        let mean: f64 = seen.iter().map(|j| weight(*j) / total * dp(*j)).sum();
        for j in seen {
            let (p, key) = (weight(j) / total, key(j));
            let ds = scale * p * (dp(j) - mean);
            for c in 0..d {
                dq[query + c] += ds * k[key + c];
                dk[key + c] += ds * q[query + c];
                dv[key + c] += p * dout[query + c];
            }
        }
    }
    [dq, dk, dv]
}

/// Forward and backward against the formulas; the gradients are added to what is there.
fn check_formulas(shape: &Shape, mask: Mask<'_>) {
    let width = shape.heads * shape.head_dim;
    let [queries, keys] = [shape.q_len, shape.k_len].map(|len| shape.batch * len * width);
    let (q, k, v, dout) = (random(queries, 1), random(keys, 2), random(keys, 3), random(queries, 4));
    let [q64, k64, v64, dout64] = [&q, &k, &v, &dout].map(|x| to_f64(x));
    let inputs = Inputs { q: &q, k: &k, v: &v, mask };
    let mut out = vec![f32::NAN; queries];
    let mut lse = vec![f32::NAN; shape.batch * shape.heads * shape.q_len];
    forward(inputs, &mut out, &mut lse, shape);
    assert_close(&out, &naive(&q64, &k64, &v64, mask, shape), 1e-5);

    let mut found = [vec![1.0; queries], vec![1.0; keys], vec![1.0; keys]];
    let [dq, dk, dv] = &mut found;
    let grads = Grads::Separate { dq: Some(dq), dk: Some(dk), dv: Some(dv) };
    backward(inputs, &lse, &dout, grads, shape);
    let expected = naive_backward([&q64, &k64, &v64, &dout64], mask, shape);
    for (found, expected) in found.iter().zip(expected) {
        assert_close(found, &expected.iter().map(|g| 1.0 + g).collect::<Vec<_>>(), 2e-5);
    }
}

#[test]
fn sizes_around_the_edges_of_tiles_and_blocks_agree_with_the_formulas() {
    for (batch, heads, head_dim, q_len, k_len) in [
        (2, 2, 24, 17, 17),
        (3, 1, 24, 16, 24),
        (1, 2, 64, 31, 33),
        (1, 1, 64, 32, 32),
        (1, 1, 64, 33, 31),
        (1, 1, 128, 65, 65),
        (2, 1, 7, 33, 40),
        (1, 2, 13, 70, 12),
        (1, 1, 40, 12, 97),
        (2, 1, 9, 1, 100),
        (2, 1, 16, 1, 100),
    ] {
        check_masks(&shape(batch, heads, head_dim, q_len, k_len), check_formulas);
    }
}

#[test]
fn a_gradient_that_nobody_asks_for_changes_no_other() {
    for (head_dim, len) in [(24, 17), (5, 40)] {
        let shape = shape(2, 2, head_dim, len, len);
        let size = 2 * len * 2 * head_dim;
        let (q, k, v, dout) = (random(size, 1), random(size, 2), random(size, 3), random(size, 4));
        let inputs = Inputs { q: &q, k: &k, v: &v, mask: Mask::Causal };
        let (mut out, mut lse) = (vec![0.0; size], vec![0.0; 4 * len]);
        forward(inputs, &mut out, &mut lse, &shape);
        let run = |wanted: [bool; 3]| {
            let mut grads = [q.clone(), k.clone(), v.clone()];
            let [dq, dk, dv] = &mut grads;
            let ask = |n: usize, grad| wanted[n].then_some(grad);
            let separate =
                Grads::Separate { dq: ask(0, &mut dq[..]), dk: ask(1, &mut dk[..]), dv: ask(2, &mut dv[..]) };
            backward(inputs, &lse, &dout, separate, &shape);
            bits(&grads)
        };
        let (all, untouched) = (run([true; 3]), bits(&[q.clone(), k.clone(), v.clone()]));
        for n in 0..3 {
            let only = run([n == 0, n == 1, n == 2]);
            for (m, only) in only.iter().enumerate() {
                assert_eq!(*only, if n == m { &all } else { &untouched }[m]);
            }
        }
    }
}

#[test]
fn keys_that_causality_hides_from_all_are_not_read() {
    let (len, width) = (70, 24);
    let shape = shape(1, 1, width, len, len);
    let (q, mut k, mut v, dout) =
        (random(len * width, 1), random(len * width, 2), random(len * width, 3), random(len * width, 4));
    let run = |k: &[f32], v: &[f32]| {
        let inputs = Inputs { q: &q, k, v, mask: Mask::Causal };
        let (mut out, mut lse, mut dq) = (vec![0.0; len * width], vec![0.0; len], vec![0.0; len * width]);
        forward(inputs, &mut out, &mut lse, &shape);
        backward(inputs, &lse, &dout, Grads::Separate { dq: Some(&mut dq), dk: None, dv: None }, &shape);
        // The first tile of 32 queries.
        [out, lse, dq].map(|x| x[..x.len() / len * 32].to_vec())
    };
    let whole = run(&k, &v);
    k[32 * width..].fill(f32::NAN);
    v[32 * width..].fill(f32::NAN);
    assert_eq!(bits(&run(&k, &v)), bits(&whole));
    assert!(whole.iter().flatten().all(|x| x.is_finite()));
}

#[test]
fn packed_and_separate_layouts_agree_bit_for_bit() {
    let plain = shape(3, 2, 5, 9, 9);
    let width = 10;
    let packed = Shape { q_stride: 30, k_stride: 30, v_stride: 30, ..plain };
    let qkv = random(3 * 9 * 30, 1);
    let part = |at: usize| -> Vec<f32> {
        qkv.chunks(30).flat_map(|row| &row[at * width..][..width]).copied().collect()
    };
    let (q, k, v, dout) = (part(0), part(1), part(2), random(3 * 9 * width, 2));
    let run = |inputs: Inputs<'_>, grads: Grads<'_>, shape: &Shape| {
        let (mut out, mut lse) = (vec![0.0; 3 * 9 * width], vec![0.0; 3 * 2 * 9]);
        forward(inputs, &mut out, &mut lse, shape);
        backward(inputs, &lse, &dout, grads, shape);
        bits(&[out, lse])
    };
    let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
    let grads = Grads::Separate { dq: Some(&mut dq), dk: Some(&mut dk), dv: Some(&mut dv) };
    let separate = run(Inputs { q: &q, k: &k, v: &v, mask: Mask::Causal }, grads, &plain);
    let mut dqkv = qkv.clone();
    let views = Inputs { q: &qkv, k: &qkv[width..], v: &qkv[2 * width..], mask: Mask::Causal };
    assert_eq!(run(views, Grads::Packed(&mut dqkv), &packed), separate);
    for (row, r) in dqkv.chunks(30).zip(0..) {
        let at = |grad: &[f32]| grad[r * width..][..width].to_vec();
        assert_eq!(row, [at(&dq), at(&dk), at(&dv)].concat());
    }
}

#[test]
fn threads_and_company_do_not_change_bits() {
    for (heads, head_dim, len) in [(4, 24, 17), (2, 64, 130), (3, 5, 40)] {
        let width = heads * head_dim;
        let shape = |batch| Shape {
            q_stride: 3 * width,
            k_stride: 3 * width,
            v_stride: 3 * width,
            ..shape(batch, heads, head_dim, len, len)
        };
        let (qkv, dout) = (random(7 * len * 3 * width, 1), random(7 * len * width, 2));
        let run = |record: usize, batch: usize| {
            let shape = shape(batch);
            let qkv = &qkv[record * len * 3 * width..][..batch * len * 3 * width];
            let inputs = Inputs { q: qkv, k: &qkv[width..], v: &qkv[2 * width..], mask: Mask::Causal };
            let (mut out, mut lse) = (vec![0.0; batch * len * width], vec![0.0; batch * heads * len]);
            forward(inputs, &mut out, &mut lse, &shape);
            let mut grad = vec![0.0; qkv.len()];
            let dout = &dout[record * len * width..];
            backward(inputs, &lse, dout, Grads::Packed(&mut grad), &shape);
            vec![out, lse, grad]
        };
        assert_same_on_any_threads(|| run(0, 7));
        let (all, third) = (run(0, 7), run(3, 1));
        for (all, third) in all.iter().zip(&third) {
            let size = third.len();
            assert_eq!(bits(&[all[3 * size..4 * size].to_vec()]), bits(std::slice::from_ref(third)));
        }
    }
}

#[test]
fn large_scores_stay_finite_and_nan_stays_nan() {
    let shape = Shape { scale: 1.0, ..shape(1, 1, 2, 2, 3) };
    let (q, v) = ([200.0, 200.0, -200.0, -200.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let k = [200.0, 200.0, 0.0, 0.0, -200.0, -200.0];
    let (mut out, mut lse) = ([0.0; 4], [0.0; 2]);
    forward(Inputs { q: &q, k: &k, v: &v, mask: Mask::None }, &mut out, &mut lse, &shape);
    assert_eq!(out, [1.0, 2.0, 5.0, 6.0]);
    assert_eq!(lse, [80_000.0; 2]);
    let broken = [f32::NAN; 4];
    forward(Inputs { q: &broken, k: &k, v: &v, mask: Mask::None }, &mut out, &mut lse, &shape);
    assert!(out.iter().all(|o| o.is_nan()));
}
