//! A safetensors file that is written tensor by tensor, with no more than one of them in memory.
//!
//! Written bytes are a function of names, values and metadata alone (a fixed order, no clock, no hash order), so
//! that a digest of the file identifies the weights.

use std::{borrow::Cow, cmp::Reverse, collections::BTreeMap, io, io::Write};

use safetensors::Dtype;
use serde_json::{Map, Value as Json, json};

/// What the header says of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorHead {
    /// Type of its elements.
    pub dtype: Dtype,
    /// Sizes of its dimensions, none for a scalar.
    pub shape: Vec<usize>,
}

impl TensorHead {
    /// A tensor of `f32`.
    pub fn f32(shape: impl Into<Vec<usize>>) -> Self {
        Self { dtype: Dtype::F32, shape: shape.into() }
    }

    /// Number of elements; stops at the largest number if there would be more.
    pub fn len(&self) -> usize {
        self.shape.iter().fold(1, |product: usize, &size| product.saturating_mul(size))
    }

    /// Whether a dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// Length of its data in bytes, as [`len`](Self::len) counts.
    pub fn bytes(&self) -> usize {
        self.len().saturating_mul(self.dtype.bitsize()) / 8
    }
}

/// Writes a whole safetensors file. `data` gives the bytes of each tensor when its turn comes: wider elements first,
/// so that every tensor is aligned to them, and by name among equals.
///
/// # Errors
/// Those of `data` and of writing; [`io::ErrorKind::InvalidInput`] if `data` gives another length than the head says.
pub fn write_safetensors<'a, E: From<io::Error>>(
    out: &mut impl Write,
    tensors: &BTreeMap<String, TensorHead>,
    metadata: &BTreeMap<String, String>,
    mut data: impl FnMut(&str) -> Result<Cow<'a, [u8]>, E>,
) -> Result<(), E> {
    let order = in_order(tensors);
    out.write_all(&header(&order, metadata))?;
    for (name, head) in order {
        let bytes = data(name)?;
        if bytes.len() != head.bytes() {
            let message = format!("`{name}` has {} bytes, its head says {}", bytes.len(), head.bytes());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message).into());
        }
        out.write_all(&bytes)?;
    }
    Ok(())
}

fn in_order(tensors: &BTreeMap<String, TensorHead>) -> Vec<(&str, &TensorHead)> {
    let mut order: Vec<(&str, &TensorHead)> =
        tensors.iter().map(|(name, head)| (name.as_str(), head)).collect();
    // The sort is stable: names stay in order.
    order.sort_by_key(|(_, head)| Reverse(head.dtype.bitsize()));
    order
}

/// The header with its length before it.
fn header(order: &[(&str, &TensorHead)], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut start = 0;
    for (name, head) in order {
        let (dtype, end) = (head.dtype.to_string(), start + head.bytes());
        let entry = json!({ "dtype": dtype, "shape": head.shape, "data_offsets": [start, end] });
        header.insert((*name).to_owned(), entry);
        start = end;
    }
    let mut text = Json::Object(header).to_string().into_bytes();
    // The data starts at a multiple of eight; readers take trailing spaces as part of the JSON.
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    bytes
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    fn write(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> io::Result<Vec<u8>> {
        let head = |(name, dtype, shape, _): &(&str, Dtype, &[usize], Vec<u8>)| {
            ((*name).to_owned(), TensorHead { dtype: *dtype, shape: shape.to_vec() })
        };
        let heads = tensors.iter().map(head).collect();
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let mut out = Vec::new();
        let data = |name: &str| {
            let found = tensors.iter().find(|(known, ..)| *known == name);
            Ok::<_, io::Error>(Cow::Borrowed(found.map_or(&[][..], |(.., data)| data)))
        };
        write_safetensors(&mut out, &heads, &metadata, data)?;
        Ok(out)
    }

    #[test]
    fn tensors_of_several_types_are_aligned_and_read_back() {
        let bytes = write(&[
            ("a", Dtype::BF16, &[3], vec![1, 2, 3, 4, 5, 6]),
            ("b", Dtype::F32, &[], vec![7; 4]),
            ("c", Dtype::F16, &[0, 2], vec![]),
        ])
        .unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("a").unwrap().data(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(file.tensor("b").unwrap().shape(), [0_usize; 0]);
        let offset = |name| file.tensor(name).unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize;
        assert!(offset("b").is_multiple_of(4) && offset("b") < offset("a"));
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");
    }

    #[test]
    fn data_of_another_length_is_refused() {
        let error = write(&[("a", Dtype::F32, &[2], vec![0; 4])]).unwrap_err();
        assert_eq!(error.to_string(), "`a` has 4 bytes, its head says 8");
    }
}
