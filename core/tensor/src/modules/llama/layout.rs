//! Where queries and text lie in a batch of sequences, and who sees whom.

use crate::{mask::Mask, value::Tokens};

/// What queries and text may see of each other (InternVL, CVPR 2024, section 3.3; BLIP-2, figure 2). Padding is seen by
/// nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Queries see queries, text sees the text before it: contrastive learning in one sequence.
    Separate,
    /// Everything sees everything: matching, and questions of a chat.
    Full,
    /// Queries see queries, text sees queries and the text before it: generation.
    Causal,
}

/// A batch of sequences: `queries` rows, then `text` tokens.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Number of sequences.
    pub batch: usize,
    /// Rows before the text.
    pub queries: usize,
    /// Padded length of the text.
    pub text: usize,
    /// Which tokens are real, `[B, T]`.
    real: Vec<bool>,
    mix: Mix,
}

impl Layout {
    /// Text alone, each token seeing those before it.
    pub fn text(tokens: &Tokens) -> Self {
        let (batch, text, real) = (tokens.batch, tokens.len, tokens.real());
        Self { batch, queries: 0, text, real, mix: Mix::Causal }
    }

    /// Queries, and text if there is some.
    pub fn with_queries(batch: usize, queries: usize, tokens: Option<&Tokens>, mix: Mix) -> Self {
        let (text, real) = tokens.map_or((0, Vec::new()), |tokens| (tokens.len, tokens.real()));
        Self { batch, queries, text, real, mix }
    }

    /// Rows of a sequence.
    pub fn len(&self) -> usize {
        self.queries + self.text
    }

    /// Where queries lie in `[B N, C]`.
    pub fn places_of_queries(&self) -> Vec<u32> {
        self.places(0, self.queries)
    }

    /// Where the text lies in `[B N, C]`, padding with it.
    pub fn places_of_text(&self) -> Vec<u32> {
        self.places(self.queries, self.text)
    }

    fn places(&self, first: usize, count: usize) -> Vec<u32> {
        let of = |record: usize| (first..first + count).map(move |row| (record * self.len() + row) as u32);
        (0..self.batch).flat_map(of).collect()
    }

    /// The rows of `[B N, C]` that are real, and `read` of the others.
    pub fn real_and(&self, read: &[u32]) -> Vec<u32> {
        let mut wanted = self.seen();
        read.iter().for_each(|&row| wanted[row as usize] = true);
        (0..).zip(wanted).filter_map(|(row, wanted)| wanted.then_some(row)).collect()
    }

    /// Which rows are real, `[B, N]`.
    pub fn seen(&self) -> Vec<bool> {
        let rows = |record: usize| {
            let text = &self.real[record * self.text..][..self.text];
            std::iter::repeat_n(true, self.queries).chain(text.iter().copied())
        };
        (0..self.batch).flat_map(rows).collect()
    }

    /// Who sees whom.
    pub fn mask(&self) -> Mask {
        let (queries, text) = (self.queries, self.text);
        if text == 0 {
            return Mask::None;
        }
        let real =
            |record: usize, column: usize| column < queries || self.real[record * text + column - queries];
        let columns = (0..self.batch).flat_map(|b| (0..self.len()).map(move |j| (b, j)));
        if queries == 0 || self.mix == Mix::Full {
            let keep = columns.map(|(b, j)| real(b, j)).collect();
            return Mask::Padding { keep, causal: queries == 0 && self.mix != Mix::Full };
        }
        let rows = (0..self.batch).flat_map(|b| (0..self.len()).map(move |i| (b, i)));
        let allowed = |b: usize, i: usize, j: usize| match (i < queries, j < queries) {
            (true, true) => true,
            (true, false) => false,
            (false, true) => self.mix == Mix::Causal,
            (false, false) => j <= i && real(b, j),
        };
        Mask::Pattern(rows.flat_map(|(b, i)| (0..self.len()).map(move |j| allowed(b, i, j))).collect())
    }
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    /// Who sees whom in the reference's stage 2: matching, contrastive and generative part, four texts each.
    #[test]
    fn masks_of_stage_2() {
        let bytes = include_bytes!("../../../tests/fixtures/internvl.safetensors");
        let file = SafeTensors::deserialize(bytes).unwrap();
        let integers = |name: String| -> Vec<u32> {
            let data = file.tensor(&name).unwrap().data().as_chunks::<8>().0.to_vec();
            data.into_iter().map(|bytes| i64::from_le_bytes(bytes) as u32).collect()
        };
        let expected = file.tensor("io.out.stage2.attention_allowed").unwrap().data().to_vec();
        let (batch, queries, text) = (4, 6, 12);
        let len = queries + text;
        let of = |part: &str| {
            let marks = |what: &str| integers(format!("io.in.stage2.{part}{what}"));
            let mask = Some(marks("attention_mask").iter().map(|mark| *mark == 1).collect());
            Tokens { mask, ..Tokens::new(marks("input_ids"), batch, text).unwrap() }
        };
        // Matching pairs the first half of the images with false texts.
        let matching = of("negative_").followed_by(&of("positive_")).select(&[0, 1, 6, 7]);
        let parts = [(matching, Mix::Full), (of("summarize_"), Mix::Separate), (of(""), Mix::Causal)];
        for (part, (tokens, mix)) in parts.into_iter().enumerate() {
            let layout = Layout::with_queries(batch, queries, Some(&tokens), mix);
            let (mask, seen) = (layout.mask(), layout.seen());
            for record in 0..batch {
                // Rows of padding do not matter.
                for row in (0..len).filter(|row| seen[record * len + row]) {
                    for column in 0..len {
                        let allowed = mask.allows(record, (row, len), (column, len));
                        let place = ((part * batch + record) * len + row) * len + column;
                        assert_eq!(allowed, expected[place] == 1, "{mix:?}: {record}, {row} to {column}");
                    }
                }
            }
        }
    }
}
