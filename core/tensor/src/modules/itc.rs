//! Image-text contrastive loss: CLIP's (Radford et al., 2021), InternVL's stage 1; with several queries an image
//! BLIP-2's (Li et al., 2023, section 3.1).

use dfdx::prelude::HasShape;

use crate::{
    backend::Backend,
    element::Element,
    error::{TensorError, expect_size},
    module::{Forward, InputSize, Module, PerRecord, wrong_kind},
    parameter::{Init, ParameterSpec},
    tensor::{Matrix, Scalar, Seq, Vector, constant, gather_rows, reshape, to_vec},
    value::Value,
};

/// Contrastive loss with a learnt temperature. Inputs `text` `[B, C]` and `image`, `[B, C]` or queries `[B, Q, C]`, of
/// which the most similar one counts; all are normalised here. Optional inputs:
///
/// * `counts`: targets or a text; pairs without a target or with a blank text are in no mean, and still act as negatives,
/// * `identity`: targets; pairs of one identity are positives of each other, with equal shares.
///
/// Outputs `loss` and `logits` `[images, texts]`. With `logits` alone the two batches may differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Itc {
    /// Share of each target spread over all classes.
    pub label_smoothing: f64,
    /// What `logit_scale`, the logarithm of the scale, starts with.
    pub init_scale: f64,
    /// The scale itself never exceeds this, if set (CLIP: 100).
    pub max_scale: Option<f64>,
}

impl Default for Itc {
    fn default() -> Self {
        Self { label_smoothing: 0.0, init_scale: (1.0_f64 / 0.07).ln(), max_scale: None }
    }
}

/// The image side, normalised.
enum Image<B: Backend> {
    One(Vector<B>),
    Queries(Seq<B>),
}

impl<B: Backend> Image<B> {
    fn read(cx: &mut Forward<'_, B>) -> Result<Self, TensorError> {
        match cx.any("image")? {
            Value::Vector(image) => Ok(Self::One(cx.backend().normalize_rows(image)?)),
            Value::Sequence(queries) => {
                let shape @ (batch, count, width) = *queries.shape();
                let rows = reshape::<_, _, B>(queries, (batch * count, width))?;
                Ok(Self::Queries(reshape::<_, _, B>(cx.backend().normalize_rows(rows)?, shape)?))
            }
            other => Err(wrong_kind("image", "a vector or a sequence", &other)),
        }
    }

    /// `[images, width]`
    fn size(&self) -> (usize, usize) {
        match self {
            Self::One(image) => *image.shape(),
            Self::Queries(queries) => (queries.shape().0, queries.shape().2),
        }
    }

    /// Cosines `[images, texts]`.
    fn similarities(&self, backend: &B, text: &Vector<B>) -> Result<Matrix<B>, TensorError> {
        match self {
            Self::One(image) => backend.similarities(image.clone(), text.clone()),
            Self::Queries(queries) => most_similar(backend, queries, text),
        }
    }
}

/// For each image and text the cosine of the query that is most similar.
fn most_similar<B: Backend>(
    backend: &B,
    queries: &Seq<B>,
    text: &Vector<B>,
) -> Result<Matrix<B>, TensorError> {
    let (&(images, count, width), &(texts, _)) = (queries.shape(), text.shape());
    let rows = reshape::<_, _, B>(queries.clone(), (images * count, width))?;
    let all = backend.similarities(rows, text.clone())?;
    let values: Vec<f64> = to_vec::<_, B>(&all)?.into_iter().map(Element::wide).collect();
    let place = |image: usize, query: usize, text: usize| (image * count + query) * texts + text;
    let best = |image: usize, text: usize| {
        let value = |query: &usize| values[place(image, *query, text)];
        // The first of equals, as PyTorch's maximum on a processor.
        let best = (0..count).rev().max_by(|a, b| value(a).total_cmp(&value(b))).unwrap_or(0);
        place(image, best, text) as u32
    };
    let places: Vec<u32> =
        (0..images).flat_map(|image| (0..texts).map(move |text| best(image, text))).collect();
    pick(backend, all, &places, (images, texts))
}

/// Elements of a matrix by their place in it, as another matrix.
fn pick<B: Backend>(
    backend: &B,
    x: Matrix<B>,
    places: &[u32],
    shape: (usize, usize),
) -> Result<Matrix<B>, TensorError> {
    let len = x.shape().0 * x.shape().1;
    let column = reshape::<_, _, B>(x, (len, 1))?;
    reshape::<_, _, B>(gather_rows(backend, column, places)?, shape)
}

impl Itc {
    fn scale<B: Backend>(&self, cx: &Forward<'_, B>) -> Result<Scalar<B>, TensorError> {
        cx.backend().exp_limited(cx.scalar("logit_scale")?, self.max_scale)
    }

    fn logits<B: Backend>(
        &self,
        cx: &Forward<'_, B>,
        image: &Image<B>,
        text: &Vector<B>,
    ) -> Result<Matrix<B>, TensorError> {
        cx.backend().scale_by(image.similarities(cx.backend(), text)?, self.scale(cx)?)
    }

    fn loss<B: Backend>(
        &self,
        cx: &mut Forward<'_, B>,
        image: &Image<B>,
        text: Vector<B>,
    ) -> Result<Scalar<B>, TensorError> {
        let (pairs, _) = *text.shape();
        expect_size("texts, one for each image", image.size().0, pairs)?;
        let [counts, identity] = ["counts", "identity"].map(|port| cx.has(port).then(|| cx.targets(port)));
        let (counts, identity) = (counts.transpose()?, identity.transpose()?);
        if let (Image::One(image), None, None) = (image, &counts, &identity) {
            return cx.backend().contrastive(image.clone(), text, self.scale(cx)?, self.label_smoothing);
        }
        let logits = self.logits(cx, image, &text)?;
        let counts = counts.unwrap_or_else(|| vec![Some(0); pairs]);
        expect_size("rows that say which pairs count", pairs, counts.len())?;
        let own: Vec<Option<u32>> = (0..).zip(&counts).map(|(pair, counts)| counts.map(|_| pair)).collect();
        let across: Vec<u32> =
            (0..pairs * pairs).map(|at| (at % pairs * pairs + at / pairs) as u32).collect();
        let turned = pick(cx.backend(), logits.clone(), &across, (pairs, pairs))?;
        let rows = cx.backend().cross_entropy(logits.clone(), &own, self.label_smoothing)?;
        let columns = cx.backend().cross_entropy(turned, &own, self.label_smoothing)?;
        let mut parts = vec![(0.5, rows), (0.5, columns)];
        if let Some(identity) = identity {
            expect_size("identities, one for each pair", pairs, identity.len())?;
            let moved = moved_to_equals(&identity, &counts);
            let moved =
                constant(cx.backend(), moved.into_iter().map(B::Elem::of).collect(), (pairs * pairs,))?;
            let logits = reshape::<_, _, B>(logits, (pairs * pairs,))?;
            parts.push((-1.0 + self.label_smoothing, cx.backend().dot(logits, moved)?));
        }
        cx.backend().weighted_sum(&parts)
    }
}

/// What targets of equal identity add to the share of each logit, `[pairs, pairs]`: a target spread evenly over the pairs
/// of its identity, minus the pair itself, mean of both directions.
///
/// A cross-entropy with shares `p` in place of a class `t` differs from it by `logit_t - sum of p logit`.
fn moved_to_equals(identity: &[Option<u32>], counts: &[Option<u32>]) -> Vec<f64> {
    let pairs = identity.len();
    let alike = |a: usize, b: usize| a == b || identity[a].is_some() && identity[a] == identity[b];
    let counting = counts.iter().filter(|counts| counts.is_some()).count().max(1) as f64;
    let mut moved = vec![0.0; pairs * pairs];
    for row in (0..pairs).filter(|row| counts[*row].is_some()) {
        let equals: Vec<usize> = (0..pairs).filter(|other| alike(row, *other)).collect();
        for other in &equals {
            let share = 0.5 / counting / equals.len() as f64;
            moved[row * pairs + other] += share;
            moved[other * pairs + row] += share;
        }
        moved[row * pairs + row] -= 1.0 / counting;
    }
    moved
}

impl Module for Itc {
    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![ParameterSpec::new("logit_scale", [], Init::Constant(self.init_scale))]
    }

    fn macs(&self, _: InputSize) -> u64 {
        0
    }

    fn per_record(&self) -> PerRecord {
        PerRecord::Mixes
    }

    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError> {
        let (image, text) = (Image::read(cx)?, cx.vector("text")?);
        expect_size("width of the text vectors", image.size().1, text.shape().1)?;
        let text = cx.backend().normalize_rows(text)?;
        if cx.wants("logits") {
            let logits = self.logits(cx, &image, &text)?;
            cx.put("logits", Value::Logits(logits));
        }
        if cx.wants("loss") {
            let loss = self.loss(cx, &image, text)?;
            cx.put("loss", Value::Scalar(loss));
        }
        Ok(())
    }
}
