//! One continuation a record: the best token, or one that is drawn.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{Generated, Limits, NextToken, Sampling, Watch, log_softmax};
use crate::{error::TensorError, parameter::random_stream};

/// A text that is being written.
struct Writing {
    record: usize,
    tokens: Vec<u32>,
    score: f64,
    random: Option<ChaCha8Rng>,
}

/// Greedy without `sampling`.
pub fn generate(
    first: Vec<Vec<f32>>,
    decoder: &mut dyn NextToken,
    sampling: Option<&Sampling>,
    limits: &Limits,
    watch: &mut dyn Watch,
) -> Result<Vec<Generated>, TensorError> {
    let mut done: Vec<Option<Generated>> = first.iter().map(|_| None).collect();
    let begin = |record: usize| Writing {
        record,
        tokens: Vec::new(),
        score: 0.0,
        random: sampling.map(|sampling| random_stream(&format!("record {record}"), sampling.seed)),
    };
    let mut writing: Vec<Writing> = (0..first.len()).map(begin).collect();
    let mut scores = first;
    while !writing.is_empty() {
        let (mut going_on, mut from, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
        // A row of scores is as long as the vocabulary.
        let logs: Vec<Vec<f64>> = writing
            .par_iter()
            .zip(&scores)
            .map(|(text, scores)| log_softmax(scores, limits, text.tokens.len()))
            .collect();
        for (place, (mut text, logs)) in writing.into_iter().zip(logs).enumerate() {
            let token = match (&mut text.random, sampling) {
                (Some(random), Some(sampling)) => draw(&logs, sampling, random),
                _ => best(&logs),
            };
            text.tokens.push(token as u32);
            text.score += logs[token];
            let complete = watch.token(text.record, token as u32);
            if complete || limits.end.contains(&(token as u32)) || text.tokens.len() >= limits.max_new {
                done[text.record] = Some(Generated { tokens: text.tokens, score: text.score });
            } else {
                from.push(place);
                tokens.push(token as u32);
                going_on.push(text);
            }
        }
        writing = going_on;
        scores = if writing.is_empty() { Vec::new() } else { decoder.next(&from, &tokens)? };
    }
    let none = || Generated { tokens: Vec::new(), score: 0.0 };
    Ok(done.into_iter().map(|text| text.unwrap_or_else(none)).collect())
}

/// The place of the largest; the first of equals.
fn best(logs: &[f64]) -> usize {
    (0..logs.len()).rev().max_by(|a, b| logs[*a].total_cmp(&logs[*b])).unwrap_or(0)
}

/// A place, by the shares that `sampling` leaves.
fn draw(logs: &[f64], sampling: &Sampling, random: &mut ChaCha8Rng) -> usize {
    let mut places: Vec<usize> = (0..logs.len()).collect();
    places.sort_by(|a, b| logs[*b].total_cmp(&logs[*a]).then(a.cmp(b)));
    places.truncate(sampling.top_k.unwrap_or(places.len()).max(1));
    let heat = sampling.temperature.max(1e-6);
    let top = places.first().map_or(0.0, |place| logs[*place]);
    let mut shares: Vec<f64> = places.iter().map(|place| ((logs[*place] - top) / heat).exp()).collect();
    let all: f64 = shares.iter().sum();
    if let Some(top_p) = sampling.top_p {
        let mut sum = 0.0;
        let reached = |share: &f64| {
            sum += share / all;
            sum >= top_p
        };
        let kept = shares.iter().position(reached).map_or(shares.len(), |place| place + 1);
        shares.truncate(kept);
    }
    let mut left = random.r#gen::<f64>() * shares.iter().sum::<f64>();
    for (place, share) in places.iter().zip(&shares) {
        left -= share;
        if left < 0.0 {
            return *place;
        }
    }
    places[shares.len() - 1]
}
