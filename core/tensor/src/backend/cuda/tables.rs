//! Host data that many layers of one forward pass share, uploaded once: masks and rotary angles.

use std::sync::Arc;

use super::{Cuda, array::Array, driver::Driver};
use crate::{error::TensorError, kernels::rope};

/// How many masks, and how many tables of angles, stay.
const KEPT: usize = 8;

/// What was uploaded last.
#[derive(Default)]
pub(super) struct Tables {
    /// The host's side is kept as well, so that its address cannot come to stand for another mask.
    masks: Vec<(Arc<[bool]>, Array)>,
    angles: Vec<(Angles, Array)>,
}

/// What a table of rotary angles depends on.
#[derive(Clone, PartialEq)]
struct Angles {
    positions: Vec<u32>,
    half: usize,
    base: f64,
}

impl Angles {
    /// Cosines `[positions, half]`, then sines.
    fn table(&self) -> Vec<f32> {
        rope::angles(&self.positions, self.half, self.base as f32).concat()
    }
}

impl Tables {
    fn mask(&mut self, driver: &Driver, mask: &Arc<[bool]>) -> Result<Array, TensorError> {
        if let Some((_, array)) = self.masks.iter().find(|(known, _)| Arc::ptr_eq(known, mask)) {
            return Ok(array.clone());
        }
        let array = Array::upload(driver, mask)?;
        push(&mut self.masks, (mask.clone(), array.clone()));
        Ok(array)
    }

    fn angles(&mut self, driver: &Driver, wanted: Angles) -> Result<Array, TensorError> {
        if let Some((_, array)) = self.angles.iter().find(|(known, _)| *known == wanted) {
            return Ok(array.clone());
        }
        let array = Array::upload(driver, &wanted.table())?;
        push(&mut self.angles, (wanted, array.clone()));
        Ok(array)
    }
}

/// Adds an entry, and drops the oldest beyond [`KEPT`].
fn push<T>(entries: &mut Vec<T>, entry: T) {
    if entries.len() == KEPT {
        entries.remove(0);
    }
    entries.push(entry);
}

impl Cuda {
    /// A mask as one byte for each element.
    ///
    /// # Errors
    /// [`TensorError::Device`], here and below.
    pub(super) fn mask(&self, mask: &Arc<[bool]>) -> Result<Array, TensorError> {
        self.tables().mask(self.driver(), mask)
    }

    /// Cosines, then sines, of rotary angles, `[positions, half]` each.
    pub(super) fn angles(&self, positions: &[u32], half: usize, base: f64) -> Result<Array, TensorError> {
        let wanted = Angles { positions: positions.to_vec(), half, base };
        self.tables().angles(self.driver(), wanted)
    }

    /// Numbers in single precision.
    pub(super) fn factors(&self, factors: &[f64]) -> Result<Array, TensorError> {
        let factors: Vec<f32> = factors.iter().map(|&factor| factor as f32).collect();
        Array::upload(self.driver(), &factors)
    }
}
