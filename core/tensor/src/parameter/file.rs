//! Weights to and from the safetensors format.

use std::{borrow::Cow, collections::BTreeMap, collections::BTreeSet, fs::File, path::Path};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::{Parameters, TensorHead, write_safetensors};
use crate::{backend::Backend, element::Element, error::TensorError};

/// Why weights could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file could not be opened or mapped.
    #[error("cannot read weights")]
    Io(#[from] std::io::Error),
    /// The bytes are no safetensors file.
    #[error("not a safetensors file: {0}")]
    Format(String),
    /// A tensor has another shape than the parameter.
    #[error("`{key}` has shape {found:?}, but `{name}` needs {expected:?}")]
    Shape {
        /// Key in the file.
        key: String,
        /// Full name of the parameter.
        name: String,
        /// Shape of the parameter.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A tensor's numbers have a type that weights cannot have.
    #[error("`{key}` holds {dtype}; weights are F64, F32, F16 or BF16")]
    Dtype {
        /// Key in the file.
        key: String,
        /// Type in the file.
        dtype: String,
    },
    /// A tensor holds an infinity or a NaN.
    #[error("`{key}` holds {value} at element {index}")]
    NotFinite {
        /// Key in the file.
        key: String,
        /// Position, row-major.
        index: usize,
        /// What is there.
        value: f64,
    },
    /// With `strict`: keys do not match parameters one to one.
    #[error("weights do not fit: missing {missing:?}, unexpected {unexpected:?}")]
    Keys {
        /// Keys that parameters need and the file does not have.
        missing: Vec<String>,
        /// Keys in the file that no parameter needs.
        unexpected: Vec<String>,
    },
    /// The device failed.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// What to insist on while loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// Missing or unexpected keys are an error instead of part of the report.
    pub strict: bool,
    /// Infinities and NaNs are an error.
    pub finite: bool,
}

/// What a load did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadReport {
    /// Full names of the parameters that were replaced.
    pub loaded: Vec<String>,
    /// Keys that parameters asked for and the file does not have.
    pub missing: Vec<String>,
    /// Keys of the file that no parameter asked for.
    pub unexpected: Vec<String>,
}

/// A safetensors file mapped into memory.
#[derive(Debug)]
pub struct WeightsFile {
    bytes: Mmap,
}

impl WeightsFile {
    /// Maps a file. Its contents are checked when it is used.
    ///
    /// # Errors
    /// [`WeightsError::Io`]
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = File::open(path)?;
        // SAFETY: the map is private to this value and only read. A file that another process truncates
        // meanwhile would end this one with a signal, as with every mapped file; artifacts are published by
        // rename and never written to again.
        let bytes = unsafe { Mmap::map(&file)? };
        Ok(Self { bytes })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl<B: Backend> Parameters<B> {
    /// Replaces parameters by the tensors of a safetensors file. `key` gives the key of a full name, `None`
    /// where a parameter is not to be loaded from this file.
    ///
    /// # Errors
    /// [`WeightsError`]; nothing has been replaced then.
    pub fn load(
        &mut self,
        bytes: &[u8],
        key: impl Fn(&str) -> Option<String>,
        options: LoadOptions,
    ) -> Result<LoadReport, WeightsError> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| WeightsError::Format(e.to_string()))?;
        let mut report = LoadReport::default();
        let mut unused: BTreeSet<String> = file.names().into_iter().map(str::to_owned).collect();
        let mut values = Vec::new();
        for (name, parameter) in self.iter() {
            let Some(key) = key(name) else { continue };
            unused.remove(&key);
            let Ok(view) = file.tensor(&key) else {
                report.missing.push(key);
                continue;
            };
            check_shape(&key, name, &parameter.shape, view.shape())?;
            values.push((name.to_owned(), elements::<B::Elem>(&key, &view, options.finite)?));
        }
        report.unexpected.extend(unused);
        if options.strict && !(report.missing.is_empty() && report.unexpected.is_empty()) {
            return Err(WeightsError::Keys { missing: report.missing, unexpected: report.unexpected });
        }
        for (name, data) in values {
            self.set(&name, data)?;
            report.loaded.push(name);
        }
        Ok(report)
    }

    /// All parameters as the bytes of a safetensors file, in `f32`, under the keys that `rename` gives.
    ///
    /// # Errors
    /// [`TensorError::Device`]; [`TensorError::Config`] if two parameters get the same key.
    pub fn save_safetensors(
        &self,
        rename: impl Fn(&str) -> String,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, TensorError> {
        self.save_selected(|name| Some(rename(name)), metadata)
    }

    /// As [`Parameters::save_safetensors`], without the parameters for which `rename` gives `None`.
    ///
    /// # Errors
    /// As for [`Parameters::save_safetensors`].
    pub fn save_selected(
        &self,
        rename: impl Fn(&str) -> Option<String>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, TensorError> {
        let mut tensors = BTreeMap::new();
        for (name, parameter) in self.iter() {
            let Some(key) = rename(name) else { continue };
            let entry = (parameter.shape.clone(), self.to_host(name)?);
            if tensors.insert(key.clone(), entry).is_some() {
                return Err(TensorError::Config(format!("two parameters would be saved as `{key}`")));
            }
        }
        Ok(to_safetensors(&tensors, metadata))
    }
}

/// Named `f32` tensors (shape and elements) as the bytes of a safetensors file.
///
/// # Panics
/// If a shape has another number of elements than there are.
pub fn to_safetensors(
    tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    metadata: &BTreeMap<String, String>,
) -> Vec<u8> {
    let heads = tensors.iter().map(|(name, (shape, _))| (name.clone(), TensorHead::f32(shape.clone())));
    let mut bytes = Vec::new();
    let data = |name: &str| {
        let (_, data) = &tensors[name];
        Ok::<_, std::io::Error>(Cow::Owned(data.iter().flat_map(|x| x.to_le_bytes()).collect()))
    };
    write_safetensors(&mut bytes, &heads.collect(), metadata, data)
        .expect("memory takes all bytes, and each shape has as many elements as there are");
    bytes
}

fn check_shape(key: &str, name: &str, expected: &[usize], found: &[usize]) -> Result<(), WeightsError> {
    if expected == found {
        return Ok(());
    }
    let (key, name) = (key.to_owned(), name.to_owned());
    Err(WeightsError::Shape { key, name, expected: expected.to_vec(), found: found.to_vec() })
}

fn elements<E: Element>(key: &str, view: &TensorView<'_>, finite: bool) -> Result<Vec<E>, WeightsError> {
    let wide = |convert: fn(&[u8]) -> f64, size: usize| -> Result<Vec<E>, WeightsError> {
        let values = view.data().chunks_exact(size).map(convert).enumerate();
        let check = |(index, value): (usize, f64)| match value.is_finite() || !finite {
            true => Ok(E::of(value)),
            false => Err(WeightsError::NotFinite { key: key.to_owned(), index, value }),
        };
        values.map(check).collect()
    };
    match view.dtype() {
        Dtype::F64 => wide(|b| f64::from_le_bytes(array(b)), 8),
        Dtype::F32 => wide(|b| f64::from(f32::from_le_bytes(array(b))), 4),
        Dtype::BF16 => wide(|b| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(array(b))) << 16)), 2),
        Dtype::F16 => wide(|b| half_to_f64(u16::from_le_bytes(array(b))), 2),
        other => Err(WeightsError::Dtype { key: key.to_owned(), dtype: format!("{other:?}") }),
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("chunks_exact gives chunks of this size")
}

/// IEEE 754 binary16: one sign bit, five of exponent (bias 15), ten of fraction.
fn half_to_f64(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff) / 1024.0);
    let magnitude = match exponent {
        0 => fraction * 2_f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2_f64.powi(exponent - 15),
    };
    sign * magnitude
}
