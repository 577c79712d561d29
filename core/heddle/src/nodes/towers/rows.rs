//! Rows of features, and the artifact that holds them.

use std::collections::{BTreeMap, BTreeSet};

use heddle_tensor::{HostTensor, parameter::to_safetensors};
use safetensors::SafeTensors;

use crate::{
    exec::{NodeError, RunContext},
    nodes::data::Records,
};

/// Rows of features `[n, width]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Values a row.
    pub width: usize,
    /// All rows, one after the other.
    pub data: Vec<f32>,
}

impl Rows {
    /// Row by row.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact(self.width.max(1))
    }

    /// One row.
    pub fn row(&self, index: usize) -> Option<&[f32]> {
        self.data.get(index * self.width..(index + 1) * self.width)
    }

    /// Scales every row to length one.
    pub fn normalise(&mut self) {
        self.data.chunks_exact_mut(self.width.max(1)).for_each(normalise);
    }

    /// The dot product of every row with a vector.
    ///
    /// # Panics
    /// If the vector has another width; ports are checked for that before anything runs.
    pub fn scores(&self, vector: &[f32]) -> Vec<f32> {
        assert_eq!(vector.len(), self.width, "widths are checked on the edges");
        self.rows().map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum()).collect()
    }

    /// Fails if a value is no number: scores would be meaningless.
    pub fn finite(self, what: &str) -> Result<Self, NodeError> {
        if self.data.iter().all(|value| value.is_finite()) {
            return Ok(self);
        }
        Err(NodeError::Other(format!("{what} are not finite; the weights that made them have diverged")))
    }
}

/// Scales a vector to length one; a zero vector stays.
pub fn normalise(vector: &mut [f32]) {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|value| *value /= norm);
    }
}

/// Name of the one tensor in a features artifact.
const FEATURES: &str = "features";
/// Metadata: digest of the records that the rows belong to.
const RECORDS: &str = "records";
/// Metadata: places of the records without a row of their own.
const SKIPPED: &str = "skipped";

/// The features artifact: a row a record, zeros where the image did not decode.
pub fn features_bytes(rows: HostTensor, skipped: &BTreeSet<usize>, records: String) -> Vec<u8> {
    let places: Vec<String> = skipped.iter().map(usize::to_string).collect();
    let metadata = BTreeMap::from([(RECORDS.to_owned(), records), (SKIPPED.to_owned(), places.join(","))]);
    to_safetensors(&BTreeMap::from([(FEATURES.to_owned(), (rows.shape, rows.data))]), &metadata)
}

/// Normalised features of records, without those whose image did not decode.
pub struct Features {
    rows: Rows,
    skipped: BTreeSet<usize>,
}

impl Features {
    /// The row of a record; none if its image did not decode.
    pub fn row(&self, record: usize) -> Option<&[f32]> {
        if self.skipped.contains(&record) { None } else { self.rows.row(record) }
    }

    /// What the reader of the numbers should know.
    pub fn notes(&self) -> Vec<String> {
        match self.skipped.len() {
            0 => Vec::new(),
            count => vec![format!("{count} records are not scored: their images do not decode")],
        }
    }
}

/// Reads the features port of a node that has the same records.
pub fn features_of(cx: &RunContext<'_>, records: &Records) -> Result<Features, NodeError> {
    let artifact = cx.input("features")?;
    let failed =
        |reason: String| NodeError::Artifact { from: artifact.from.clone(), expected: "features", reason };
    let file = SafeTensors::deserialize(&artifact.bytes).map_err(|error| failed(error.to_string()))?;
    let (_, header) =
        SafeTensors::read_metadata(&artifact.bytes).map_err(|error| failed(error.to_string()))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let belongs = cx.input("records")?;
    if metadata.get(RECORDS) != Some(&belongs.digest.to_string()) {
        return Err(NodeError::Other(format!(
            "the features of `{}` are of other records than `{}`; give both ports the same source",
            artifact.from, belongs.from
        )));
    }
    let tensor = file.tensor(FEATURES).map_err(|error| failed(error.to_string()))?;
    let [count, width] = *tensor.shape() else { return Err(failed(format!("shape {:?}", tensor.shape()))) };
    if count != records.manifest.len() {
        return Err(failed(format!("{count} rows for {} records", records.manifest.len())));
    }
    let data = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let mut rows = Rows { width, data }.finite("image features")?;
    rows.normalise();
    let places = metadata.get(SKIPPED).map(String::as_str).unwrap_or_default();
    Ok(Features { rows, skipped: places.split(',').filter_map(|place| place.parse().ok()).collect() })
}
