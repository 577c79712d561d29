//! Opening a device, buffers, and what happens where something is missing.

use heddle_tensor::{Backend, Cuda, HostTensor, Precision, Tape, TensorError, Value, value::ValueKind};

use crate::{cuda, support::numbers};

#[test]
fn a_device_that_is_not_there_is_an_error() {
    let error = Cuda::new(4096, Precision::F32).unwrap_err();
    assert!(matches!(&error, TensorError::Device(reason) if reason.contains("4096")), "{error}");
}

#[test]
fn values_come_back() {
    let cuda = cuda(Precision::Bf16);
    let host = HostTensor { shape: vec![2, 3, 5], data: numbers("values", 30) };
    let value = Value::from_host(&cuda, ValueKind::Sequence, host.clone(), &Tape::off()).unwrap();
    assert_eq!(value.to_host().unwrap(), host);
    assert_eq!(value.detach().unwrap().to_host().unwrap(), host);
}

#[test]
fn buffers_share_until_they_change() {
    let cuda = cuda(Precision::F32);
    let data = numbers("buffer", 1031);
    let mut changed = cuda.buffer(data.clone()).unwrap();
    let kept = changed.clone();
    cuda.scale(2.0, &mut changed).unwrap();
    cuda.axpy(-0.5, &kept, &mut changed).unwrap();
    assert_eq!(cuda.buffer_to_vec(&kept).unwrap(), data);
    let expected: Vec<f32> = data.iter().map(|x| 1.5 * x).collect();
    assert_eq!(cuda.buffer_to_vec(&changed).unwrap(), expected);
    assert_eq!(cuda.buffer_to_vec(&cuda.zeros(7).unwrap()).unwrap(), [0.0; 7]);
    assert!(cuda.axpy(1.0, &cuda.zeros(7).unwrap(), &mut changed).is_err());
}

#[test]
fn squares_are_summed_in_double_precision() {
    let cuda = cuda(Precision::F32);
    let data: Vec<Vec<f32>> = [1, 4, 1030, 9001].iter().map(|&len| numbers("squares", len)).collect();
    let buffers: Vec<_> = data.iter().map(|data| cuda.buffer(data.clone()).unwrap()).collect();
    let found = cuda.sums_of_squares(&buffers.iter().collect::<Vec<_>>()).unwrap();
    for (data, found) in data.iter().zip(found) {
        let expected: f64 = data.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        assert!((found - expected).abs() <= 1e-12 * expected, "{found}, not {expected}");
    }
}

#[test]
fn tensors_and_buffers_are_copies_of_each_other() {
    let cuda = cuda(Precision::F32);
    let data = numbers("copies", 13);
    let tensor = cuda.tensor(cuda.buffer(data.clone()).unwrap()).unwrap();
    let mut buffer = cuda.read(&tensor).unwrap();
    cuda.scale(0.0, &mut buffer).unwrap();
    assert_eq!(cuda.buffer_to_vec(&cuda.read(&tensor).unwrap()).unwrap(), data);
}
