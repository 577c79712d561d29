//! Table look-up: token ids to rows of an embedding.
//!
//! Must not know: tokenizers; which id means what, apart from one that the caller may name.

use rayon::prelude::*;

use super::split::rows_per_task;

/// An id has no row in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("token id {id} at position {position} is beyond the {rows} rows of the embedding")]
pub struct IdOutOfRange {
    /// The id.
    pub id: u32,
    /// Its place among the ids.
    pub position: usize,
    /// Rows of the table.
    pub rows: usize,
}

/// `out[r] = table[ids[r]]`.
///
/// # Shapes
/// - `ids: [R]`, `table: [V, width]`, `out: [R, width]`
///
/// # Errors
/// The first id that is not below V; `out` is untouched then.
pub fn forward(ids: &[u32], table: &[f32], width: usize, out: &mut [f32]) -> Result<(), IdOutOfRange> {
    assert!(width > 0 && out.len() == ids.len() * width);
    check(ids, table.len() / width)?;
    let rows = rows_per_task(width);
    out.par_chunks_mut(rows * width).zip(ids.par_chunks(rows)).for_each(|(out, ids)| {
        for (out, id) in out.chunks_exact_mut(width).zip(ids) {
            out.copy_from_slice(&table[*id as usize * width..][..width]);
        }
    });
    Ok(())
}

/// `dtable[ids[r]] += dout[r]`, each table row adding in the order of `r`; the id `skip` adds nothing.
///
/// # Shapes
/// - `ids: [R]`, `dout: [R, width]`, `dtable: [V, width]`
///
/// # Errors
/// The first id that is not below V; `dtable` is untouched then.
pub fn backward(
    ids: &[u32],
    dout: &[f32],
    width: usize,
    skip: Option<u32>,
    dtable: &mut [f32],
) -> Result<(), IdOutOfRange> {
    assert!(width > 0 && dout.len() == ids.len() * width);
    check(ids, dtable.len() / width)?;
    let wanted = ids.iter().enumerate().filter(|(_, id)| Some(**id) != skip);
    let mut sources: Vec<(u32, usize)> = wanted.map(|(r, id)| (*id, r)).collect();
    sources.sort_unstable();
    let rows = rows_per_task(width);
    dtable.par_chunks_mut(rows * width).enumerate().for_each(|(task, dtable)| {
        let first = task * rows;
        let from = sources.partition_point(|(id, _)| (*id as usize) < first);
        for (id, r) in sources[from..].iter().take_while(|(id, _)| (*id as usize) < first + rows) {
            let target = &mut dtable[(*id as usize - first) * width..][..width];
            let source = &dout[r * width..][..width];
            target.iter_mut().zip(source).for_each(|(t, s)| *t += s);
        }
    });
    Ok(())
}

fn check(ids: &[u32], rows: usize) -> Result<(), IdOutOfRange> {
    match ids.iter().position(|id| *id as usize >= rows) {
        Some(position) => Err(IdOutOfRange { id: ids[position], position, rows }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_close, assert_same_on_any_threads, random};

    #[test]
    fn rows_are_looked_up_and_gradients_scattered() {
        let width = 5;
        let table = random(7 * width, 1);
        let ids = [3, 0, 3, 6, 0, 3];
        let mut out = vec![0.0; ids.len() * width];
        forward(&ids, &table, width, &mut out).expect("ids are in range");
        for (out, id) in out.chunks(width).zip(ids) {
            assert_eq!(out, &table[id as usize * width..][..width]);
        }

        for skip in [None, Some(0)] {
            let dout = random(out.len(), 2);
            let mut exact = vec![1.0; table.len()];
            for (r, id) in ids.iter().enumerate().filter(|(_, id)| Some(**id) != skip) {
                (0..width).for_each(|c| exact[*id as usize * width + c] += f64::from(dout[r * width + c]));
            }
            let mut dtable = vec![1.0; table.len()];
            backward(&ids, &dout, width, skip, &mut dtable).expect("ids are in range");
            assert_close(&dtable, &exact, 1e-6);
        }
    }

    #[test]
    fn an_id_beyond_the_table_is_an_error() {
        let expected = IdOutOfRange { id: 4, position: 1, rows: 4 };
        assert_eq!(forward(&[3, 4], &[0.0; 8], 2, &mut [0.0; 4]), Err(expected));
        assert_eq!(backward(&[3, 4], &[0.0; 4], 2, None, &mut [0.0; 8]), Err(expected));
    }

    #[test]
    fn threads_do_not_change_bits() {
        let ids: Vec<u32> = random(3000, 1).iter().map(|v| ((v + 1.0) * 400.0) as u32).collect();
        let dout = random(3000 * 96, 2);
        assert_same_on_any_threads(|| {
            let mut dtable = vec![0.0; 801 * 96];
            backward(&ids, &dout, 96, Some(0), &mut dtable).expect("ids are in range");
            vec![dtable]
        });
    }
}
