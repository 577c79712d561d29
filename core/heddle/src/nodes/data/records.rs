//! The records artifact: a manifest and how its images become tensors.

use heddle_data::{Manifest, image::ImageSpec};
use serde::{Deserialize, Serialize};

use crate::exec::{Artifact, NodeError};

/// What travels on a records edge. Image bytes stay in their shards.
#[derive(Debug, Clone)]
pub struct Records {
    /// The records.
    pub manifest: Manifest,
    /// How their images are decoded.
    pub settings: Settings,
}

/// How a source's images are read; the first line of the artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Size, resizing, normalisation.
    pub image: ImageSpec,
    /// How many broken records a run tolerates.
    pub max_bad: usize,
}

impl Records {
    /// One line of settings, then the manifest; the same bytes on every machine.
    pub fn to_bytes(&self) -> Result<Vec<u8>, NodeError> {
        let mut bytes = serde_json::to_vec(&self.settings)
            .map_err(|error| NodeError::Other(format!("image settings: {error}")))?;
        bytes.push(b'\n');
        bytes.extend(self.manifest.to_bytes());
        Ok(bytes)
    }

    /// Reads the artifact of a records port.
    pub fn read(artifact: &Artifact) -> Result<Self, NodeError> {
        let failed =
            |reason: String| NodeError::Artifact { from: artifact.from.clone(), expected: "records", reason };
        let end = artifact
            .bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or_else(|| failed("no settings line".into()))?;
        let settings =
            serde_json::from_slice(&artifact.bytes[..end]).map_err(|error| failed(error.to_string()))?;
        let manifest =
            Manifest::from_bytes(&artifact.bytes[end + 1..]).map_err(|error| failed(error.to_string()))?;
        Ok(Self { manifest, settings })
    }
}
