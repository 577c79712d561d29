//! One pass through a decoder's layers, and which rows each of them computes.

use std::sync::Arc;

use dfdx::prelude::{HasShape, Merge};

use super::{
    cache::{KvCache, attend},
    decoder::Decoder,
    layout::Layout,
    lora::Pairs,
    outputs::rows_read,
};
use crate::{
    backend::{Backend, CrossAttention, LlamaAttention, LlamaMlp, Weights},
    checkpoint::checkpoint,
    element::Element,
    error::{TensorError, expect_size},
    mask::Mask,
    module::{Forward, Mode, PerRecord},
    tape::Tape,
    tensor::{Matrix, Seq, constant, gather_rows, reshape, scatter_rows},
    value::{Tokens, Value},
};

/// The states of a batch of sequences after the final norm.
pub struct States<B: Backend> {
    /// `[B N, C]`, or those of `places`.
    rows: Matrix<B>,
    /// The rows of `[B N, C]` that there are, in order; none for all.
    places: Option<Arc<[u32]>>,
    /// Where what lies.
    pub layout: Layout,
}

impl<B: Backend> States<B> {
    /// Some rows of `[B N, C]`.
    ///
    /// # Errors
    /// [`TensorError::Shape`] for a row that [`rows_read`] did not name.
    pub fn pick(&self, backend: &B, places: &[u32]) -> Result<Matrix<B>, TensorError> {
        let all = match &self.places {
            Some(known) => **known == *places,
            None => places.iter().copied().eq(0..self.rows.shape().0 as u32),
        };
        if all {
            return Ok(self.rows.clone());
        }
        let Some(known) = &self.places else { return gather_rows(backend, self.rows.clone(), places) };
        let place = |row: &u32| match known.binary_search(row) {
            Ok(place) => Ok(place as u32),
            Err(_) => Err(TensorError::shape("a row that was computed", "one that outputs read", row)),
        };
        gather_rows(backend, self.rows.clone(), &places.iter().map(place).collect::<Result<Vec<_>, _>>()?)
    }
}

/// Queries, what they look at, and how.
pub struct Looking<'a, B: Backend> {
    /// `[Q, C]`, the same for every sequence.
    pub queries: Matrix<B>,
    /// Visual features `[B, M, D]`.
    pub vision: Seq<B>,
    /// Weights of the cross-attention of a layer, if it has one.
    pub layer: &'a CrossOf<'a, B>,
}

type CrossOf<'a, B> = dyn Fn(&Forward<'_, B>, usize) -> Result<Option<CrossAttention<B>>, TensorError> + 'a;

/// A pass, before it runs.
pub struct Stack<'a, B: Backend> {
    decoder: &'a Decoder,
    layout: Layout,
    inserted: Vec<(u32, Seq<B>)>,
}

/// What all layers of a pass have in common.
#[derive(Clone)]
struct Shape {
    positions: Arc<[u32]>,
    mask: Mask,
    /// Places of the queries in `[B N, C]`.
    queries: Arc<[u32]>,
}

impl Shape {
    /// One layer, `[B, N, C]` or what [`Rows`] leaves of it: self-attention, cross-attention of the queries, perceptron.
    fn run<B: Backend>(
        &self,
        backend: &B,
        x: Seq<B>,
        layer: Layer<B>,
        kept: Option<(&mut KvCache<B>, usize)>,
    ) -> Result<Seq<B>, TensorError> {
        let x = match kept.is_some() || layer.pairs.in_attention() {
            true => {
                let weights = (layer.attention, &layer.pairs);
                attend(backend, x, weights, &self.positions, &self.mask, kept)?
            }
            false => backend.llama_attention(x, layer.attention, &self.positions, &self.mask)?,
        };
        let x = match layer.cross {
            Some((cross, vision)) => look(backend, x, vision, cross, &self.queries)?,
            None => x,
        };
        perceptron(backend, x, (layer.mlp, &layer.pairs), &layer.rows)
    }
}

/// Which rows of a batch `[B N, C]` a perceptron computes.
#[derive(Clone)]
enum Rows {
    All,
    /// These, in order; the others become zero, for nobody sees them.
    Seen(Arc<[u32]>),
    /// These are all that is left, `[1, rows, C]`.
    Left(Arc<[u32]>),
}

impl Rows {
    /// Those of all layers but the last, and those of the last. All where LoRA drops elements out: what is drawn goes by the row.
    fn of_layers<B: Backend>(
        cx: &Forward<'_, B>,
        decoder: &Decoder,
        layout: &Layout,
        tokens: Option<&Tokens>,
    ) -> Result<[Self; 2], TensorError> {
        let draws = cx.mode() == Mode::Train && decoder.per_record() == PerRecord::Draws;
        // Moving the others costs something, too.
        let pays = |rows: &[u32]| {
            !draws && cx.backend().gains_by_fewer_rows() && 8 * rows.len() <= 7 * layout.batch * layout.len()
        };
        let Some(read) = rows_read(cx, layout, tokens)? else { return Ok([Self::All, Self::All]) };
        let (seen, left) = (layout.real_and(&read), read);
        Ok([
            if pays(&seen) { Self::Seen(seen.into()) } else { Self::All },
            if pays(&left) { Self::Left(left.into()) } else { Self::All },
        ])
    }
}

/// The perceptron branch of a layer, `[B, N, C]`, of some of the rows.
fn perceptron<B: Backend>(
    backend: &B,
    x: Seq<B>,
    (w, pairs): (LlamaMlp<B>, &Pairs<B>),
    rows: &Rows,
) -> Result<Seq<B>, TensorError> {
    let shape @ (batch, len, width) = *x.shape();
    let (Rows::Seen(places) | Rows::Left(places)) = rows else { return pairs.mlp(backend, x, w) };
    let some = gather_rows(backend, reshape::<_, _, B>(x, (batch * len, width))?, places)?;
    let some = pairs.mlp(backend, reshape::<_, _, B>(some, (1, places.len(), width))?, w)?;
    if let Rows::Left(_) = rows {
        return Ok(some);
    }
    let some = reshape::<_, _, B>(some, (places.len(), width))?;
    let zeros = vec![B::Elem::of(0.0); batch * len * width];
    let zeros: Matrix<B> = constant(backend, zeros, (batch * len, width))?;
    reshape::<_, _, B>(scatter_rows(backend, zeros, some, places)?, shape)
}

/// The weights of one layer, and the visual features that its queries look at.
struct Layer<B: Backend> {
    attention: LlamaAttention<B>,
    cross: Option<(CrossAttention<B>, Seq<B>)>,
    mlp: LlamaMlp<B>,
    pairs: Pairs<B>,
    /// Those of the perceptron.
    rows: Rows,
}

impl<B: Backend> Weights<B> for Layer<B> {
    fn with_tape(&self, tape: &Tape<B>) -> Self {
        let cross = self.cross.as_ref().map(|(cross, seen)| (cross.with_tape(tape), seen.with_tape(tape)));
        let (attention, mlp) = (self.attention.with_tape(tape), self.mlp.with_tape(tape));
        Self { attention, cross, mlp, pairs: self.pairs.with_tape(tape), rows: self.rows.clone() }
    }

    fn tape(&self) -> Tape<B> {
        let cross = self.cross.as_ref().map_or(Tape::off(), |(cross, seen)| cross.tape().merge(seen.tape()));
        self.attention.tape().merge(cross).merge(self.mlp.tape()).merge(self.pairs.tape())
    }
}

impl<'a, B: Backend> Stack<'a, B> {
    /// A pass of sequences that lie like this.
    pub fn new(decoder: &'a Decoder, layout: Layout) -> Self {
        Self { decoder, layout, inserted: Vec::new() }
    }

    /// The tokens with this id stand for the rows of a sequence, in order.
    pub fn insert(&mut self, id: u32, rows: Seq<B>) {
        self.inserted.push((id, rows));
    }

    /// Runs all layers.
    ///
    /// # Errors
    /// [`TensorError::Shape`] if the sequence is too long or the parts do not fit.
    pub fn run(
        self,
        cx: &mut Forward<'_, B>,
        tokens: Option<&Tokens>,
        looking: Option<Looking<'_, B>>,
    ) -> Result<States<B>, TensorError> {
        let Layout { batch, .. } = self.layout;
        let len = self.layout.len();
        self.decoder.check_length(len)?;
        let mut rows = self.embed(cx, tokens, looking.as_ref().map(|looking| &looking.queries))?;
        let shape = Shape {
            positions: (0..len as u32).collect(),
            mask: self.layout.mask(),
            queries: self.layout.places_of_queries().into(),
        };
        let [seen, left] = Rows::of_layers(cx, self.decoder, &self.layout, tokens)?;
        let mut cache = cx.wants("cache").then(|| KvCache::begin(batch, self.layout.seen()));
        for index in 0..self.decoder.depth {
            self.put_states(cx, index, &rows)?;
            let cross = match &looking {
                Some(looking) => (looking.layer)(cx, index)?.map(|cross| (cross, looking.vision.clone())),
                None => None,
            };
            let pairs = self.decoder.layer_pairs(cx, index)?;
            let layer = Layer {
                attention: self.decoder.attention(cx, index)?,
                cross,
                mlp: self.decoder.mlp(cx, index)?,
                pairs,
                rows: if index + 1 < self.decoder.depth { seen.clone() } else { left.clone() },
            };
            let x = reshape::<_, _, B>(rows, (batch, len, self.decoder.width))?;
            let x = match &mut cache {
                // What is kept is kept for inference, which records nothing.
                Some(cache) => shape.run(cx.backend(), x, layer, Some((cache, index)))?,
                None if self.decoder.checkpoint => {
                    let shape = shape.clone();
                    let block = move |backend: &B, x, layer| shape.run(backend, x, layer, None);
                    checkpoint(cx.backend(), x, layer, block)?
                }
                None => shape.run(cx.backend(), x, layer, None)?,
            };
            let &(batch, len, width) = x.shape();
            rows = reshape::<_, _, B>(x, (batch * len, width))?;
        }
        if let Some(cache) = cache {
            cx.put("cache", Value::Cache(cache));
        }
        let rows = self.decoder.finish(cx, rows)?;
        self.put_states(cx, self.decoder.depth, &rows)?;
        let places = match left {
            Rows::Left(places) if self.decoder.depth > 0 => Some(places),
            _ => None,
        };
        Ok(States { rows, places, layout: self.layout })
    }

    /// Reads one more token of each sequence, whose beginnings the input `cache` holds; writes the output `cache`.
    ///
    /// # Errors
    /// [`TensorError::Shape`] if there is more than one token each, or no room for it.
    pub fn further(
        decoder: &Decoder,
        cx: &mut Forward<'_, B>,
        tokens: &Tokens,
    ) -> Result<States<B>, TensorError> {
        let mut cache = cx.cache("cache")?;
        let batch = cache.batch();
        expect_size("texts, one for each sequence", batch, tokens.batch)?;
        expect_size("tokens that follow a cache", 1, tokens.len)?;
        decoder.check_length(cache.len() + 1)?;
        let positions = cache.positions();
        cache.grow();
        let mask = cache.mask();
        let rows = decoder.embed(cx, &tokens.ids)?;
        let mut x = reshape::<_, _, B>(rows, (batch, 1, decoder.width))?;
        for index in 0..decoder.depth {
            let (attention, pairs) = (decoder.attention(cx, index)?, decoder.layer_pairs(cx, index)?);
            x = attend(cx.backend(), x, (attention, &pairs), &positions, &mask, Some((&mut cache, index)))?;
            x = pairs.mlp(cx.backend(), x, decoder.mlp(cx, index)?)?;
        }
        cx.put("cache", Value::Cache(cache));
        let rows = decoder.finish(cx, reshape::<_, _, B>(x, (batch, decoder.width))?)?;
        Ok(States { rows, places: None, layout: Layout::text(tokens) })
    }

    /// Output `states.i`: the whole sequences before layer `i`, the last ones after the final norm. Who wants one gets every row.
    fn put_states(&self, cx: &mut Forward<'_, B>, index: usize, rows: &Matrix<B>) -> Result<(), TensorError> {
        let port = format!("states.{index}");
        if cx.wants(&port) {
            let shape = (self.layout.batch, self.layout.len(), self.decoder.width);
            let states = reshape::<_, _, B>(rows.clone(), shape)?;
            cx.put(&port, Value::Sequence(states));
        }
        Ok(())
    }

    /// The input of the first layer, `[B N, C]`: queries, embeddings of tokens, and what stands for tokens.
    fn embed(
        &self,
        cx: &Forward<'_, B>,
        tokens: Option<&Tokens>,
        queries: Option<&Matrix<B>>,
    ) -> Result<Matrix<B>, TensorError> {
        let Layout { batch, queries: count, .. } = self.layout;
        let places = self.layout.places_of_text();
        let mut parts: Vec<(Matrix<B>, Vec<u32>)> = Vec::new();
        if let Some(queries) = queries {
            let ids: Vec<u32> = (0..batch).flat_map(|_| 0..count as u32).collect();
            let rows = gather_rows(cx.backend(), queries.clone(), &ids)?;
            parts.push((rows, self.layout.places_of_queries()));
        }
        if let Some(tokens) = tokens {
            expect_size("texts, one for each sequence", batch, tokens.batch)?;
            let inserted = |id: u32| self.inserted.iter().any(|(known, _)| *known == id);
            let own: Vec<usize> =
                (0..tokens.ids.len()).filter(|&place| !inserted(tokens.ids[place])).collect();
            let ids: Vec<u32> = own.iter().map(|&place| tokens.ids[place]).collect();
            if !ids.is_empty() {
                let rows = self.decoder.embed(cx, &ids)?;
                parts.push((rows, own.iter().map(|&place| places[place]).collect()));
            }
            for (id, rows) in &self.inserted {
                parts.push(self.stand_in(tokens, *id, rows, &places)?);
            }
        }
        let whole = batch * self.layout.len();
        if let [(rows, _)] = parts.as_slice()
            && rows.shape().0 == whole
        {
            return Ok(rows.clone());
        }
        let zeros = vec![B::Elem::of(0.0); whole * self.decoder.width];
        let zeros: Matrix<B> = constant(cx.backend(), zeros, (whole, self.decoder.width))?;
        let join =
            |sum, (rows, places): (Matrix<B>, Vec<u32>)| scatter_rows(cx.backend(), sum, rows, &places);
        parts.into_iter().try_fold(zeros, join)
    }

    /// Rows that stand for the tokens `id`, and their places. There are as many of one as of the other.
    fn stand_in(
        &self,
        tokens: &Tokens,
        id: u32,
        rows: &Seq<B>,
        places: &[u32],
    ) -> Result<(Matrix<B>, Vec<u32>), TensorError> {
        let &(batch, len, width) = rows.shape();
        expect_size("width of rows that stand for tokens", self.decoder.width, width)?;
        let here = tokens.ids.iter().zip(places).filter(|(known, _)| **known == id);
        let here: Vec<u32> = here.map(|(_, place)| *place).collect();
        expect_size(&format!("rows that stand for tokens {id}, one for each"), here.len(), batch * len)?;
        Ok((reshape::<_, _, B>(rows.clone(), (batch * len, width))?, here))
    }
}

/// Cross-attention for the queries, which lie at `places` of `[B N, C]`.
fn look<B: Backend>(
    backend: &B,
    x: Seq<B>,
    vision: Seq<B>,
    cross: CrossAttention<B>,
    places: &[u32],
) -> Result<Seq<B>, TensorError> {
    let shape @ (batch, len, width) = *x.shape();
    if places.len() == batch * len {
        let change = backend.cross_attention(x.clone(), vision, cross)?;
        return backend.residual(x, change, None, None);
    }
    let rows = reshape::<_, _, B>(x, (batch * len, width))?;
    let asking = gather_rows(backend, rows.clone(), places)?;
    let asking = reshape::<_, _, B>(asking, (batch, places.len() / batch, width))?;
    let change = backend.cross_attention(asking, vision, cross)?;
    let change = reshape::<_, _, B>(change, (places.len(), width))?;
    reshape::<_, _, B>(scatter_rows(backend, rows, change, places)?, shape)
}
