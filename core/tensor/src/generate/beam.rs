//! Beam search as `transformers` 4.37 does it.
//!
//! `k` continuations are followed together, the first step from one. A step adds log-probabilities and looks at the best
//! `2 k` candidates over all continuations and tokens: one that ends becomes a finished text if it is among the first `k`;
//! the others fill up `k` continuations. The `k` best finished texts are kept. A record is done when it has `k` of them and
//! no continuation can become better than the worst: the best candidate of the step, over its length to the power of the
//! penalty, is not above it. At the length limit continuations count as finished.

use rayon::prelude::*;

use super::{Generated, Limits, NextToken, log_softmax};
use crate::error::TensorError;

/// A continuation that is followed.
#[derive(Clone)]
struct Beam {
    tokens: Vec<u32>,
    sum: f64,
}

/// The continuations of one record.
struct Record {
    beams: Vec<Beam>,
    finished: Vec<Generated>,
    done: bool,
}

/// A step of one continuation.
struct Candidate {
    beam: usize,
    token: u32,
    sum: f64,
}

/// The best text for each row of `first`.
pub fn generate(
    first: Vec<Vec<f32>>,
    decoder: &mut dyn NextToken,
    beams: usize,
    length_penalty: f64,
    limits: &Limits,
) -> Result<Vec<Generated>, TensorError> {
    let begin =
        || Record { beams: vec![Beam { tokens: Vec::new(), sum: 0.0 }], finished: Vec::new(), done: false };
    let mut records: Vec<Record> = first.iter().map(|_| begin()).collect();
    let mut scores = first;
    loop {
        let (mut going_on, mut rest) = (Vec::new(), scores.as_slice());
        for record in records.iter_mut().filter(|record| !record.done) {
            let (own, others) = rest.split_at(record.beams.len());
            going_on.push((record, own));
            rest = others;
        }
        let steps = going_on.into_par_iter().map(|(record, scores)| {
            let parents = record.step(scores, beams, length_penalty, limits);
            (record, scores.len(), parents)
        });
        let (mut from, mut tokens, mut row) = (Vec::new(), Vec::new(), 0);
        for (record, count, parents) in steps.collect::<Vec<_>>() {
            if !record.done {
                from.extend(parents.iter().map(|parent| row + parent));
                tokens.extend(record.beams.iter().filter_map(|beam| beam.tokens.last().copied()));
            }
            row += count;
        }
        if from.is_empty() {
            break;
        }
        scores = decoder.next(&from, &tokens)?;
    }
    Ok(records.into_iter().map(Record::best).collect())
}

impl Record {
    /// Takes one step; gives the beam that each new one continues.
    fn step(
        &mut self,
        scores: &[Vec<f32>],
        beams: usize,
        length_penalty: f64,
        limits: &Limits,
    ) -> Vec<usize> {
        let len = self.beams.first().map_or(0, |beam| beam.tokens.len());
        let candidates = self.candidates(scores, 2 * beams, limits, len);
        let longer = len + 1;
        let scored = |sum: f64| sum / (longer as f64).powf(length_penalty);
        let (mut going_on, mut parents) = (Vec::new(), Vec::new());
        let best = candidates.first().map_or(f64::NEG_INFINITY, |candidate| candidate.sum);
        for (rank, candidate) in candidates.into_iter().enumerate() {
            let mut tokens = self.beams[candidate.beam].tokens.clone();
            tokens.push(candidate.token);
            if limits.end.contains(&candidate.token) {
                if rank < beams {
                    self.finish(Generated { tokens, score: scored(candidate.sum) }, beams);
                }
            } else {
                parents.push(candidate.beam);
                going_on.push(Beam { tokens, sum: candidate.sum });
            }
            if going_on.len() == beams {
                break;
            }
        }
        self.beams = going_on;
        let worst = self.finished.iter().map(|text| text.score).fold(f64::INFINITY, f64::min);
        let settled = self.finished.len() >= beams && worst >= scored(best);
        if !settled && longer >= limits.max_new {
            for beam in std::mem::take(&mut self.beams) {
                let score = scored(beam.sum);
                self.finish(Generated { tokens: beam.tokens, score }, beams);
            }
        }
        self.done = settled || longer >= limits.max_new || self.beams.is_empty();
        parents
    }

    /// The best candidates of all beams, best first; of equals, the earlier beam and the smaller token.
    fn candidates(&self, scores: &[Vec<f32>], count: usize, limits: &Limits, len: usize) -> Vec<Candidate> {
        let mut best: Vec<Candidate> = Vec::with_capacity(count + 1);
        for (beam, scores) in scores.iter().enumerate() {
            for (token, log) in (0..).zip(log_softmax(scores, limits, len)) {
                let sum = self.beams[beam].sum + log;
                let not_worse = |other: &Candidate| other.sum.total_cmp(&sum).is_ge();
                let hopeless = best.len() == count && best.last().is_some_and(not_worse);
                if sum > f64::NEG_INFINITY && !hopeless {
                    best.insert(best.partition_point(not_worse), Candidate { beam, token, sum });
                    best.truncate(count);
                }
            }
        }
        best
    }

    /// Keeps a finished text if it is among the best.
    fn finish(&mut self, text: Generated, beams: usize) {
        self.finished.push(text);
        self.finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.finished.truncate(beams);
    }

    fn best(self) -> Generated {
        self.finished.into_iter().next().unwrap_or(Generated { tokens: Vec::new(), score: f64::NEG_INFINITY })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores with many equals: what is taken is what sorting everything would put first.
    #[test]
    fn candidates_are_the_first_of_all_in_order() {
        let limits = Limits { min_new: 1, max_new: 9, end: vec![4] };
        for seed in 0..50_usize {
            let score = |beam: usize, token: usize| match (seed * 7919 + beam * 104_729 + token * 31) % 6 {
                5 => f32::NEG_INFINITY,
                level => level as f32,
            };
            let scores: Vec<Vec<f32>> =
                (0..3).map(|beam| (0..11).map(|token| score(beam, token)).collect()).collect();
            let beams = [0.0, -1.0, -1.0].map(|sum| Beam { tokens: Vec::new(), sum });
            let record = Record { beams: beams.to_vec(), finished: Vec::new(), done: false };
            let mut all: Vec<(f64, usize, u32)> = Vec::new();
            for (beam, scores) in scores.iter().enumerate() {
                let logs = (0..).zip(log_softmax(scores, &limits, 0));
                all.extend(logs.map(|(token, log)| (beams[beam].sum + log, beam, token)));
            }
            all.retain(|(sum, ..)| *sum > f64::NEG_INFINITY);
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            for count in [1, 2, 6, 40] {
                let found = record.candidates(&scores, count, &limits, 0);
                let found: Vec<_> = found.into_iter().map(|it| (it.sum, it.beam, it.token)).collect();
                assert_eq!(found, all[..count.min(all.len())], "{seed}: {count}");
            }
        }
    }
}
