//! Pairs of images and texts for matching: which of a batch's own pairs, and which false ones.

use dfdx::prelude::HasShape;
use rand::Rng;

use crate::{
    backend::Backend,
    element::Element,
    error::{TensorError, expect_size},
    module::{Forward, InputSize, Module, PerRecord},
    parameter::ParameterSpec,
    tensor::{Matrix, constant, gather_rows, reshape, to_vec},
    value::{Tokens, Value},
};

/// How false pairs are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairScheme {
    /// InternVL's released code: of `B` images the last `floor(B / 2)` keep their text, the others get a false one, at
    /// random or from the input `negative`.
    Half,
    /// BLIP-2: all `B` pairs, then a false image for each text, then a false text for each image, drawn in proportion to
    /// the softmax of the input `similarity`. `3 B` pairs.
    Hard,
    /// InternVL's retrieval fine-tuning: a false text for each image, then all `B` pairs. `2 B` pairs.
    Both,
}

/// Pairs for a matching loss. Inputs `vision` `[B, N, D]`, `text` (`[B, T]`); `negative` (`[B, T]`, a false text for each
/// image), `similarity` (`[B, B]`, images by texts, for hard negatives) and `identity` (targets; pairs of one identity are
/// never false) are optional. Outputs
///
/// * `vision` `[P, N, D]` and `text` `[P, T]`, pair by pair,
/// * `targets` `[P]`: 1 where they belong together, 0 where not, none for blank texts,
/// * `text_odds`, `image_odds` `[B, B]`: with hard negatives, how likely each text is to become the false one of each
///   image, and the other way round.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    /// How false pairs are made.
    pub scheme: PairScheme,
}

/// What is paired: records of images, records of texts, whether they belong together.
type Chosen = Vec<(usize, Text, bool)>;

/// Where a text comes from.
#[derive(Clone, Copy)]
enum Text {
    /// The text of a record.
    Own(usize),
    /// The false text that was given for a record.
    Given(usize),
}

impl Module for Pairs {
    fn parameters(&self) -> Vec<ParameterSpec> {
        Vec::new()
    }

    fn macs(&self, _: InputSize) -> u64 {
        0
    }

    fn per_record(&self) -> PerRecord {
        PerRecord::Mixes
    }

    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError> {
        let (vision, text) = (cx.sequence("vision")?, cx.tokens("text")?);
        let shape @ (batch, len, width) = *vision.shape();
        expect_size("texts, one for each image", batch, text.batch)?;
        let given = if cx.has("negative") { Some(cx.tokens("negative")?) } else { None };
        if let Some(given) = &given {
            expect_size("false texts, one for each image", batch, given.batch)?;
        }
        let chosen = self.choose(cx, batch, given.is_some())?;
        let images: Vec<usize> = chosen.iter().map(|(image, ..)| *image).collect();
        let vision = match images.iter().copied().eq(0..batch) {
            true => vision,
            false => {
                let rows = reshape::<_, _, B>(vision, (shape.0 * len, width))?;
                let places: Vec<u32> = images
                    .iter()
                    .flat_map(|image| (0..len).map(move |row| (image * len + row) as u32))
                    .collect();
                reshape::<_, _, B>(gather_rows(cx.backend(), rows, &places)?, (images.len(), len, width))?
            }
        };
        cx.put("vision", Value::Sequence(vision));
        let text = assemble(&text, given.as_ref(), &chosen);
        let blank = text.blank();
        let targets = chosen.iter().zip(blank).map(|((.., own), blank)| (!blank).then_some(u32::from(*own)));
        cx.put("targets", Value::Targets(targets.collect()));
        cx.put("text", Value::Text(text));
        Ok(())
    }
}

impl Pairs {
    fn choose<B: Backend>(
        &self,
        cx: &mut Forward<'_, B>,
        batch: usize,
        given: bool,
    ) -> Result<Chosen, TensorError> {
        let mut rng = cx.random("pairs");
        let identity = if cx.has("identity") { cx.targets("identity")? } else { vec![None; batch] };
        expect_size("identities, one for each pair", batch, identity.len())?;
        let alike = |a: usize, b: usize| a == b || identity[a].is_some() && identity[a] == identity[b];
        let mut other = |record: usize| {
            let others: Vec<usize> = (0..batch).filter(|other| !alike(record, *other)).collect();
            match others.len() {
                0 => Err(no_other(record)),
                count => Ok(others[rng.gen_range(0..count)]),
            }
        };
        let mut falsely = |image: usize| match given {
            true => Ok::<_, TensorError>((image, Text::Given(image), false)),
            false => Ok((image, Text::Own(other(image)?), false)),
        };
        let truly = |record: usize| (record, Text::Own(record), true);
        match self.scheme {
            PairScheme::Half => {
                let kept = batch / 2;
                let pair = |image| if image < batch - kept { falsely(image) } else { Ok(truly(image)) };
                (0..batch).map(pair).collect()
            }
            PairScheme::Both => {
                (0..batch).map(falsely).chain((0..batch).map(|record| Ok(truly(record)))).collect()
            }
            PairScheme::Hard => {
                let [texts, images] = odds(cx, batch, alike)?;
                let mut rng = cx.random("pairs");
                let mut other = |(record, odds): (usize, &Vec<f64>)| {
                    draw(odds, &mut rng).ok_or_else(|| no_other(record)).map(|other| (record, other))
                };
                let images = images.iter().enumerate().map(&mut other).collect::<Result<Vec<_>, _>>()?;
                let texts = texts.iter().enumerate().map(&mut other).collect::<Result<Vec<_>, _>>()?;
                let images = images.into_iter().map(|(text, image)| (image, Text::Own(text), false));
                let texts = texts.into_iter().map(|(image, text)| (image, Text::Own(text), false));
                Ok((0..batch).map(truly).chain(images).chain(texts).collect())
            }
        }
    }
}

fn no_other(record: usize) -> TensorError {
    TensorError::shape(
        "pairs of another identity in the batch",
        "at least 1",
        format!("none beside pair {record}"),
    )
}

/// For each record how likely each other one is drawn.
type Odds = Vec<Vec<f64>>;

/// Odds of each text for each image, and of each image for each text; writes the outputs of these names.
fn odds<B: Backend>(
    cx: &mut Forward<'_, B>,
    batch: usize,
    alike: impl Fn(usize, usize) -> bool,
) -> Result<[Odds; 2], TensorError> {
    let similarity = cx.logits("similarity")?;
    expect_size("similarities of images", batch, similarity.shape().0)?;
    expect_size("similarities of texts", batch, similarity.shape().1)?;
    let values: Vec<f64> = to_vec::<_, B>(&similarity)?.into_iter().map(Element::wide).collect();
    let of = |record: usize, score: &dyn Fn(usize) -> f64| {
        let scores: Vec<f64> = (0..batch)
            .map(|other| if alike(record, other) { f64::NEG_INFINITY } else { score(other) })
            .collect();
        softmax(&scores)
    };
    let texts: Odds = (0..batch).map(|i| of(i, &|t| values[i * batch + t])).collect();
    let images: Odds = (0..batch).map(|t| of(t, &|i| values[i * batch + t])).collect();
    for (port, odds) in [("text_odds", &texts), ("image_odds", &images)] {
        let data = odds.iter().flatten().map(|odds| B::Elem::of(*odds)).collect();
        let odds: Matrix<B> = constant(cx.backend(), data, (batch, batch))?;
        cx.put(port, Value::Logits(odds));
    }
    Ok([texts, images])
}

/// All zero where nothing has a chance.
fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return vec![0.0; scores.len()];
    }
    let exp: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|x| x / sum).collect()
}

/// A place, in proportion to its odds; none if all are zero.
fn draw(odds: &[f64], rng: &mut impl Rng) -> Option<usize> {
    let mut left: f64 = rng.r#gen::<f64>() * odds.iter().sum::<f64>();
    let mut possible = odds.iter().enumerate().filter(|(_, odds)| **odds > 0.0).peekable();
    while let Some((place, odds)) = possible.next() {
        left -= odds;
        if left < 0.0 || possible.peek().is_none() {
            return Some(place);
        }
    }
    None
}

/// The texts of the pairs in one batch.
fn assemble(text: &Tokens, given: Option<&Tokens>, chosen: &Chosen) -> Tokens {
    // All own texts, then all given ones, so that a row of either has a place.
    let all = given.map_or_else(|| text.clone(), |given| text.followed_by(given));
    let rows: Vec<usize> = chosen
        .iter()
        .map(|(_, from, _)| match from {
            Text::Own(record) => *record,
            Text::Given(record) => text.batch + record,
        })
        .collect();
    all.select(&rows)
}
