//! Drops records whose column `score` is below a threshold, as a CLIP similarity is used to clean web data.

use heddle_plugin_sdk::{
    Batch, ColumnType, Config, Description, Error, Filter, Numbers, reads, reasons, stateless,
};
use serde::Deserialize;

#[derive(Deserialize, Clone, Copy, PartialEq, Default)]
#[serde(rename_all = "lowercase")]
enum Missing {
    Keep,
    #[default]
    Drop,
}

/// The thresholds.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct ScoreThreshold {
    min: Option<f32>,
    max: Option<f32>,
    missing: Missing,
}

impl ScoreThreshold {
    /// The verdict on a score.
    pub fn judge(&self, score: Option<f32>) -> u8 {
        match score {
            None => {
                if self.missing == Missing::Keep {
                    0
                } else {
                    3
                }
            }
            Some(score) if self.min.is_some_and(|min| score < min) => 1,
            Some(score) if self.max.is_some_and(|max| score > max) => 2,
            Some(_) => 0,
        }
    }
}

impl Filter for ScoreThreshold {
    fn describe() -> Description {
        Description {
            reads: reads(&[("score", ColumnType::F32s, false, true)]),
            reasons: reasons(&[
                ("low-score", "the score is below `min`"),
                ("high-score", "the score is above `max`"),
                ("no-score", "there is no score"),
            ]),
            ..stateless(
                "score-threshold",
                "drops records whose score is too low",
                include_str!("../config.schema.json"),
            )
        }
    }

    fn open(config: Config<'_>, _: u64) -> Result<Self, Error> {
        let rule: Self = config.read()?;
        match (rule.min, rule.max) {
            (None, None) => Err(Config::wrong("", "neither `min` nor `max` is set")),
            (Some(min), Some(max)) if min > max => Err(Config::wrong("/max", "it is less than `min`")),
            _ => Ok(rule),
        }
    }

    fn apply(&mut self, batch: &Batch) -> Result<Vec<u8>, Error> {
        let scores = Numbers::<f32>::of(batch, "score")?;
        Ok((0..batch.rows as usize).map(|row| self.judge(scores.get(row))).collect())
    }
}

heddle_plugin_sdk::export_filter!(ScoreThreshold);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_have_limits() {
        let rule = ScoreThreshold { min: Some(0.2), max: Some(0.9), missing: Missing::Drop };
        assert_eq!([Some(0.1), Some(0.2), Some(0.95), None].map(|score| rule.judge(score)), [1, 0, 2, 3]);
    }
}
