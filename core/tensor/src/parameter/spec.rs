//! What a module says about each of its parameters.

/// How a parameter starts. Standard deviations and bounds are absolute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// All this value.
    Constant(f64),
    /// Normal around 0, redrawn beyond two standard deviations of the untruncated distribution.
    TruncatedNormal {
        /// Standard deviation before truncation.
        std: f64,
    },
    /// Normal around 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform in `-bound .. bound`.
    Uniform {
        /// Half of the interval's width.
        bound: f64,
    },
    /// Uniform in `-1/sqrt(fan_in) .. 1/sqrt(fan_in)`, where the fan-in is the product of all dimensions but
    /// the first: the usual start of a linear layer without a better one.
    FanIn,
}

/// One parameter: its published name within the module, its shape, and how it starts and decays.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSpec {
    /// Name under which checkpoints know it, e.g. `encoder.layers.0.attn.qkv.weight`.
    pub name: String,
    /// Sizes of the dimensions, none for a scalar.
    pub shape: Vec<usize>,
    /// How it starts.
    pub init: Init,
    /// Whether weight decay applies; false for vectors, biases and scalars.
    pub decay: bool,
}

impl ParameterSpec {
    /// A parameter that decays if it is a matrix: more than one dimension is larger than 1.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>, init: Init) -> Self {
        let shape = shape.into();
        let decay = shape.iter().filter(|&&size| size > 1).count() > 1;
        Self { name: name.into(), shape, init, decay }
    }

    /// The same parameter, left out of weight decay whatever its shape (embeddings of positions).
    pub fn without_decay(self) -> Self {
        Self { decay: false, ..self }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether a dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
