//! The kernels' sources, and how they form programs.
//!
//! One program holds everything that is quick to compile. Attention has one for each operand type and padded
//! head width, compiled when a model first needs it, since each takes seconds.
//!
//! Must not know: what the kernels compute.

use super::array::Kind;

/// A source with its name, for the compiler's messages.
struct Source {
    name: &'static str,
    text: &'static str,
}

macro_rules! source {
    ($name:literal) => {
        Source { name: $name, text: include_str!(concat!("kernels/", $name)) }
    };
}

const BASE: &[Source] = &[
    source!("common.cuh"),
    source!("norm.cu"),
    source!("columns.cu"),
    source!("activation.cu"),
    source!("residual.cu"),
    source!("rope.cu"),
    source!("sequence.cu"),
    source!("loss.cu"),
    source!("vector.cu"),
];
const PLAIN: &[Source] = &[source!("common.cuh"), source!("attention.cuh"), source!("attention_plain.cu")];
const TENSOR_CORES: &[Source] =
    &[source!("common.cuh"), source!("attention.cuh"), source!("tiles.cuh"), source!("attention_mma.cu")];

/// What is compiled together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Program {
    /// All kernels but attention's.
    Base,
    /// Attention in single precision on operands of any kind.
    PlainAttention {
        /// Type of queries, keys and values.
        operand: Kind,
        /// Columns of a head, padded: 64, 128 or 256.
        padded: usize,
    },
    /// Attention on tensor cores.
    FlashAttention {
        /// Type of queries, keys and values, of 16 bits.
        operand: Kind,
        /// Columns of a head, padded: 32, 64, 96 or 128.
        padded: usize,
    },
}

impl Program {
    /// The most dynamic shared memory that a kernel of this program uses, in bytes: that of the gradients of
    /// keys and values. `flash_dkv` has its own keys and values, tiles of queries and gradients both ways,
    /// and two numbers for each query.
    pub(super) fn shared_bytes(self) -> usize {
        match self {
            Self::Base => 0,
            Self::PlainAttention { padded, .. } => plain_shared_bytes(padded, PLAIN_DKV_TILES),
            Self::FlashAttention { padded, .. } => {
                let stride = padded / 2 + 4;
                size_of::<u32>() * ((2 * 64 + 2 * 32) * stride + 2 * padded * 20 + 2 * 32)
            }
        }
    }
}

/// Tiles of rows, and of scores, that `plain_forward`, `plain_dq` and `plain_dkv` have in shared memory.
pub(super) const PLAIN_FORWARD_TILES: [usize; 2] = [3, 1];
pub(super) const PLAIN_DQ_TILES: [usize; 2] = [4, 1];
pub(super) const PLAIN_DKV_TILES: [usize; 2] = [4, 2];

/// Shared memory of a plain attention kernel with such tiles.
pub(super) fn plain_shared_bytes(head_dim: usize, [rows, scores]: [usize; 2]) -> usize {
    size_of::<f32>() * (rows * 32 * (head_dim + 1) + scores * 32 * 33)
}

/// A program's source.
pub(super) fn text(program: Program) -> String {
    let attention = |operand: Kind, padded: usize, sources: &[Source]| {
        let operand = operand.pick(["float", "bf16", "f16"]);
        format!("#define OPERAND {operand}\n#define PADDED {padded}\n{}", join(sources))
    };
    match program {
        Program::Base => join(BASE),
        Program::PlainAttention { operand, padded } => attention(operand, padded, PLAIN),
        Program::FlashAttention { operand, padded } => attention(operand, padded, TENSOR_CORES),
    }
}

fn join(sources: &[Source]) -> String {
    sources.iter().map(|source| format!("#line 1 \"{}\"\n{}", source.name, source.text)).collect()
}
