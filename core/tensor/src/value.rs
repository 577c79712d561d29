//! What travels on the edges of a model graph.

use dfdx::prelude::{HasShape, PutTape};

use crate::{
    backend::Backend,
    element::Element,
    error::{TensorError, expect_size},
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
}

impl Tokens {
    /// Texts of different lengths, padded with 0 to the longest.
    pub fn pad(texts: &[Vec<u32>]) -> Self {
        let len = texts.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let padded = |text: &Vec<u32>| {
            let padding = len - text.len();
            text.iter().copied().chain(std::iter::repeat_n(0, padding)).collect::<Vec<_>>()
        };
        Self { ids: texts.iter().flat_map(padded).collect(), batch: texts.len(), len, mask: None }
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
        match &self.mask {
            Some(mask) => expect_size("elements of the token mask", self.ids.len(), mask.len()),
            None => Ok(()),
        }
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
        }
    }

    /// Copies the value to the host. Token ids become numbers.
    ///
    /// # Errors
    /// [`TensorError::Device`] if the device fails.
    pub fn to_host(&self) -> Result<HostTensor, TensorError> {
        let narrow = |data: Vec<B::Elem>| data.into_iter().map(|x| x.wide() as f32).collect();
        let data = match self {
            Self::Image(t) | Self::Map(t) => narrow(to_vec::<_, B>(t)?),
            Self::Sequence(t) => narrow(to_vec::<_, B>(t)?),
            Self::Vector(t) | Self::Logits(t) => narrow(to_vec::<_, B>(t)?),
            Self::Scalar(t) => narrow(to_vec::<_, B>(t)?),
            Self::Text(tokens) => tokens.ids.iter().map(|&id| id as f32).collect(),
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
            text @ Self::Text(_) => text,
        })
    }
}
