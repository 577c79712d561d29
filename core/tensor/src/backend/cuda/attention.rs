//! Attention on operands that lie in device memory: which kernels run, and what they are told.
//!
//! Operands of 16 bits run on tensor cores up to 128 columns of a head; single precision, and wider heads,
//! run on the plain kernels. Both keep of the softmax only each row's log-sum-exp.
//!
//! Must not know: tensors, tapes, where queries and keys come from.

use super::{
    Cuda,
    address::Address,
    array::{Array, Kind, View},
    driver::{Argument, Grid},
    sources::{self, Program},
};
use crate::{error::TensorError, mask::Mask};

/// Columns of a head that the kernels are compiled for.
const FLASH_WIDTHS: [usize; 4] = [32, 64, 96, 128];
const PLAIN_WIDTHS: [usize; 3] = [64, 128, 256];
/// Records are the third dimension of a launch.
const MOST_RECORDS: usize = 65_535;

/// `struct Attention` of `kernels/attention.cuh`, field by field.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Shape {
    batch: i64,
    heads: i64,
    head_dim: i64,
    q_len: i64,
    k_len: i64,
    q_stride: i64,
    k_stride: i64,
    v_stride: i64,
    out_stride: i64,
    dq_stride: i64,
    dk_stride: i64,
    dv_stride: i64,
    keep: Address,
    pattern: Address,
    causal: i64,
    aligned: i64,
    add: i64,
    scale: f32,
}

impl Argument for Shape {}

/// Sizes of an attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) heads: usize,
    pub(super) q_len: usize,
    pub(super) k_len: usize,
    /// Columns of all heads together.
    pub(super) width: usize,
    /// What scores are multiplied by.
    pub(super) scale: f64,
}

/// Queries, keys or values: the first element, and the elements from one row to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) view: View,
    pub(super) stride: usize,
}

/// Where the gradient of queries, keys or values goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct GradientRows {
    /// The first element; none for a constant.
    pub(super) address: Address,
    /// Elements from one row to the next.
    pub(super) stride: usize,
}

/// An attention with all that its kernels need but the operands.
pub(super) struct Attention {
    sizes: Sizes,
    causal: bool,
    keep: Option<Array>,
    pattern: Option<Array>,
}

/// What the forward pass leaves for the backward pass.
pub(super) struct Attended {
    /// `[batch, q_len, width]`, in the kind of the operands.
    pub(super) out: Array,
    /// `[batch, heads, q_len]`
    lse: Array,
}

impl Attention {
    /// Puts the mask into device memory.
    ///
    /// # Errors
    /// [`TensorError::Shape`] for a mask of another size, [`TensorError::Config`] for heads that are too
    /// wide,
    /// [`TensorError::Device`].
    pub(super) fn new(cuda: &Cuda, sizes: Sizes, mask: &Mask) -> Result<Self, TensorError> {
        mask.check(sizes.batch, sizes.q_len, sizes.k_len)?;
        let head_dim = sizes.width / sizes.heads;
        if head_dim > PLAIN_WIDTHS[2] {
            let reason =
                format!("heads of {head_dim} columns; the CUDA kernels take up to {}", PLAIN_WIDTHS[2]);
            return Err(TensorError::Config(reason));
        }
        if sizes.batch > MOST_RECORDS {
            let reason =
                format!("a batch of {} records; the CUDA kernels take up to {MOST_RECORDS}", sizes.batch);
            return Err(TensorError::Config(reason));
        }
        let (causal, keep, pattern) = match mask {
            Mask::None => (false, None, None),
            Mask::Causal => (true, None, None),
            Mask::Padding { keep, causal } => (*causal, Some(cuda.mask(keep)?), None),
            Mask::Pattern(allowed) => (false, None, Some(cuda.mask(allowed)?)),
        };
        Ok(Self { sizes, causal, keep, pattern })
    }

    fn head_dim(&self) -> usize {
        self.sizes.width / self.sizes.heads
    }

    fn program(&self, operand: Kind) -> Program {
        let head_dim = self.head_dim();
        let smallest = |widths: &[usize]| widths.iter().copied().find(|&width| head_dim <= width);
        let flash = if operand == Kind::F32 { None } else { smallest(&FLASH_WIDTHS) };
        match flash {
            Some(padded) => Program::FlashAttention { operand, padded },
            None => {
                let padded = smallest(&PLAIN_WIDTHS).expect("`new` refused wider heads");
                Program::PlainAttention { operand, padded }
            }
        }
    }

    fn shape(&self, [q, k, v]: [Rows; 3], out: View) -> Shape {
        let sizes = self.sizes;
        let aligned = |address: Address, stride: usize| {
            address.alignment() >= 16 && stride.is_multiple_of(8) && self.head_dim().is_multiple_of(8)
        };
        let all = [q, k, v].iter().all(|rows| aligned(rows.view.address, rows.stride));
        let address = |mask: &Option<Array>| mask.as_ref().map_or(Address::NONE, Array::address);
        let [batch, heads, head_dim] = [sizes.batch, sizes.heads, self.head_dim()].map(|size| size as i64);
        Shape {
            batch,
            heads,
            head_dim,
            q_len: sizes.q_len as i64,
            k_len: sizes.k_len as i64,
            q_stride: q.stride as i64,
            k_stride: k.stride as i64,
            v_stride: v.stride as i64,
            out_stride: sizes.width as i64,
            dq_stride: 0,
            dk_stride: 0,
            dv_stride: 0,
            keep: address(&self.keep),
            pattern: address(&self.pattern),
            causal: i64::from(self.causal),
            aligned: i64::from(all && aligned(out.address, sizes.width)),
            add: 0,
            scale: sizes.scale as f32,
        }
    }

    /// Blocks over tiles of `len` rows; `plain` are the tiles in shared memory of the plain kernel, where
    /// that one runs.
    fn grid(&self, program: Program, len: usize, plain: [usize; 2]) -> Grid {
        let Sizes { batch, heads, .. } = self.sizes;
        match program {
            Program::PlainAttention { .. } => Grid {
                blocks: [len.div_ceil(32), heads, batch],
                threads: [16, 16, 1],
                shared_bytes: sources::plain_shared_bytes(self.head_dim(), plain),
            },
            _ => Grid { blocks: [len.div_ceil(64), heads, batch], threads: [128, 1, 1], shared_bytes: 0 },
        }
    }

    /// Attends.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn forward(&self, cuda: &Cuda, qkv: [Rows; 3]) -> Result<Attended, TensorError> {
        let Sizes { batch, heads, q_len, width, .. } = self.sizes;
        let kind = qkv[0].view.kind;
        let out = cuda.array(kind, batch * q_len * width)?;
        let lse = cuda.array(Kind::F32, batch * heads * q_len)?;
        let (program, shape) = (self.program(kind), self.shape(qkv, out.view()));
        let [q, k, v] = qkv.map(|rows| rows.view.address);
        let arguments: [&dyn Argument; 6] = [&q, &k, &v, &out.address(), &lse.address(), &shape];
        let grid = self.grid(program, q_len, sources::PLAIN_FORWARD_TILES);
        cuda.driver().launch(program, "attention_forward", grid, &arguments)?;
        Ok(Attended { out, lse })
    }

    /// Gradients of queries, keys and values from `dout`, `[batch, q_len, width]` in single precision. They
    /// are added to what is there, or written over it.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn backward(
        &self,
        cuda: &Cuda,
        qkv: [Rows; 3],
        attended: &Attended,
        dout: Address,
        gradients: [GradientRows; 3],
        add: bool,
    ) -> Result<(), TensorError> {
        let Sizes { batch, heads, q_len, k_len, width, .. } = self.sizes;
        let program = self.program(qkv[0].view.kind);
        let flash = matches!(program, Program::FlashAttention { .. });
        let operand = match flash {
            true => Some(cuda.gradient_operand(dout, batch * q_len * width)?),
            false => None,
        };
        let upstream = operand.as_ref().map_or(View::f32(dout), |operand| operand.view());
        let unscale = Address::from(operand.as_ref().and_then(|operand| operand.unscale()));
        let [dq, dk, dv] = gradients;
        let mut shape = self.shape(qkv, upstream);
        shape.add = i64::from(add);
        [shape.dq_stride, shape.dk_stride, shape.dv_stride] = gradients.map(|rows| rows.stride as i64);

        let delta = cuda.array(Kind::F32, batch * heads * q_len)?;
        let (lse, delta, out) = (attended.lse.address(), delta.address(), attended.out.address());
        let threads = (32 * heads).min(256);
        let grid = Grid { blocks: [batch * q_len, 1, 1], threads: [threads, 1, 1], shared_bytes: 0 };
        cuda.driver().launch(program, "attention_delta", grid, &[&out, &upstream.address, &delta, &shape])?;

        let [q, k, v] = qkv.map(|rows| rows.view.address);
        let mut arguments: Vec<&dyn Argument> = vec![&q, &k, &v, &upstream.address, &lse, &delta];
        if flash {
            arguments.push(&unscale);
        }
        let run = |kernel, grid, last: &[&dyn Argument]| {
            cuda.driver().launch(program, kernel, grid, &[arguments.as_slice(), last].concat())
        };
        if dq.address != Address::NONE {
            run("attention_dq", self.grid(program, q_len, sources::PLAIN_DQ_TILES), &[&dq.address, &shape])?;
        }
        if dk.address != Address::NONE || dv.address != Address::NONE {
            let mut grid = self.grid(program, k_len, sources::PLAIN_DKV_TILES);
            if flash {
                grid.shared_bytes = program.shared_bytes();
            }
            run("attention_dkv", grid, &[&dk.address, &dv.address, &shape])?;
        }
        Ok(())
    }
}
