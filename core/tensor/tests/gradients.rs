//! Every operation of the backends: gradients of the composed bodies against finite differences in double
//! precision, and the fused bodies against the composed ones.

use heddle_tensor::{
    Backend, Cpu, CpuF64, HostTensor, Module, Parameters, Row, Tape, TensorError, Value, backward_with,
    modules::Probe, value::ValueKind,
};

use crate::support::{
    cases::{Case, case_tests, evaluate, flat, inputs, mat},
    numbers, run, scalar, value,
};

case_tests!(check, crate::support::cases);

fn check<C: Case>() {
    let (name, inputs) = (C::NAME, inputs::<C>());
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
            const NAME: &'static str = "table";
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
