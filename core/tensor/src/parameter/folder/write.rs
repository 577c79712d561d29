//! Writing: tensors as one file, or as shards of a chosen size with their index.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use super::{
    super::{TensorHead, write_safetensors},
    INDEX, WHOLE,
    index::Index,
    shard_name,
};

/// A tensor to write.
#[derive(Debug, Clone)]
pub struct FolderTensor<'a> {
    /// Its type and shape.
    pub head: TensorHead,
    /// Its elements, row-major, little-endian.
    pub data: &'a [u8],
}

/// Writes `model.safetensors`, or shards of at most `shard_bytes` bytes of tensors and their index where there are more
/// (a larger tensor is a shard of its own). Tensors are in the order of their names. Returns the number of files with
/// tensors.
///
/// # Errors
/// Those of writing.
pub fn write_folder(
    root: &Path,
    tensors: &BTreeMap<&str, FolderTensor<'_>>,
    shard_bytes: usize,
) -> io::Result<usize> {
    let shards = shards(tensors, shard_bytes);
    if let [] | [_] = shards.as_slice() {
        write_file(&root.join(WHOLE), tensors)?;
        return Ok(1);
    }
    let (count, mut index) = (shards.len(), Index(BTreeMap::new()));
    for (shard, place) in shards.iter().zip(1..) {
        let file = shard_name(place, count);
        write_file(&root.join(&file), shard)?;
        index.0.extend(shard.keys().map(|name| ((*name).to_owned(), file.clone())));
    }
    let total = tensors.values().map(|tensor| tensor.data.len()).sum();
    std::fs::write(root.join(INDEX), index.to_json(total))?;
    Ok(count)
}

fn shards<'a>(
    tensors: &BTreeMap<&'a str, FolderTensor<'a>>,
    shard_bytes: usize,
) -> Vec<BTreeMap<&'a str, FolderTensor<'a>>> {
    let (mut shards, mut filled) = (Vec::<BTreeMap<_, _>>::new(), 0_usize);
    for (name, tensor) in tensors {
        let bytes = tensor.data.len();
        filled = filled.saturating_add(bytes);
        match shards.last_mut() {
            Some(shard) if filled <= shard_bytes => drop(shard.insert(*name, tensor.clone())),
            _ => {
                shards.push(BTreeMap::from([(*name, tensor.clone())]));
                filled = bytes;
            }
        }
    }
    shards
}

fn write_file(path: &Path, tensors: &BTreeMap<&str, FolderTensor<'_>>) -> io::Result<()> {
    let heads = tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.head.clone())).collect();
    // `transformers` refuses a file that does not say where it comes from; "pt" stands for row-major tensors under
    // PyTorch's names.
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut out = BufWriter::new(File::create(path)?);
    let data = |name: &str| Ok::<_, io::Error>(Cow::Borrowed(tensors.get(name).map_or(&[][..], |t| t.data)));
    write_safetensors(&mut out, &heads, &metadata, data)?;
    out.flush()?;
    out.get_ref().sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sizes: &[usize], shard_bytes: usize, expected: &[&[&str]]) {
        let data = [0; 100];
        let names = ["a", "b", "c", "d"];
        let tensor = |(name, &size): (&&'static str, &usize)| {
            (*name, FolderTensor { head: TensorHead::f32([size / 4]), data: &data[..size] })
        };
        let tensors = names.iter().zip(sizes).map(tensor).collect();
        let found: Vec<Vec<&str>> =
            shards(&tensors, shard_bytes).iter().map(|shard| shard.keys().copied().collect()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn shards_are_filled_in_order_and_a_large_tensor_has_its_own() {
        check(&[4, 4, 4], 12, &[&["a", "b", "c"]]);
        check(&[4, 4, 4], 8, &[&["a", "b"], &["c"]]);
        check(&[4, 40, 4, 4], 8, &[&["a"], &["b"], &["c", "d"]]);
        check(&[], 8, &[]);
    }
}
