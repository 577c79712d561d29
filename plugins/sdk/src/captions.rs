//! Filters on captions: a rule looks at one caption, a record goes when its captions fail.

use crate::{Batch, Coded, ColumnSpec, ColumnType, Error, Texts};

/// Whether one bad caption is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Drop {
    /// A record goes when all of its captions fail; one without captions stays.
    #[default]
    All,
    /// A record goes when any of its captions fails.
    Any,
}

/// The columns that [`judge`] reads.
pub fn reads() -> Vec<ColumnSpec> {
    crate::reads(&[
        ("captions", ColumnType::Texts, true, false),
        ("captions.language", ColumnType::Coded, true, true),
    ])
}

/// Verdicts from a rule on `(caption, language)`: `None` is good, `Some(k)` is bad for reason `k`. The first bad caption
/// gives the reason.
pub fn judge(
    batch: &Batch,
    drop: Drop,
    mut rule: impl FnMut(&str, Option<&str>) -> Option<u8>,
) -> Result<Vec<u8>, Error> {
    let (texts, languages) = (Texts::of(batch, "captions")?, Coded::of(batch, "captions.language")?);
    let verdict = |row: usize| {
        let (mut good, mut bad) = (false, None);
        for (text, language) in texts.cell(row).zip(languages.cell(row)) {
            match rule(text, language) {
                None => good = true,
                Some(reason) => bad = bad.or(Some(reason + 1)),
            }
            if drop == Drop::All && good {
                break;
            }
        }
        match drop {
            Drop::All if good => 0,
            _ => bad.unwrap_or(0),
        }
    };
    Ok((0..batch.rows as usize).map(verdict).collect())
}
