//! Every operation of the backends: gradients of the composed bodies against finite differences in double
//! precision, and the fused bodies against the composed ones.

use std::sync::Arc;

use heddle_tensor::{
    Backend, Cpu, CpuF64, Element, HostTensor, Mask, Matrix, Module, Parameters, Row, Scalar, Seq, Tape,
    TensorError, Value,
    backend::{LlamaAttention, LlamaMlp, QkNorm, RmsNorm, VitAttention, VitMlp},
    backward_with,
    modules::Probe,
    tensor::reshape,
    value::ValueKind,
};

use crate::support::{numbers, run, scalar, value};

/// One operation as a function of flat inputs.
trait Case {
    /// Sizes of the inputs.
    const SIZES: &'static [usize];
    /// The operation's output, flat.
    fn run<B: Backend>(backend: &B, inputs: Vec<Row<B>>) -> Result<Row<B>, TensorError>;
}

/// `name: [input sizes] |backend, [inputs]| body`
macro_rules! cases {
    ($($name:ident: $sizes:expr, |$backend:ident, [$($input:ident),*]| $body:expr;)*) => {$(
        mod $name {
            use super::*;
            struct Op;
            impl Case for Op {
                const SIZES: &'static [usize] = &$sizes;
                fn run<B: Backend>($backend: &B, inputs: Vec<Row<B>>) -> Result<Row<B>, TensorError> {
                    let [$($input),*] = inputs.try_into().unwrap();
                    flat::<_, B>($body?)
                }
            }
            #[test]
            fn gradient() {
                check::<Op>(stringify!($name));
            }
        }
    )*};
}

cases! {
    linear: [12, 20, 5], |b, [x, w, bias]| b.linear(mat(x, 3)?, mat(w, 5)?, Some(bias));
    linear_without_bias: [12, 20], |b, [x, w]| b.linear(mat(x, 3)?, mat(w, 5)?, None);
    rms_norm: [21, 7], |b, [x, w]| b.rms_norm(mat(x, 3)?, w, 1e-3);
    layer_norm: [21, 7, 7], |b, [x, w, bias]| b.layer_norm(mat(x, 3)?, w, bias, 1e-3);
    normalize_rows: [21], |b, [x]| b.normalize_rows(mat(x, 3)?);
    gelu: [21], |b, [x]| b.gelu(mat(x, 3)?);
    silu: [21], |b, [x]| b.silu(mat(x, 3)?);
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
        let sliced = heddle_tensor::tensor::slice_rows(x, 1..3)?;
        let first = heddle_tensor::tensor::slice_rows(rest, 0..2)?;
        _b.residual(sliced, first, None, None)
    };
    mean_tokens: [24], |b, [x]| b.mean_tokens(seq(x, 2, 3)?);
    cross_entropy: [20], |b, [logits]| b.cross_entropy(mat(logits, 4)?, &[Some(1), None, Some(4), Some(0)], 0.1);
    contrastive: [12, 12, 1], |b, [image, text, scale]| {
        b.contrastive(mat(image, 4)?, mat(text, 4)?, reshape::<_, _, B>(scale, ())?, 0.1)
    };
}

fn mat<B: Backend>(x: Row<B>, rows: usize) -> Result<Matrix<B>, TensorError> {
    let len = len(&x);
    reshape::<_, _, B>(x, (rows, len / rows))
}

fn seq<B: Backend>(x: Row<B>, batch: usize, rows: usize) -> Result<Seq<B>, TensorError> {
    let len = len(&x);
    reshape::<_, _, B>(x, (batch, rows, len / batch / rows))
}

fn len<B: Backend>(x: &Row<B>) -> usize {
    dfdx::prelude::HasShape::shape(x).0
}

fn flat<S: dfdx::shapes::Shape, B: Backend>(x: heddle_tensor::Tensor<S, B>) -> Result<Row<B>, TensorError> {
    let len = dfdx::prelude::HasShape::shape(&x).num_elements();
    reshape::<_, _, B>(x, (len,))
}

/// Output, loss `sum(output * probe)`, and its gradients with respect to all inputs.
fn evaluate<C: Case, B: Backend>(backend: &B, inputs: &[Vec<f32>]) -> (Vec<f32>, f64, Vec<Vec<f32>>) {
    let tape = Tape::new();
    let parameters = Parameters::init([], 0, backend).unwrap();
    let host = |data: &Vec<f32>| HostTensor { shape: vec![1, data.len()], data: data.clone() };
    let values: Vec<Value<B>> =
        inputs.iter().map(|data| value(backend, ValueKind::Vector, host(data), &tape)).collect();
    let rows = values.iter().map(|value| match value {
        Value::Vector(x) => flat::<_, B>(x.clone()).unwrap(),
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

fn check<C: Case>(name: &str) {
    let inputs: Vec<Vec<f32>> =
        C::SIZES.iter().enumerate().map(|(i, &size)| numbers(&format!("{name}{i}"), size)).collect();
    let (out, _, grads) = evaluate::<C, CpuF64>(&CpuF64::default(), &inputs);
    for (i, grad) in grads.iter().enumerate() {
        for (j, &found) in grad.iter().enumerate() {
            // The step is exact in `f32`, which inputs pass through.
            let step = 2.0_f32.powi(-12);
            let moved = |by: f32| {
                let mut inputs = inputs.clone();
                inputs[i][j] += by;
                (f64::from(inputs[i][j]), evaluate::<C, CpuF64>(&CpuF64::default(), &inputs).1)
            };
            let ((x1, y1), (x0, y0)) = (moved(step), moved(-step));
            let expected = (y1 - y0) / (x1 - x0);
            let error = (f64::from(found) - expected).abs();
            assert!(error < 2e-6 * (1.0 + expected.abs()), "{name}: input {i}[{j}]: {found}, not {expected}");
        }
    }
    let (fused_out, _, fused_grads) = evaluate::<C, Cpu>(&Cpu::default(), &inputs);
    close(&out, &fused_out, name);
    grads.iter().zip(&fused_grads).for_each(|(composed, fused)| close(composed, fused, name));
}

fn close(expected: &[f32], found: &[f32], what: &str) {
    let scale = expected.iter().fold(1.0_f32, |most, x| most.max(x.abs()));
    for (expected, found) in expected.iter().zip(found) {
        assert!((expected - found).abs() <= 4e-6 * scale, "{what}: {found}, not {expected}");
    }
}

/// Row 0 of the embedding is padding: read, but never trained.
#[test]
fn padding_row_gets_no_gradient() {
    fn gradient<B: Backend>(backend: &B) -> Vec<f32> {
        struct Op;
        impl Case for Op {
            const SIZES: &'static [usize] = &[20];
            fn run<B: Backend>(backend: &B, inputs: Vec<Row<B>>) -> Result<Row<B>, TensorError> {
                let [table] = inputs.try_into().unwrap();
                flat::<_, B>(backend.embedding(mat(table, 5)?, &[3, 0, 3, 1], Some(0))?)
            }
        }
        evaluate::<Op, B>(backend, &[numbers("table", 20)]).2.remove(0)
    }
    let (composed, fused) = (gradient(&CpuF64::default()), gradient(&Cpu::default()));
    assert_eq!(composed, fused);
    assert!(fused[..4].iter().all(|&x| x == 0.0) && fused[4..8].iter().all(|&x| x != 0.0), "{fused:?}");
}

/// Twice the same tensor as input of one operation: both parts of the gradient count.
#[test]
fn one_tensor_as_two_inputs() {
    let backend = Cpu::default();
    let tape = Tape::new();
    let host = HostTensor { shape: vec![1, 2, 2], data: vec![1.0, 2.0, 3.0, 4.0] };
    let x = value(&backend, ValueKind::Sequence, host, &tape);
    let Value::Sequence(seq) = x.clone() else { unreachable!("made above") };
    let sum = backend.residual(seq.clone(), seq, None, None).unwrap();
    let parameters = Parameters::init([], 0, &backend).unwrap();
    let inputs =
        vec![("input", Value::Sequence(sum.clone())), ("probe", Value::Sequence(sum).detach().unwrap())];
    let loss = run(&Probe, &parameters, "", inputs, &["loss"], &tape).remove("loss").unwrap();
    let grads = backward_with(scalar(loss), &parameters, &[x]).unwrap().1;
    assert_eq!(grads[0].as_ref().unwrap().data, [4.0, 8.0, 12.0, 16.0]);
}

/// A module with nothing recorded has no gradient, and says so.
#[test]
fn a_constant_loss_is_an_error() {
    let backend = Cpu::default();
    let parameters = Parameters::init([], 0, &backend).unwrap();
    let loss = heddle_tensor::weighted_sum(&backend, &[]).unwrap();
    assert!(matches!(heddle_tensor::backward(loss, &parameters), Err(TensorError::NoGradient)));
    assert!(Module::parameters(&Probe).is_empty());
}
