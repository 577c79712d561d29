//! Measurements: one number with everything that says what it is.

use serde::{Deserialize, Serialize};

use crate::exec::{Artifact, NodeError};

/// One number of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Which of a report's inputs it came from, where several measure the same; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// `zero-shot`, `retrieval`, `pixel-floor`.
    pub evaluation: String,
    /// The task within it (`concept`); empty where there is one only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub task: String,
    /// The split that the records carry.
    pub split: String,
    /// The language of the texts; empty where there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub language: String,
    /// `top-1`, `i2t R@5`.
    pub metric: String,
    /// Per cent, unless the metric says otherwise.
    pub value: f64,
    /// How many queries it averages over.
    pub n: usize,
    /// Among how many candidates each was asked for.
    pub candidates: usize,
}

impl Measurement {
    /// A measurement without its number yet.
    pub fn of(evaluation: &str, task: &str, split: &str, language: &str, candidates: usize) -> Self {
        Self {
            source: String::new(),
            evaluation: evaluation.to_owned(),
            task: task.to_owned(),
            split: split.to_owned(),
            language: language.to_owned(),
            metric: String::new(),
            value: 0.0,
            n: 0,
            candidates,
        }
    }
}

/// How many scores stand before the right one, as `topk` orders them: higher first, then the earlier index.
pub fn rank(scores: &[f32], right: usize) -> usize {
    let target = scores[right];
    let before = |(index, score): (usize, &f32)| *score > target || (*score == target && index < right);
    scores.iter().enumerate().filter(|entry| before((entry.0, entry.1))).count()
}

/// What travels on a metrics edge: measurements of an evaluation, or the curve of a training stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Numbers of an evaluation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measurements: Vec<Measurement>,
    /// Learning curve of a training stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<CurvePoint>,
    /// Things that the reader of the numbers should know (records that were skipped).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Means over the steps since the point before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Optimiser steps done.
    pub step: u64,
    /// Records seen.
    pub samples: u64,
    /// Weighted sum of the losses.
    pub loss: f64,
    /// Each loss by its node.
    pub losses: std::collections::BTreeMap<String, f64>,
    /// Learning rate at this step.
    pub lr: f64,
    /// Global gradient norm before clipping.
    pub gradient_norm: f64,
}

impl Metrics {
    /// Reads the artifact of a metrics port.
    pub fn read(artifact: &Artifact) -> Result<Self, NodeError> {
        serde_json::from_slice(&artifact.bytes).map_err(|error| NodeError::Artifact {
            from: artifact.from.clone(),
            expected: "metrics",
            reason: error.to_string(),
        })
    }

    /// The artifact's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, NodeError> {
        serde_json::to_vec_pretty(self).map_err(|error| NodeError::Other(format!("metrics: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_topk() {
        assert_eq!(rank(&[0.1, 0.9, 0.5], 1), 0);
        assert_eq!(rank(&[0.1, 0.9, 0.5], 0), 2);
        // Constant scores are no success: the earlier index wins.
        assert_eq!(rank(&[0.5, 0.5, 0.5], 2), 2);
    }
}
