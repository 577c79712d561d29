//! Sums over the rows of a matrix: gradients of biases, norm weights and LayerScale.

use super::{
    Cuda,
    address::Address,
    array::{Kind, View, for_kind},
    driver::Grid,
};
use crate::error::TensorError;

/// Threads that share a group's rows in `column_partials`.
const ROW_LANES: usize = 8;
/// Fewest rows of a group, and most groups.
const GROUP_ROWS: usize = 64;
const MOST_GROUPS: usize = 128;

/// What to sum: `a (b + bias - mean) scale`, see the kernel `column_partials`.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) a: Address,
    pub(super) a_stride: usize,
    pub(super) b: Option<(View, usize)>,
    pub(super) bias: Address,
    pub(super) mean: Address,
    pub(super) scale: Address,
    pub(super) rows_per_scale: usize,
}

impl Columns {
    /// The sums of a contiguous matrix.
    pub(super) fn of(a: Address, rows: usize, columns: usize) -> Self {
        Self {
            rows,
            columns,
            a,
            a_stride: columns,
            b: None,
            bias: Address::NONE,
            mean: Address::NONE,
            scale: Address::NONE,
            rows_per_scale: 1,
        }
    }
}

impl Cuda {
    /// Adds the sums to `sum`, `[columns]`.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn add_column_sums(&self, what: &Columns, sum: Address) -> Result<(), TensorError> {
        let Columns { rows, columns, a, a_stride, bias, mean, scale, rows_per_scale, .. } = *what;
        // A function of the number of rows alone, so that sums have the same parts on every device.
        let group_rows = rows.div_ceil(MOST_GROUPS).max(GROUP_ROWS);
        let groups = rows.div_ceil(group_rows);
        let partial = self.array(Kind::F32, groups * columns)?;
        let (b, b_stride) = what.b.unwrap_or((View::f32(Address::NONE), 0));
        let grid =
            Grid { blocks: [columns.div_ceil(32), groups, 1], threads: [32, ROW_LANES, 1], shared_bytes: 0 };
        self.launch(
            for_kind!(b.kind, "column_partials"),
            grid,
            &[
                &a,
                &a_stride,
                &b.address,
                &b_stride,
                &bias,
                &mean,
                &scale,
                &rows_per_scale,
                &rows,
                &columns,
                &group_rows,
                &partial.address(),
            ],
        )?;
        let grid = Grid { blocks: [columns.div_ceil(256), 1, 1], threads: [256, 1, 1], shared_bytes: 0 };
        self.launch("column_finish", grid, &[&partial.address(), &groups, &columns, &sum])
    }
}
