//! Attention and rotary positions as operations of their own, and the parts that sub-layers share: norms of
//! queries and keys, and turning by positions.

use dfdx::prelude::HasShape;

use super::{
    Cuda,
    address::{Address, Output},
    array::{Array, Kind, View, for_kind},
    attention::{Attended, Attention, GradientRows, Rows, Sizes},
    columns::Columns,
    driver::{Argument, Grid},
    operand::Operand,
    own_op::{Input, finish, tape},
};
use crate::{backend::QkNorm, error::TensorError, mask::Mask, tape::Grads, tensor::Seq};

/// Norms of packed queries and keys.
pub(super) struct QkNorms {
    pub(super) query: Input,
    pub(super) key: Input,
    eps: f32,
}

impl QkNorms {
    /// Takes the weights.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn read(norm: QkNorm<Cuda>) -> Result<Self, TensorError> {
        Ok(Self { query: Input::read(norm.query)?, key: Input::read(norm.key)?, eps: norm.eps as f32 })
    }
}

/// Packed queries, keys and values, `[rows, 3 width]`, with their norm if there is one.
pub(super) struct Packed {
    pub(super) qkv: Operand,
    pub(super) norms: Option<QkNorms>,
    pub(super) rows: usize,
    pub(super) width: usize,
}

impl Packed {
    /// Normalised queries and keys, `[rows, 2 width]`. Made again in the backward pass instead of kept.
    fn normalise(&self, cuda: &Cuda) -> Result<Option<Array>, TensorError> {
        let Some(QkNorms { query, key, eps }) = &self.norms else { return Ok(None) };
        let (qkv, width) = (self.qkv.view(), self.width);
        let out = cuda.array(qkv.kind, 2 * self.rows * width)?;
        let arguments: [&dyn Argument; 6] =
            [&qkv.address, &query.address(), &key.address(), &out.address(), &width, eps];
        cuda.launch(for_kind!(qkv.kind, "qk_norm"), Grid::row_parts(self.rows, 2, width), &arguments)?;
        Ok(Some(out))
    }

    /// What attention reads.
    fn parts(&self, normed: Option<&Array>) -> [Rows; 3] {
        let (width, qkv) = (self.width, self.qkv.view());
        let packed = |part: usize| Rows { view: qkv.from(part * width), stride: 3 * width };
        match normed {
            None => [packed(0), packed(1), packed(2)],
            Some(normed) => {
                let part = |part: usize| Rows { view: normed.view().from(part * width), stride: 2 * width };
                [part(0), part(1), packed(2)]
            }
        }
    }

    /// Attends, with norms first.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn attend(&self, cuda: &Cuda, attention: &Attention) -> Result<Attended, TensorError> {
        let normed = self.normalise(cuda)?;
        attention.forward(cuda, self.parts(normed.as_ref()))
    }

    /// The gradient of the packed rows, added to `dqkv` or written over it; and those of the norms' weights.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn backward(
        &self,
        cuda: &Cuda,
        grads: &mut Grads<Cuda>,
        attention: &Attention,
        attended: &Attended,
        dout: Address,
        dqkv: Address,
    ) -> Result<(), TensorError> {
        let width = self.width;
        let of_packed =
            |part: usize| GradientRows { address: dqkv.plus(4 * part * width), stride: 3 * width };
        let Some(norms) = &self.norms else {
            let gradients = [of_packed(0), of_packed(1), of_packed(2)];
            return attention.backward(cuda, self.parts(None), attended, dout, gradients, false);
        };
        let normed = self.normalise(cuda)?;
        let dqk = cuda.array(Kind::F32, 2 * self.rows * width)?;
        let of_normed =
            |part: usize| GradientRows { address: dqk.address().plus(4 * part * width), stride: 2 * width };
        let gradients = [of_normed(0), of_normed(1), of_packed(2)];
        attention.backward(cuda, self.parts(normed.as_ref()), attended, dout, gradients, false)?;
        self.norms_backward(cuda, grads, norms, dqk.address(), dqkv)
    }

    fn norms_backward(
        &self,
        cuda: &Cuda,
        grads: &mut Grads<Cuda>,
        norms: &QkNorms,
        dqk: Address,
        dqkv: Address,
    ) -> Result<(), TensorError> {
        let (qkv, rows, width) = (self.qkv.view(), self.rows, self.width);
        let scales = cuda.array(Kind::F32, 2 * rows)?;
        let (query, key) = (norms.query.address(), norms.key.address());
        let arguments: [&dyn Argument; 8] =
            [&qkv.address, &query, &key, &dqk, &dqkv, &scales.address(), &width, &norms.eps];
        let grid = Grid::row_parts(rows, 2, width);
        cuda.launch(for_kind!(qkv.kind, "qk_norm_backward"), grid, &arguments)?;
        for (part, weight) in [&norms.query, &norms.key].into_iter().enumerate() {
            let Some(dw) = weight.gradient(cuda, grads)? else { continue };
            let sums = Columns {
                a_stride: 2 * width,
                b: Some((qkv.from(part * width), 3 * width)),
                scale: scales.address().plus(4 * part * rows),
                ..Columns::of(dqk.plus(4 * part * width), rows, width)
            };
            cuda.add_column_sums(&sums, dw)?;
        }
        Ok(())
    }
}

/// Turns the heads of `x`, `[rows, width]`, by their positions, into `out`.
pub(super) struct Turn {
    pub(super) heads: usize,
    pub(super) tokens: usize,
    pub(super) width: usize,
    pub(super) rows: usize,
    /// Cosines, then sines, `[tokens, half]` each.
    pub(super) angles: Array,
}

impl Turn {
    /// Sequences of the given shape, `[batch, tokens, width]`, with one position for each token.
    ///
    /// # Errors
    /// [`TensorError::Shape`] for another number of positions than tokens,
    /// [`TensorError::Device`]
    pub(super) fn new(
        cuda: &Cuda,
        (batch, tokens, width): (usize, usize, usize),
        heads: usize,
        base: f64,
        positions: &[u32],
    ) -> Result<Self, TensorError> {
        crate::error::expect_size("positions", tokens, positions.len())?;
        let angles = cuda.angles(positions, width / heads / 2, base)?;
        Ok(Self { heads, tokens, width, rows: batch * tokens, angles })
    }

    /// `sign` 1 turns forward, -1 back; the result is added to `out` or written over it.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn run(
        &self,
        cuda: &Cuda,
        x: View,
        out: Address,
        sign: f32,
        add: bool,
    ) -> Result<(), TensorError> {
        let Self { heads, tokens, width, rows, .. } = *self;
        let (half, add) = (width / heads / 2, usize::from(add));
        let cosines = self.angles.address();
        let sines = cosines.plus(4 * tokens * half);
        let arguments: [&dyn Argument; 11] =
            [&x.address, &width, &cosines, &sines, &out, &width, &tokens, &heads, &half, &sign, &add];
        cuda.launch(for_kind!(x.kind, "rotary"), Grid::rows(rows, width), &arguments)
    }
}

/// See [`crate::Backend::rotary`].
pub(super) fn rotary(
    cuda: &Cuda,
    x: Seq<Cuda>,
    heads: usize,
    base: f64,
    positions: &[u32],
) -> Result<Seq<Cuda>, TensorError> {
    let shape = *x.shape();
    let turn = Turn::new(cuda, shape, heads, base, positions)?;
    let x = Input::read(x)?;
    let out = Output::new(cuda, shape)?;
    turn.run(cuda, View::f32(x.address()), out.address, 1.0, false)?;
    Ok(finish(cuda, out, tape([&x]), move |cuda, grads, dout| match x.gradient(cuda, grads)? {
        Some(dx) => turn.run(cuda, View::f32(dout), dx, -1.0, true),
        None => Ok(()),
    }))
}

/// Writes an attention's result to a tensor.
fn widen(cuda: &Cuda, attended: &Attended, out: Address, len: usize) -> Result<(), TensorError> {
    let from = attended.out.view();
    let kernel = match from.kind {
        Kind::F32 => return cuda.driver().copy(from.address, out, 4 * len),
        Kind::Bf16 => "from_bf16",
        Kind::F16 => "from_f16",
    };
    cuda.launch(kernel, Grid::flat(len), &[&from.address, &out, &len])
}

/// See [`crate::Backend::attention`].
pub(super) fn separate(
    cuda: &Cuda,
    [q, k, v]: [Seq<Cuda>; 3],
    heads: usize,
    scale: f64,
    mask: &Mask,
) -> Result<Seq<Cuda>, TensorError> {
    let (&(batch, q_len, width), &(_, k_len, _)) = (q.shape(), k.shape());
    let attention = Attention::new(cuda, Sizes { batch, heads, q_len, k_len, width, scale }, mask)?;
    let inputs = [Input::read(q)?, Input::read(k)?, Input::read(v)?];
    let operands = operands(cuda, &inputs)?;
    let out = Output::new(cuda, (batch, q_len, width))?;
    let rows =
        move |operands: &[Operand; 3]| operands.each_ref().map(|x| Rows { view: x.view(), stride: width });
    let attended = attention.forward(cuda, rows(&operands))?;
    widen(cuda, &attended, out.address, out.len())?;
    Ok(finish(cuda, out, tape(&inputs), move |cuda, grads, dout| {
        let mut gradients = [GradientRows { address: Address::NONE, stride: width }; 3];
        for (gradient, input) in gradients.iter_mut().zip(&inputs) {
            gradient.address = input.gradient(cuda, grads)?.into();
        }
        attention.backward(cuda, rows(&operands), &attended, dout, gradients, true)
    }))
}

fn operands(cuda: &Cuda, inputs: &[Input; 3]) -> Result<[Operand; 3], TensorError> {
    let operand = |input: &Input| cuda.operand(input.address(), input.len());
    Ok([operand(&inputs[0])?, operand(&inputs[1])?, operand(&inputs[2])?])
}
