//! The records artifact: a manifest and how its images become tensors.

use arrow_buffer::Buffer;
use bytes::Bytes;
use heddle_data::{Footer, Manifest, ManifestError, Record, image::ImageSpec};
use serde::{Deserialize, Serialize};

use crate::exec::{Artifact, NodeError};

/// The settings' place in the footer.
const SETTINGS: &str = "images";

/// What travels on a records edge. Image bytes stay in their shards.
#[derive(Debug, Clone)]
pub struct Records {
    /// The records, read in place.
    pub manifest: Manifest,
    /// How their images are decoded.
    pub settings: Settings,
}

/// How a source's images are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Size, resizing, normalisation.
    pub image: ImageSpec,
    /// How many broken records a run tolerates.
    pub max_bad: usize,
}

impl Settings {
    /// Notes the settings in a footer that is about to be written.
    pub fn put(&self, footer: &mut Footer) -> Result<(), NodeError> {
        let settings = serde_json::to_value(self)
            .map_err(|error| NodeError::Other(format!("image settings: {error}")))?;
        footer.settings.insert(SETTINGS.into(), settings);
        Ok(())
    }
}

impl Records {
    /// Reads the artifact of a records port.
    pub fn read(artifact: &Artifact) -> Result<Self, NodeError> {
        let failed =
            |reason: String| NodeError::Artifact { from: artifact.from.clone(), expected: "records", reason };
        let bytes = Buffer::from(Bytes::from_owner(artifact.bytes.clone()));
        let manifest = Manifest::open(bytes).map_err(|error| failed(error.to_string()))?;
        let settings = manifest.footer.settings.get(SETTINGS).cloned().unwrap_or_default();
        let settings = serde_json::from_value(settings).map_err(|error| failed(error.to_string()))?;
        Ok(Self { manifest, settings })
    }

    /// All records in memory: for evaluation sets, whose answers are looked up again and again.
    pub fn collect(&self) -> Result<Vec<Record>, ManifestError> {
        self.manifest.records().collect()
    }
}
