//! CIDEr (Vedantam et al., 2015) as the COCO caption tools compute it: CIDEr-D without clipping of repeated words, on texts
//! that are tokenised already.

use std::collections::{BTreeSet, HashMap};

/// Longest n-grams.
const ORDERS: usize = 4;

/// Of the penalty for another length, in words.
const SIGMA: f64 = 6.0;

/// N-grams of one length and how often each comes.
type Counts<'a> = HashMap<Vec<&'a str>, f64>;

/// A text's n-grams by length, and its number of bigrams.
struct Grams<'a> {
    orders: Vec<Counts<'a>>,
    bigrams: f64,
}

impl<'a> Grams<'a> {
    fn of(text: &'a str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        let count = |n: usize| {
            let mut counts = Counts::new();
            words.windows(n).for_each(|gram| *counts.entry(gram.to_vec()).or_default() += 1.0);
            counts
        };
        let orders: Vec<Counts<'a>> = (1..=ORDERS).map(count).collect();
        let bigrams = orders[1].values().sum();
        Self { orders, bigrams }
    }
}

/// The score of each candidate, 0 to 10, against its references; n-grams are weighed by how few of the images have them.
pub fn cider(candidates: &[String], references: &[Vec<String>]) -> Vec<f64> {
    let references: Vec<Vec<Grams<'_>>> =
        references.iter().map(|texts| texts.iter().map(|text| Grams::of(text)).collect()).collect();
    let mut images: Vec<HashMap<&[&str], f64>> = vec![HashMap::new(); ORDERS];
    for texts in &references {
        for (n, images) in images.iter_mut().enumerate() {
            let seen: BTreeSet<&[&str]> =
                texts.iter().flat_map(|text| text.orders[n].keys().map(Vec::as_slice)).collect();
            seen.into_iter().for_each(|gram| *images.entry(gram).or_default() += 1.0);
        }
    }
    let total = (references.len() as f64).ln();
    let weight = |n: usize, gram: &[&str]| total - images[n].get(gram).copied().unwrap_or(0.0).max(1.0).ln();
    let one = |(candidate, texts): (&String, &Vec<Grams<'_>>)| {
        let candidate = Grams::of(candidate);
        let against = |text: &Grams<'_>| {
            let penalty = (-(candidate.bigrams - text.bigrams).powi(2) / (2.0 * SIGMA * SIGMA)).exp();
            let orders = (0..ORDERS)
                .map(|n| similarity(&candidate.orders[n], &text.orders[n], |gram| weight(n, gram)));
            penalty * orders.sum::<f64>() / ORDERS as f64
        };
        10.0 * texts.iter().map(against).sum::<f64>() / texts.len().max(1) as f64
    };
    candidates.iter().zip(&references).map(one).collect()
}

/// `sum of min(h, r) r / (|h| |r|)` over the candidate's n-grams, `h` and `r` being weighted counts.
fn similarity(candidate: &Counts<'_>, reference: &Counts<'_>, weight: impl Fn(&[&str]) -> f64) -> f64 {
    let norm = |counts: &Counts<'_>| {
        sum_in_order(counts.iter().map(|(gram, count)| (count * weight(gram)).powi(2))).sqrt()
    };
    let products = candidate.iter().filter_map(|(gram, count)| {
        let weight = weight(gram);
        let (h, r) = (count * weight, reference.get(gram)? * weight);
        Some(h.min(r) * r)
    });
    let norms = norm(candidate) * norm(reference);
    if norms == 0.0 { 0.0 } else { sum_in_order(products) / norms }
}

/// The same sum whatever the order, which a map does not have.
fn sum_in_order(terms: impl Iterator<Item = f64>) -> f64 {
    let mut terms: Vec<f64> = terms.collect();
    terms.sort_by(f64::total_cmp);
    terms.into_iter().sum()
}

/// Words as the tools see them, nearly: lower case, without punctuation.
pub fn tokenised(text: &str) -> String {
    let letters: String =
        text.to_lowercase().chars().map(|c| if c.is_alphanumeric() || c == '\'' { c } else { ' ' }).collect();
    letters.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Fixture {
        references: Vec<Vec<String>>,
        candidates: Vec<String>,
        expected: Expected,
    }

    #[derive(serde::Deserialize)]
    struct Expected {
        #[serde(rename = "CIDEr")]
        mean: f64,
        #[serde(rename = "CIDEr_per_image")]
        images: Vec<f64>,
    }

    /// From the COCO caption tools, on the texts of the official InternVL evaluation's fixture.
    #[test]
    fn scores_of_the_coco_tools() {
        let fixture: Fixture =
            serde_json::from_str(include_str!("fixtures/captions.json")).expect("the fixture is whole");
        let scores = cider(&fixture.candidates, &fixture.references);
        for (found, expected) in scores.iter().zip(&fixture.expected.images) {
            assert!((found - expected).abs() < 1e-5, "{scores:?} {:?}", fixture.expected.images);
        }
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        assert!((mean - fixture.expected.mean).abs() < 1e-6, "{mean}");
    }

    #[test]
    fn words_without_punctuation() {
        assert_eq!(tokenised("An emoji: Cat's  FACE (red)."), "an emoji cat's face red");
    }
}
