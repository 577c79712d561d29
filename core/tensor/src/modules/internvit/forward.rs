//! From an image to hidden states.

use dfdx::prelude::HasShape;

use super::{InternVit, block, masking, positions};
use crate::{
    backend::Backend,
    error::{TensorError, expect_size},
    module::{Forward, InputSize, Mode, Module, PerRecord, Resume},
    parameter::ParameterSpec,
    tensor::{Seq, Vector, reshape},
    value::Value,
};

impl Module for InternVit {
    fn parameters(&self) -> Vec<ParameterSpec> {
        self.specs()
    }

    fn macs(&self, input: InputSize) -> u64 {
        self.count_macs(input)
    }

    fn per_record(&self) -> PerRecord {
        if self.drop_path > 0.0 || self.mask_ratio > 0.0 { PerRecord::Draws } else { PerRecord::Fixed }
    }

    fn resumes(&self) -> Vec<Resume> {
        let state = |index: usize| {
            let last = (index == self.depth).then(|| "tokens".to_owned());
            let aliases = last.into_iter().chain([format!("hidden.-{}", self.depth + 1 - index)]);
            let blocks = (0..index).map(|block| format!("encoder.layers.{block}."));
            Resume {
                port: format!("hidden.{index}"),
                aliases: aliases.collect(),
                before: std::iter::once("embeddings.".to_owned()).chain(blocks).collect(),
            }
        };
        (0..=self.depth).map(state).collect()
    }

    fn forward<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(), TensorError> {
        self.check()?;
        let wanted = cx.wanted().map(|port| self.wanted_state(port)).collect::<Result<Vec<_>, _>>()?;
        let deepest = wanted.into_iter().max().unwrap_or(0);
        let (first, mut x) = self.begin(cx)?;
        self.put_state(cx, first, &x)?;
        for index in first..deepest {
            x = block::forward(self, cx, index, x)?;
            self.put_state(cx, index + 1, &x)?;
        }
        Ok(())
    }
}

impl InternVit {
    /// The hidden state that a pass begins with, and its index: a given one, or that of the image.
    fn begin<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<(usize, Seq<B>), TensorError> {
        if let Some(index) = (0..=self.depth).rev().find(|index| cx.has(&format!("hidden.{index}"))) {
            return Ok((index, cx.sequence(&format!("hidden.{index}"))?));
        }
        let x = self.embed(cx)?;
        match cx.mode() == Mode::Train && self.mask_ratio > 0.0 {
            true => Ok((0, masking::keep_some(cx, x, self.mask_ratio)?)),
            false => Ok((0, x)),
        }
    }

    /// Index of the hidden state behind an output.
    fn wanted_state(&self, port: &str) -> Result<usize, TensorError> {
        let unknown = || TensorError::UnknownOutput {
            port: port.to_owned(),
            known: format!("`tokens`, `pooler`, `hidden.0` to `hidden.{}`, `hidden.-1`, ...", self.depth),
        };
        if matches!(port, "tokens" | "pooler") {
            return Ok(self.depth);
        }
        let index = port.strip_prefix("hidden.").and_then(|index| index.parse::<isize>().ok());
        let index = index.ok_or_else(unknown)?;
        let states = self.depth as isize + 1;
        let index = if index < 0 { index + states } else { index };
        if (0..states).contains(&index) { Ok(index as usize) } else { Err(unknown()) }
    }

    /// Writes hidden state `index` to every output that stands for it.
    fn put_state<B: Backend>(
        &self,
        cx: &mut Forward<'_, B>,
        index: usize,
        x: &Seq<B>,
    ) -> Result<(), TensorError> {
        cx.put(&format!("hidden.{index}"), Value::Sequence(x.clone()));
        let from_end = self.depth + 1 - index;
        cx.put(&format!("hidden.-{from_end}"), Value::Sequence(x.clone()));
        if index == self.depth {
            cx.put("tokens", Value::Sequence(x.clone()));
            if cx.wants("pooler") {
                let pooled = class_row(cx, x.clone())?;
                cx.put("pooler", Value::Vector(pooled));
            }
        }
        Ok(())
    }

    /// Patch embedding, class token, positions: `[B, 3, H, W]` to `[B, N + 1, width]`.
    fn embed<B: Backend>(&self, cx: &mut Forward<'_, B>) -> Result<Seq<B>, TensorError> {
        let image = cx.image("image")?;
        let &(batch, channels, height, width) = image.shape();
        expect_size("channels of the image", self.channels, channels)?;
        let (rows, columns) = (height / self.patch, width / self.patch);
        if height % self.patch != 0 || width % self.patch != 0 || rows * columns == 0 {
            let expected = format!("multiples of the patch size {}", self.patch);
            return Err(TensorError::shape("image size", expected, [height, width]));
        }
        let inputs = self.channels * self.patch * self.patch;
        let weight = cx.matrix("embeddings.patch_embedding.weight", self.width, inputs)?;
        let bias = cx.row("embeddings.patch_embedding.bias", self.width)?;
        let unfolded = cx.backend().unfold(image, self.patch)?;
        let patches = cx.backend().linear(unfolded, weight, Some(bias))?;
        let patches = reshape::<_, _, B>(patches, (batch, rows * columns, self.width))?;
        let class = cx.row("embeddings.class_embedding", self.width)?;
        let positions = self.positions(cx, [rows, columns])?;
        cx.backend().add_class_and_positions(patches, class, positions)
    }

    fn positions<B: Backend>(
        &self,
        cx: &Forward<'_, B>,
        grid: [usize; 2],
    ) -> Result<crate::tensor::Matrix<B>, TensorError> {
        let native = self.native_grid();
        let count = native[0] * native[1] + 1;
        let table = cx.matrix("embeddings.position_embedding", count, self.width)?;
        if grid == native { Ok(table) } else { positions::resize(cx.backend(), table, native, grid) }
    }
}

/// The first row of each sequence, `[B, N, C]` to `[B, C]`.
fn class_row<B: Backend>(cx: &Forward<'_, B>, x: Seq<B>) -> Result<Vector<B>, TensorError> {
    let &(batch, len, width) = x.shape();
    let first: Vec<u32> = (0..batch).map(|record| (record * len) as u32).collect();
    cx.backend().embedding(reshape::<_, _, B>(x, (batch * len, width))?, &first, None)
}
