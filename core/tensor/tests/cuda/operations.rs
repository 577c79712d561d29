//! Every operation against the CPU's, outputs and gradients, in every precision: the cases that the CPU is
//! tested with, and larger ones whose sizes are odd, prime, and beyond one tile of the kernels.

use std::sync::Arc;

use heddle_tensor::{
    Backend, Cpu, Mask, Precision, Row, TensorError,
    backend::{LlamaAttention, LlamaMlp, QkNorm, RmsNorm, VitAttention, VitMlp},
    tensor::reshape,
};

use crate::{
    cuda,
    support::{
        cases::{Case, cases, evaluate, evaluate_some, inputs, mat, seq},
        numbers,
    },
};

mod small {
    crate::support::cases::case_tests!(check_parts, crate::support::cases);
    use super::check_parts;
}

mod large {
    super::large_tests!(check, super);
    use super::check;
}

cases! { ($) large_tests
    linear_odd: [67 * 37, 53 * 37, 53], |b, [x, w, bias]| b.linear(mat(x, 67)?, mat(w, 53)?, Some(bias));
    linear_tall: [260 * 8, 16 * 8, 16], |b, [x, w, bias]| b.linear(mat(x, 260)?, mat(w, 16)?, Some(bias));
    rms_norm_wide: [3 * 1100, 1100], |b, [x, w]| b.rms_norm(mat(x, 3)?, w, 1e-6);
    rms_norm_tall: [131 * 31, 31], |b, [x, w]| b.rms_norm(mat(x, 131)?, w, 1e-6);
    layer_norm_wide: [3 * 1100, 1100, 1100], |b, [x, w, bias]| b.layer_norm(mat(x, 3)?, w, bias, 1e-5);
    normalize_rows_wide: [5 * 203], |b, [x]| b.normalize_rows(mat(x, 5)?);
    gelu_wide: [2 * 1030], |b, [x]| b.gelu(mat(x, 2)?);
    cross_entropy_wide: [5 * 1009], |b, [logits]| {
        b.cross_entropy(mat(logits, 5)?, &[Some(1008), None, Some(0), Some(31), Some(512)], 0.1)
    };
    contrastive_odd: [37 * 24, 37 * 24, 1], |b, [image, text, scale]| {
        b.contrastive(mat(image, 37)?, mat(text, 37)?, reshape::<_, _, B>(scale, ())?, 0.1)
    };
    embedding_repeated: [11 * 20], |b, [table]| {
        let ids: Vec<u32> = (0..70).map(|i| i * i % 11).collect();
        b.embedding(mat(table, 11)?, &ids, Some(5))
    };
    unfold_odd: [3 * 9 * 15], |b, [image]| b.unfold(reshape::<_, _, B>(image, (1, 3, 9, 15))?, 3);
    rotary_wide: [2 * 13 * 96], |b, [x]| b.rotary(seq(x, 2, 13)?, 3, 10_000.0, &(0..13).collect::<Vec<_>>());
    attention_24: [70 * 24, 83 * 24, 83 * 24], |b, [q, k, v]| {
        b.attention([seq(q, 1, 70)?, seq(k, 1, 83)?, seq(v, 1, 83)?], 1, 0.2, &Mask::None)
    };
    attention_24_causal: [2 * 97 * 48, 2 * 97 * 48, 2 * 97 * 48], |b, [q, k, v]| {
        b.attention([seq(q, 2, 97)?, seq(k, 2, 97)?, seq(v, 2, 97)?], 2, 0.2, &Mask::Causal)
    };
    attention_64_padded: [2 * 71 * 64, 2 * 71 * 64, 2 * 71 * 64], |b, [q, k, v]| {
        let keep = (0..2 * 71).map(|i| if i < 71 { i < 66 } else { i < 71 + 30 }).collect();
        let mask = Mask::Padding { keep, causal: true };
        b.attention([seq(q, 2, 71)?, seq(k, 2, 71)?, seq(v, 2, 71)?], 1, 0.125, &mask)
    };
    attention_64_keys_padded: [9 * 64, 75 * 64, 75 * 64], |b, [q, k, v]| {
        let mask = Mask::Padding { keep: (0..75).map(|i| i % 7 != 3).collect(), causal: false };
        b.attention([seq(q, 1, 9)?, seq(k, 1, 75)?, seq(v, 1, 75)?], 1, 0.125, &mask)
    };
    attention_96_pattern: [67 * 96, 70 * 96, 70 * 96], |b, [q, k, v]| {
        let mask = Mask::Pattern((0..67 * 70).map(|i| i % 3 != 1 || i % 70 == 0).collect());
        b.attention([seq(q, 1, 67)?, seq(k, 1, 70)?, seq(v, 1, 70)?], 1, 0.1, &mask)
    };
    attention_128: [101 * 128, 101 * 128, 101 * 128], |b, [q, k, v]| {
        b.attention([seq(q, 1, 101)?, seq(k, 1, 101)?, seq(v, 1, 101)?], 1, 0.088, &Mask::None)
    };
    attention_longer_keys: [33 * 32, 130 * 32, 130 * 32], |b, [q, k, v]| {
        b.attention([seq(q, 1, 33)?, seq(k, 1, 130)?, seq(v, 1, 130)?], 1, 0.17, &Mask::Causal)
    };
    attention_unaligned: [2 * 35 * 21, 2 * 35 * 21, 2 * 35 * 21], |b, [q, k, v]| {
        b.attention([seq(q, 2, 35)?, seq(k, 2, 35)?, seq(v, 2, 35)?], 3, 0.37, &Mask::None)
    };
    attention_wide_heads: [37 * 136, 37 * 136, 37 * 136], |b, [q, k, v]| {
        b.attention([seq(q, 1, 37)?, seq(k, 1, 37)?, seq(v, 1, 37)?], 1, 0.09, &Mask::Causal)
    };
    vit_attention_wide: [70 * 48, 48, 144 * 48, 144, 48, 48, 48 * 48, 48, 48],
        |b, [x, norm, qkv, bias, query, key, proj, proj_bias, gamma]| {
        let w = VitAttention {
            norm: RmsNorm { weight: norm, eps: 1e-6 },
            qkv: mat(qkv, 144)?,
            qkv_bias: Some(bias),
            qk_norm: Some(QkNorm { query, key, eps: 1e-6 }),
            proj: mat(proj, 48)?,
            proj_bias,
            gamma,
            heads: 2,
        };
        b.vit_attention(seq(x, 2, 35)?, w, Some(&[1.25, 0.75]))
    };
    vit_mlp_wide: [66 * 40, 40, 72 * 40, 72, 40 * 72, 40, 40], |b, [x, norm, fc1, fc1_bias, fc2, fc2_bias, gamma]| {
        let norm = RmsNorm { weight: norm, eps: 1e-6 };
        let w = VitMlp { norm, fc1: mat(fc1, 72)?, fc1_bias, fc2: mat(fc2, 40)?, fc2_bias, gamma };
        b.vit_mlp(seq(x, 3, 22)?, w, None)
    };
    llama_attention_wide: [70 * 48, 48, 48 * 48, 48 * 48, 48 * 48, 48 * 48], |b, [x, norm, query, key, value, out]| {
        let norm = RmsNorm { weight: norm, eps: 1e-6 };
        let [query, key, value, out] = [mat(query, 48)?, mat(key, 48)?, mat(value, 48)?, mat(out, 48)?];
        let w = LlamaAttention { norm, query, key, value, out, heads: 2, rope_base: 10_000.0 };
        let keep = Arc::from_iter((0..70).map(|i| i < 33 || (35..62).contains(&i)));
        let mask = Mask::Padding { keep, causal: true };
        b.llama_attention(seq(x, 2, 35)?, w, &(0..35).collect::<Vec<_>>(), &mask)
    };
    llama_mlp_wide: [34 * 40, 40, 88 * 40, 88 * 40, 40 * 88], |b, [x, norm, gate, up, down]| {
        let norm = RmsNorm { weight: norm, eps: 1e-6 };
        b.llama_mlp(seq(x, 2, 17)?, LlamaMlp { norm, gate: mat(gate, 88)?, up: mat(up, 88)?, down: mat(down, 40)? })
    };
    residual_wide: [2 * 33 * 60, 2 * 33 * 60, 60], |b, [x, y, gamma]| {
        b.residual(seq(x, 2, 33)?, seq(y, 2, 33)?, Some(gamma), Some(&[0.0, 1.25]))
    };
    mean_tokens_long: [3 * 131 * 40], |b, [x]| b.mean_tokens(seq(x, 3, 131)?);
    slice_rows_wide: [2 * 9 * 36], |b, [x]| heddle_tensor::tensor::slice_rows(b, seq(x, 2, 9)?, 1..8);
    class_and_positions_wide: [2 * 12 * 36, 36, 13 * 36], |b, [patches, class, positions]| {
        b.add_class_and_positions(seq(patches, 2, 12)?, class, mat(positions, 13)?)
    };
    dot_long: [10_007, 10_007], |b, [x, y]| b.dot(x, y);
    one_tensor_as_queries_keys_and_values: [2 * 37 * 24], |b, [x]| {
        let [q, k, v] = [seq(x.clone(), 2, 37)?, seq(x.clone(), 2, 37)?, seq(x, 2, 37)?];
        b.attention([q, k, v], 1, 0.2, &Mask::Causal)
    };
    one_tensor_as_both_branches: [2 * 5 * 24], |b, [x]| {
        b.residual(seq(x.clone(), 2, 5)?, seq(x, 2, 5)?, None, Some(&[0.5, 2.0]))
    };
    one_tensor_as_both_factors: [70], |b, [x]| b.dot(x.clone(), x);
}

/// What each precision may be off by: the length of the difference, in parts of the length of what is
/// expected.
const TOLERANCES: [(Precision, f64); 4] =
    [(Precision::F32, 6e-6), (Precision::Tf32, 3e-3), (Precision::Bf16, 2.5e-2), (Precision::F16, 3e-3)];

fn check<C: Case>() {
    let inputs = inputs::<C>();
    let (out, _, grads) = evaluate::<C, Cpu>(&Cpu::default(), &inputs);
    for (precision, tolerance) in TOLERANCES {
        let cuda = cuda(precision);
        let (found, _, found_grads) = evaluate::<C, _>(&cuda, &inputs);
        let what = |part: &str| format!("{} in {precision:?}: {part}", C::NAME);
        close(&out, &found, tolerance, &what("output"));
        for (i, (expected, found)) in grads.iter().zip(&found_grads).enumerate() {
            close(expected, found, tolerance, &what(&format!("gradient {i}")));
        }
        let again = evaluate::<C, _>(&cuda, &inputs);
        assert!(bits(&again.0) == bits(&found), "{}", what("other bits the second time"));
        let same = again.2.iter().zip(&found_grads).all(|(again, first)| bits(again) == bits(first));
        assert!(same, "{}", what("other bits of gradients the second time"));
    }
}

/// As [`check`]; and each gradient alone, the other inputs being constants, has the bits that it has among the others.
fn check_parts<C: Case>() {
    check::<C>();
    let inputs = inputs::<C>();
    for precision in [Precision::F32, Precision::F16] {
        let cuda = cuda(precision);
        let all = evaluate::<C, _>(&cuda, &inputs).2;
        for (i, expected) in all.iter().enumerate() {
            let found = &evaluate_some::<C, _>(&cuda, &inputs, |index| index == i).2[i];
            assert!(bits(expected) == bits(found), "{} in {precision:?}: gradient {i} alone", C::NAME);
        }
    }
}

/// A query that may attend to nothing has zeros, and passes nothing back.
#[test]
fn queries_that_see_nothing_are_zero() {
    struct Op;
    impl Case for Op {
        const NAME: &'static str = "nothing";
        const SIZES: &'static [usize] = &[3 * 24, 5 * 24, 5 * 24];
        fn run<B: Backend>(backend: &B, inputs: Vec<Row<B>>) -> Result<Row<B>, TensorError> {
            let [q, k, v] = inputs.try_into().unwrap();
            let mask = Mask::Pattern((0..15).map(|i| i / 5 != 1).collect());
            let out = backend.attention([seq(q, 1, 3)?, seq(k, 1, 5)?, seq(v, 1, 5)?], 1, 0.2, &mask)?;
            reshape::<_, _, B>(out, (3 * 24,))
        }
    }
    for (precision, _) in TOLERANCES {
        let (out, _, grads) = evaluate::<Op, _>(&cuda(precision), &inputs::<Op>());
        assert!(out[24..48].iter().chain(&grads[0][24..48]).all(|&x| x == 0.0), "{precision:?}");
        assert!(out.iter().chain(grads.iter().flatten()).all(|x| x.is_finite()), "{precision:?}");
        assert!(out[..24].iter().any(|&x| x != 0.0), "{precision:?}");
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn close(expected: &[f32], found: &[f32], tolerance: f64, what: &str) {
    assert_eq!(expected.len(), found.len(), "{what}");
    let length = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let whole = length(&mut expected.iter().map(|&x| f64::from(x)));
    let difference = length(&mut expected.iter().zip(found).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    // Rounding of what cancels to nothing is measured against numbers of order one.
    let allowed = tolerance * (whole + 1e-2 * (expected.len() as f64).sqrt());
    assert!(difference <= allowed, "{what}: off by {difference:e} of {whole:e}, allowed {allowed:e}");
}

/// Gradients far below half precision's smallest number survive it.
#[test]
fn tiny_gradients_survive_half_precision() {
    struct Op;
    impl Case for Op {
        const NAME: &'static str = "tiny";
        const SIZES: &'static [usize] = &[12, 20];
        fn run<B: Backend>(backend: &B, inputs: Vec<Row<B>>) -> Result<Row<B>, TensorError> {
            let [x, w] = inputs.try_into().unwrap();
            let y = backend.linear(mat(x, 3)?, mat(w, 5)?, None)?;
            let len = 15;
            let small = heddle_tensor::tensor::constant(backend, vec![B::Elem::default(); len], (3, 5))?;
            let factor =
                heddle_tensor::tensor::constant(backend, vec![heddle_tensor::Element::of(1e-9)], ())?;
            let y = backend.scale_by(y, factor)?;
            let y = backend.residual(
                reshape::<_, _, B>(y, (1, 3, 5))?,
                reshape::<_, _, B>(small, (1, 3, 5))?,
                None,
                None,
            )?;
            reshape::<_, _, B>(y, (len,))
        }
    }
    let inputs = vec![numbers("x", 12), numbers("w", 20)];
    let expected = evaluate::<Op, _>(&Cpu::default(), &inputs).2;
    let found = evaluate::<Op, _>(&cuda(Precision::F16), &inputs).2;
    for (expected, found) in expected.iter().zip(&found) {
        let grown = |x: &[f32]| x.iter().map(|x| 1e9 * x).collect::<Vec<_>>();
        close(&grown(expected), &grown(found), 3e-3, "tiny gradients");
    }
}
