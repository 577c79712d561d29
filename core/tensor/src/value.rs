//! What travels on the edges of a model graph.

use dfdx::prelude::{HasShape, PutTape};

use crate::{
    backend::Backend,
    element::Element,
    error::{TensorError, expect_size},
    module::wrong_kind,
    modules::KvCache,
    tape::Tape,
    tensor::{Image, Map, Matrix, Scalar, Seq, Vector, detach, plain, to_vec},
};

/// Token ids of a batch of texts, on the host. Id 0 is padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// `[B, T]`, row-major, right-padded.
    pub ids: Vec<u32>,
    /// Number of texts `B`.
    pub batch: usize,
    /// Padded length `T`.
    pub len: usize,
    /// `[B, T]`, true where a token is real; where absent, a token is real if its id is not 0.
    pub mask: Option<Vec<bool>>,
    /// `[B, T]`, true where a token counts in the loss of a language model (others have label -100); where absent, all
    /// real ones do. The first token of a text is never predicted.
    pub learn: Option<Vec<bool>>,
    /// Which record each text belongs to, where there may be several of one; where absent, text `i` belongs to record `i`,
    /// or all to the only record.
    pub of: Option<Vec<u32>>,
    /// How many tokens an empty text has: begin, prefix, end. A text without more is blank.
    pub frame: usize,
}

impl Tokens {
    /// `ids` `[B, T]`; those that are not 0 are real.
    ///
    /// # Errors
    /// [`TensorError::Shape`] if the numbers do not fit.
    pub fn new(ids: Vec<u32>, batch: usize, len: usize) -> Result<Self, TensorError> {
        let tokens = Self { ids, batch, len, mask: None, learn: None, of: None, frame: 0 };
        tokens.check().map(|()| tokens)
    }

    /// Texts of different lengths, padded with 0 to the longest.
    pub fn pad(texts: &[Vec<u32>]) -> Self {
        let len = texts.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let padded = |text: &Vec<u32>| {
            let padding = len - text.len();
            text.iter().copied().chain(std::iter::repeat_n(0, padding)).collect::<Vec<_>>()
        };
        let ids = texts.iter().flat_map(padded).collect();
        Self { ids, batch: texts.len(), len, mask: None, learn: None, of: None, frame: 0 }
    }

    /// What a language model has to predict: for each token that counts, the place `[B T]` of the one before it, and
    /// its id.
    pub fn predictions(&self) -> impl Iterator<Item = (usize, u32)> {
        let learn = self.learn.clone().unwrap_or_else(|| self.real());
        let places = (1..self.ids.len()).filter(move |place| place % self.len != 0 && learn[*place]);
        places.map(|place| (place - 1, self.ids[place]))
    }

    /// Which texts have no words of their own, by record.
    pub fn blank(&self) -> Vec<bool> {
        let real = self.real();
        let count = |row: &[bool]| row.iter().filter(|real| **real).count();
        real.chunks(self.len.max(1)).map(|row| count(row) <= self.frame).collect()
    }

    /// These texts, then others, padded to the longest. All real tokens count in a loss.
    #[must_use]
    pub fn followed_by(&self, other: &Self) -> Self {
        fn padded<T: Copy>(rows: &[T], len: usize, to: usize, with: T) -> Vec<T> {
            let padding = std::iter::repeat_n(with, to - len);
            rows.chunks(len.max(1)).flat_map(|row| row.iter().copied().chain(padding.clone())).collect()
        }
        let len = self.len.max(other.len);
        let ids = [self, other].map(|part| padded(&part.ids, part.len, len, 0)).concat();
        let mask = [self, other].map(|part| padded(&part.real(), part.len, len, false)).concat();
        let batch = self.batch + other.batch;
        Self { ids, batch, len, mask: Some(mask), learn: None, of: None, frame: self.frame }
    }

    /// The texts of some records, in this order; a record may come more than once.
    pub fn select(&self, records: &[usize]) -> Self {
        fn rows<T: Copy>(all: &[T], len: usize, records: &[usize]) -> Vec<T> {
            records.iter().flat_map(|record| all[record * len..][..len].iter().copied()).collect()
        }
        Self {
            ids: rows(&self.ids, self.len, records),
            batch: records.len(),
            len: self.len,
            mask: self.mask.as_ref().map(|mask| rows(mask, self.len, records)),
            learn: self.learn.as_ref().map(|learn| rows(learn, self.len, records)),
            of: self.of.as_ref().map(|of| records.iter().map(|record| of[*record]).collect()),
            frame: self.frame,
        }
    }

    /// Which tokens are real, `[B, T]`.
    pub fn real(&self) -> Vec<bool> {
        self.mask.clone().unwrap_or_else(|| self.ids.iter().map(|&id| id != 0).collect())
    }

    /// Checks that ids and mask have `batch * len` entries.
    ///
    /// # Errors
    /// [`TensorError::Shape`] if not.
    pub fn check(&self) -> Result<(), TensorError> {
        expect_size("token ids", self.batch * self.len, self.ids.len())?;
        if let Some(of) = &self.of {
            expect_size("records of texts", self.batch, of.len())?;
        }
        for (what, marks) in [("elements of the token mask", &self.mask), ("labels", &self.learn)] {
            if let Some(marks) = marks {
                expect_size(what, self.ids.len(), marks.len())?;
            }
        }
        Ok(())
    }
}

/// A tensor's shape and elements on the host, always in `f32`.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Sizes of the dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub data: Vec<f32>,
}

/// One value on an edge.
#[derive(Debug, Clone)]
pub enum Value<B: Backend> {
    /// Images, `[B, 3, H, W]`.
    Image(Image<B>),
    /// Token ids, `[B, T]`.
    Text(Tokens),
    /// Sequences, `[B, N, C]`.
    Sequence(Seq<B>),
    /// Vectors, `[B, C]`.
    Vector(Vector<B>),
    /// Feature maps, `[B, C, H, W]`.
    Map(Map<B>),
    /// Scores, `[rows, classes]`.
    Logits(Matrix<B>),
    /// A number, mostly a loss.
    Scalar(Scalar<B>),
    /// What a decoder has read.
    Cache(KvCache<B>),
    /// A class for each row, on the host; none where the row does not count.
    Targets(Vec<Option<u32>>),
}

/// The kind of a [`Value`], for reading one from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// [`Value::Image`]
    Image,
    /// [`Value::Sequence`]
    Sequence,
    /// [`Value::Vector`]
    Vector,
    /// [`Value::Map`]
    Map,
    /// [`Value::Logits`]
    Logits,
    /// [`Value::Scalar`]
    Scalar,
}

impl<B: Backend> Value<B> {
    /// The kind in words, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Image(_) => "an image",
            Self::Text(_) => "a text",
            Self::Sequence(_) => "a sequence",
            Self::Vector(_) => "a vector",
            Self::Map(_) => "a map",
            Self::Logits(_) => "logits",
            Self::Scalar(_) => "a scalar",
            Self::Targets(_) => "targets",
            Self::Cache(_) => "what a decoder has read",
        }
    }

    /// Sizes of the dimensions, outermost first.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Image(t) | Self::Map(t) => {
                let &(b, c, h, w) = t.shape();
                vec![b, c, h, w]
            }
            Self::Sequence(t) => {
                let &(b, n, c) = t.shape();
                vec![b, n, c]
            }
            Self::Vector(t) | Self::Logits(t) => {
                let &(b, c) = t.shape();
                vec![b, c]
            }
            Self::Text(tokens) => vec![tokens.batch, tokens.len],
            Self::Scalar(_) => Vec::new(),
            Self::Targets(targets) => vec![targets.len()],
            Self::Cache(cache) => vec![cache.batch(), cache.len()],
        }
    }

    /// Copies the value to the host. Token ids and targets become numbers, -100 for none.
    ///
    /// # Errors
    /// [`TensorError::Device`] if the device fails, [`TensorError::WrongKind`] for what a decoder has read.
    pub fn to_host(&self) -> Result<HostTensor, TensorError> {
        let narrow = |data: Vec<B::Elem>| data.into_iter().map(|x| x.wide() as f32).collect();
        let data = match self {
            Self::Image(t) | Self::Map(t) => narrow(to_vec::<_, B>(t)?),
            Self::Sequence(t) => narrow(to_vec::<_, B>(t)?),
            Self::Vector(t) | Self::Logits(t) => narrow(to_vec::<_, B>(t)?),
            Self::Scalar(t) => narrow(to_vec::<_, B>(t)?),
            Self::Text(tokens) => tokens.ids.iter().map(|&id| id as f32).collect(),
            Self::Cache(_) => return Err(wrong_kind("host", "a tensor", self)),
            Self::Targets(targets) => {
                targets.iter().map(|target| target.map_or(-100.0, |id| id as f32)).collect()
            }
        };
        Ok(HostTensor { shape: self.shape(), data })
    }

    /// A value from host data. On a tape that is on, `backward_with` can give its gradient.
    ///
    /// # Errors
    /// [`TensorError::Shape`] if the number of dimensions does not suit the kind, or the number of elements
    /// not the shape.
    pub fn from_host(
        backend: &B,
        kind: ValueKind,
        host: HostTensor,
        tape: &Tape<B>,
    ) -> Result<Self, TensorError> {
        let HostTensor { shape, data } = host;
        let data: Vec<B::Elem> = data.into_iter().map(|x| B::Elem::of(f64::from(x))).collect();
        let tape = tape.clone();
        Ok(match (kind, shape.as_slice()) {
            (ValueKind::Image, &[b, c, h, w]) => {
                Self::Image(plain(backend, data, (b, c, h, w))?.put_tape(tape))
            }
            (ValueKind::Map, &[b, c, h, w]) => Self::Map(plain(backend, data, (b, c, h, w))?.put_tape(tape)),
            (ValueKind::Sequence, &[b, n, c]) => {
                Self::Sequence(plain(backend, data, (b, n, c))?.put_tape(tape))
            }
            (ValueKind::Vector, &[b, c]) => Self::Vector(plain(backend, data, (b, c))?.put_tape(tape)),
            (ValueKind::Logits, &[b, c]) => Self::Logits(plain(backend, data, (b, c))?.put_tape(tape)),
            (ValueKind::Scalar, &[]) => Self::Scalar(plain(backend, data, ())?.put_tape(tape)),
            (kind, shape) => return Err(TensorError::shape("dimensions", kind, shape)),
        })
    }

    /// The same value, cut off from what it was computed from.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub fn detach(self) -> Result<Self, TensorError> {
        Ok(match self {
            Self::Image(t) => Self::Image(detach::<_, B>(t)?),
            Self::Map(t) => Self::Map(detach::<_, B>(t)?),
            Self::Sequence(t) => Self::Sequence(detach::<_, B>(t)?),
            Self::Vector(t) => Self::Vector(detach::<_, B>(t)?),
            Self::Logits(t) => Self::Logits(detach::<_, B>(t)?),
            Self::Scalar(t) => Self::Scalar(detach::<_, B>(t)?),
            kept @ (Self::Text(_) | Self::Targets(_) | Self::Cache(_)) => kept,
        })
    }
}
