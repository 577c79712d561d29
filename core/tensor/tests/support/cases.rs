//! Every operation of the backends as a function of flat inputs, and its gradients.

use std::sync::Arc;

use heddle_tensor::{
    Backend, Element, HostTensor, Mask, Matrix, Parameters, Row, Scalar, Seq, Tape, TensorError, Value,
    backend::{CrossAttention, LlamaAttention, LlamaMlp, QkNorm, RmsNorm, VitAttention, VitMlp},
    backward_with,
    modules::Probe,
    tensor::reshape,
    value::ValueKind,
};

use super::{numbers, run, scalar, value};

/// One operation as a function of flat inputs.
pub trait Case {
    /// What failures are reported under; inputs depend on it.
    const NAME: &'static str;
    /// Sizes of the inputs.
    const SIZES: &'static [usize];
    /// The operation's output, flat.
    fn run<B: Backend>(backend: &B, inputs: Vec<Row<B>>) -> Result<Row<B>, TensorError>;
}

/// The inputs of a case.
pub fn inputs<C: Case>() -> Vec<Vec<f32>> {
    C::SIZES.iter().enumerate().map(|(i, &size)| numbers(&format!("{}{i}", C::NAME), size)).collect()
}

/// `name: [input sizes] |backend, [inputs]| body` makes `name::Op` of each. `$tests!(check)` then makes a
/// test of each that calls `check::<Op>()`; the first `$` is what macros in macros need.
macro_rules! cases {
    (($d:tt) $tests:ident $(
        $name:ident: $sizes:expr, |$backend:ident, [$($input:ident),*]| $body:expr;
    )*) => {
        $(
            pub mod $name {
                #[allow(unused_imports, reason = "not every case uses every name")]
                use super::*;
                pub struct Op;
                impl $crate::support::cases::Case for Op {
                    const NAME: &'static str = stringify!($name);
                    const SIZES: &'static [usize] = &$sizes;
                    fn run<B: Backend>($backend: &B, inputs: Vec<Row<B>>) -> Result<Row<B>, TensorError> {
                        let [$($input),*] = inputs.try_into().unwrap();
                        $crate::support::cases::flat::<_, B>($body?)
                    }
                }
            }
        )*
        macro_rules! $tests {
            ($d check:ident, $d path:path) => {
                $(
                    #[test]
                    fn $name() {
                        use $d path as cases;
                        $d check::<cases::$name::Op>();
                    }
                )*
            };
        }
        pub(crate) use $tests;
    };
}
#[allow(unused_imports, reason = "one test binary has cases of its own")]
pub(crate) use cases;

cases! { ($) case_tests
    linear: [12, 20, 5], |b, [x, w, bias]| b.linear(mat(x, 3)?, mat(w, 5)?, Some(bias));
    linear_without_bias: [12, 20], |b, [x, w]| b.linear(mat(x, 3)?, mat(w, 5)?, None);
    rms_norm: [21, 7], |b, [x, w]| b.rms_norm(mat(x, 3)?, w, 1e-3);
    layer_norm: [21, 7, 7], |b, [x, w, bias]| b.layer_norm(mat(x, 3)?, w, bias, 1e-3);
    normalize_rows: [21], |b, [x]| b.normalize_rows(mat(x, 3)?);
    gelu: [21], |b, [x]| b.gelu(mat(x, 3)?);
    silu: [21], |b, [x]| b.silu(mat(x, 3)?);
    gated: [21, 21], |b, [gate, up]| b.gated(mat(gate, 3)?, mat(up, 3)?);
    scale_each: [21], |b, [x]| {
        b.scale_each(mat(x, 3)?, (0..21).map(|i| B::Elem::of(f64::from(i % 3) / 2.0)).collect())
    };
    vit_attention: [24, 4, 48, 12, 4, 4, 16, 4, 4], |b, [x, norm, qkv, bias, query, key, proj, proj_bias, gamma]| {
        let w = VitAttention {
            norm: RmsNorm { weight: norm, eps: 1e-3 },
            qkv: mat(qkv, 12)?,
            qkv_bias: Some(bias),
            qk_norm: Some(QkNorm { query, key, eps: 1e-3 }),
            proj: mat(proj, 4)?,
            proj_bias,
            gamma,
            heads: 2,
        };
        b.vit_attention(seq(x, 2, 3)?, w, Some(&[0.0, 1.25]))
    };
    vit_attention_plain: [24, 4, 48, 16, 4, 4], |b, [x, norm, qkv, proj, proj_bias, gamma]| {
        let w = VitAttention {
            norm: RmsNorm { weight: norm, eps: 1e-3 },
            qkv: mat(qkv, 12)?,
            qkv_bias: None,
            qk_norm: None,
            proj: mat(proj, 4)?,
            proj_bias,
            gamma,
            heads: 1,
        };
        b.vit_attention(seq(x, 2, 3)?, w, None)
    };
    vit_mlp: [24, 4, 20, 5, 20, 4, 4], |b, [x, norm, fc1, fc1_bias, fc2, fc2_bias, gamma]| {
        let norm = RmsNorm { weight: norm, eps: 1e-3 };
        let w = VitMlp { norm, fc1: mat(fc1, 5)?, fc1_bias, fc2: mat(fc2, 4)?, fc2_bias, gamma };
        b.vit_mlp(seq(x, 2, 3)?, w, Some(&[1.25, 0.0]))
    };
    llama_attention: [24, 4, 16, 16, 16, 16], |b, [x, norm, query, key, value, out]| {
        let norm = RmsNorm { weight: norm, eps: 1e-3 };
        let [query, key, value, out] = [mat(query, 4)?, mat(key, 4)?, mat(value, 4)?, mat(out, 4)?];
        let w = LlamaAttention { norm, query, key, value, out, heads: 2, rope_base: 100.0 };
        let mask = Mask::Padding { keep: Arc::from([true, true, false, true, true, true]), causal: true };
        b.llama_attention(seq(x, 2, 3)?, w, &[0, 1, 2], &mask)
    };
    llama_attention_shared: [24, 4, 16, 8, 8, 16], |b, [x, norm, query, key, value, out]| {
        let norm = RmsNorm { weight: norm, eps: 1e-3 };
        let [query, key, value, out] = [mat(query, 4)?, mat(key, 2)?, mat(value, 2)?, mat(out, 4)?];
        let w = LlamaAttention { norm, query, key, value, out, heads: 2, rope_base: 100.0 };
        b.llama_attention(seq(x, 2, 3)?, w, &[0, 1, 2], &Mask::Causal)
    };
    llama_mlp: [24, 4, 20, 20, 20], |b, [x, norm, gate, up, down]| {
        let norm = RmsNorm { weight: norm, eps: 1e-3 };
        b.llama_mlp(seq(x, 2, 3)?, LlamaMlp { norm, gate: mat(gate, 5)?, up: mat(up, 5)?, down: mat(down, 4)? })
    };
    attention: [36, 60, 60], |b, [q, k, v]| {
        b.attention([seq(q, 2, 3)?, seq(k, 2, 5)?, seq(v, 2, 5)?], 2, 0.6, &Mask::None)
    };
    attention_causal: [48, 48, 48], |b, [q, k, v]| {
        b.attention([seq(q, 2, 4)?, seq(k, 2, 4)?, seq(v, 2, 4)?], 2, 0.6, &Mask::Causal)
    };
    attention_padded: [48, 48, 48], |b, [q, k, v]| {
        let keep = Arc::from([true, true, false, false, true, true, true, false]);
        let mask = Mask::Padding { keep, causal: true };
        b.attention([seq(q, 2, 4)?, seq(k, 2, 4)?, seq(v, 2, 4)?], 2, 0.6, &mask)
    };
    attention_pattern: [24, 36, 36], |b, [q, k, v]| {
        let mask = Mask::Pattern((0..12).map(|i| i % 3 != 1 || i > 8).collect());
        b.attention([seq(q, 2, 2)?, seq(k, 2, 3)?, seq(v, 2, 3)?], 3, 0.6, &mask)
    };
    rotary: [48], |b, [x]| b.rotary(seq(x, 2, 3)?, 2, 100.0, &[0, 1, 5]);
    residual: [24, 24, 4], |b, [x, y, gamma]| {
        b.residual(seq(x, 2, 3)?, seq(y, 2, 3)?, Some(gamma), Some(&[0.0, 1.25]))
    };
    residual_plain: [24, 24], |b, [x, y]| b.residual(seq(x, 2, 3)?, seq(y, 2, 3)?, None, None);
    embedding: [20], |b, [table]| b.embedding(mat(table, 5)?, &[3, 0, 3, 1], None);
    unfold: [96], |b, [image]| b.unfold(reshape::<_, _, B>(image, (2, 3, 4, 4))?, 2);
    class_and_positions: [24, 4, 16], |b, [patches, class, positions]| {
        b.add_class_and_positions(seq(patches, 2, 3)?, class, mat(positions, 4)?)
    };
    slice_rows: [24], |_b, [x]| {
        // The sliced tensor has another reader.
        let (x, rest) = (seq(x.clone(), 2, 3)?, seq(x, 2, 3)?);
        let sliced = heddle_tensor::tensor::slice_rows(_b, x, 1..3)?;
        let first = heddle_tensor::tensor::slice_rows(_b, rest, 0..2)?;
        _b.residual(sliced, first, None, None)
    };
    linear_onto: [15, 12, 20], |b, [onto, x, w]| b.linear_onto(mat(onto, 3)?, mat(x, 3)?, mat(w, 5)?);
    concat_rows: [24, 8], |b, [x, y]| b.concat_rows(seq(x, 2, 3)?, seq(y, 2, 1)?);
    scatter_rows: [20, 12], |b, [x, y]| heddle_tensor::tensor::scatter_rows(b, mat(x, 5)?, mat(y, 3)?, &[4, 0, 1]);
    cross_attention: [24, 48, 4, 6, 16, 24, 24, 16], |b, [q, v, norm, vision, query, key, value, out]| {
        let (norm, vision_norm) = (RmsNorm { weight: norm, eps: 1e-3 }, RmsNorm { weight: vision, eps: 1e-3 });
        let [query, key, value, out] = [mat(query, 4)?, mat(key, 4)?, mat(value, 4)?, mat(out, 4)?];
        let w = CrossAttention { norm, vision_norm, query, key, value, out, heads: 2 };
        b.cross_attention(seq(q, 2, 3)?, seq(v, 2, 4)?, w)
    };
    mean_tokens: [24], |b, [x]| b.mean_tokens(seq(x, 2, 3)?);
    cross_entropy: [20], |b, [logits]| b.cross_entropy(mat(logits, 4)?, &[Some(1), None, Some(4), Some(0)], 0.1);
    contrastive: [12, 12, 1], |b, [image, text, scale]| {
        b.contrastive(mat(image, 4)?, mat(text, 4)?, reshape::<_, _, B>(scale, ())?, 0.1)
    };
    similarities: [12, 20], |b, [x, y]| b.similarities(mat(x, 3)?, mat(y, 5)?);
    linear_transposed: [12, 20], |b, [x, w]| b.linear_transposed(mat(x, 3)?, mat(w, 4)?);
    matmul: [12, 20], |b, [x, y]| b.matmul(mat(x, 3)?, mat(y, 4)?);
    weighted_sum: [1, 1], |b, [x, y]| {
        b.weighted_sum(&[(0.5, reshape::<_, _, B>(x, ())?), (-2.0, reshape::<_, _, B>(y, ())?)])
    };
    exp: [1], |b, [x]| b.exp_limited(reshape::<_, _, B>(x, ())?, None);
    exp_within_limit: [1], |b, [x]| b.exp_limited(reshape::<_, _, B>(x, ())?, Some(9.0));
    exp_beyond_limit: [1], |b, [x]| b.exp_limited(reshape::<_, _, B>(x, ())?, Some(0.125));
    scale_by: [12, 1], |b, [x, factor]| b.scale_by(mat(x, 3)?, reshape::<_, _, B>(factor, ())?);
    dot: [12, 12], |b, [x, y]| b.dot(x, y);
}

/// `[rows, ..]`
pub fn mat<B: Backend>(x: Row<B>, rows: usize) -> Result<Matrix<B>, TensorError> {
    let len = len(&x);
    reshape::<_, _, B>(x, (rows, len / rows))
}

/// `[batch, rows, ..]`
pub fn seq<B: Backend>(x: Row<B>, batch: usize, rows: usize) -> Result<Seq<B>, TensorError> {
    let len = len(&x);
    reshape::<_, _, B>(x, (batch, rows, len / batch / rows))
}

pub fn len<B: Backend>(x: &Row<B>) -> usize {
    dfdx::prelude::HasShape::shape(x).0
}

pub fn flat<S: dfdx::shapes::Shape, B: Backend>(
    x: heddle_tensor::Tensor<S, B>,
) -> Result<Row<B>, TensorError> {
    let len = dfdx::prelude::HasShape::shape(&x).num_elements();
    reshape::<_, _, B>(x, (len,))
}

/// Output, loss `sum(output * probe)`, and its gradients with respect to all inputs.
pub fn evaluate<C: Case, B: Backend>(backend: &B, inputs: &[Vec<f32>]) -> (Vec<f32>, f64, Vec<Vec<f32>>) {
    evaluate_some::<C, B>(backend, inputs, |_| true)
}

/// As [`evaluate`], with the inputs for which `learns` is false as constants; their gradients are zeros.
pub fn evaluate_some<C: Case, B: Backend>(
    backend: &B,
    inputs: &[Vec<f32>],
    learns: impl Fn(usize) -> bool,
) -> (Vec<f32>, f64, Vec<Vec<f32>>) {
    let tape = Tape::new();
    let parameters = Parameters::init([], 0, backend).unwrap();
    let host = |data: &Vec<f32>| HostTensor { shape: vec![1, data.len()], data: data.clone() };
    let values: Vec<Value<B>> =
        inputs.iter().map(|data| value(backend, ValueKind::Vector, host(data), &tape)).collect();
    let constant = |row: Row<B>| heddle_tensor::tensor::detach::<_, B>(row).unwrap();
    let rows = values.iter().enumerate().map(|(i, value)| match value {
        Value::Vector(x) if learns(i) => flat::<_, B>(x.clone()).unwrap(),
        Value::Vector(x) => constant(flat::<_, B>(x.clone()).unwrap()),
        _ => unreachable!("made above"),
    });
    let out = C::run(backend, rows.collect()).unwrap();
    let (out_len, out) = (len(&out), Value::Vector(mat(out, 1).unwrap()));
    let data = out.to_host().unwrap().data;
    let probe = value(backend, ValueKind::Vector, host(&numbers("probe", out_len)), &Tape::off());
    let inputs = vec![("input", out), ("probe", probe)];
    let loss = run(&Probe, &parameters, "", inputs, &["loss"], &tape).remove("loss").unwrap();
    let loss: Scalar<B> = scalar(loss);
    let number = heddle_tensor::tensor::to_vec::<_, B>(&loss).unwrap()[0].wide();
    let grads = backward_with(loss, &parameters, &values).unwrap().1;
    (data, number, grads.into_iter().map(|grad| grad.unwrap().data).collect())
}
