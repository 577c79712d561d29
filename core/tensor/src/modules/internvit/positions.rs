//! Position embeddings for another image size.
//!
//! The class position stays. The others, on their native grid, are resized bicubically: half-pixel centres,
//! Keys' kernel with `a = -0.75` (Keys, 1981), indices clamped at the border, no anti-aliasing and no
//! renormalisation, as PyTorch's `interpolate` does. All of that is one fixed linear map of the embedding,
//! so it is applied as a matrix and is differentiable with it.

use dfdx::prelude::HasShape;

use crate::{
    backend::Backend,
    element::Element,
    error::TensorError,
    tensor::{Matrix, constant},
};

/// Resizes `[native rows * columns + 1, C]` to `[grid rows * columns + 1, C]`.
pub(super) fn resize<B: Backend>(
    backend: &B,
    table: Matrix<B>,
    native: [usize; 2],
    grid: [usize; 2],
) -> Result<Matrix<B>, TensorError> {
    let (to, from) = (grid[0] * grid[1] + 1, table.shape().0);
    let map: Vec<B::Elem> = resize_map(native, grid).into_iter().map(B::Elem::of).collect();
    let map: Matrix<B> = constant(backend, map, (to, from))?;
    backend.matmul(map, table)
}

/// The map as a matrix, `[new positions, old positions]`, class positions first.
fn resize_map(native: [usize; 2], grid: [usize; 2]) -> Vec<f64> {
    let rows = axis_weights(native[0], grid[0]);
    let columns = axis_weights(native[1], grid[1]);
    let from = native[0] * native[1] + 1;
    let mut map = vec![0.0; (grid[0] * grid[1] + 1) * from];
    map[0] = 1.0;
    for (new, map_row) in map.chunks_exact_mut(from).skip(1).enumerate() {
        for &(row, row_weight) in &rows[new / grid[1]] {
            for &(column, column_weight) in &columns[new % grid[1]] {
                map_row[1 + row * native[1] + column] += row_weight * column_weight;
            }
        }
    }
    map
}

/// For each new place along one axis, the four old places that it reads and their weights.
fn axis_weights(from: usize, to: usize) -> Vec<[(usize, f64); 4]> {
    let place = |new: usize| {
        let source = (new as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let first = source.floor();
        let fraction = source - first;
        [-1.0, 0.0, 1.0, 2.0].map(|offset| {
            let old = (first + offset).clamp(0.0, from as f64 - 1.0) as usize;
            (old, keys(fraction - offset))
        })
    };
    (0..to).map(place).collect()
}

/// Keys' cubic convolution kernel with `a = -0.75`.
fn keys(distance: f64) -> f64 {
    const A: f64 = -0.75;
    let x = distance.abs();
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    } else {
        0.0
    }
}
