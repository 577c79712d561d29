//! Images to rows of patches and back: a convolution whose stride is its kernel becomes a linear layer.
//!
//! A row holds one patch in the order of a convolution's weight, `[channels, patch, patch]`; patches follow
//! each other from left to right and from top to bottom. Pixels beyond the last whole patch are left out.
//!
//! Must not know: embeddings, position.

use rayon::prelude::*;

/// Sizes of a batch of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// B
    pub batch: usize,
    /// C: 3 for RGB.
    pub channels: usize,
    /// H, in pixels.
    pub height: usize,
    /// W, in pixels.
    pub width: usize,
    /// Edge of a patch, in pixels.
    pub patch: usize,
}

impl Shape {
    /// N: patches of one image.
    pub fn patches(&self) -> usize {
        (self.height / self.patch) * (self.width / self.patch)
    }

    /// Values of one patch.
    pub fn row(&self) -> usize {
        self.channels * self.patch * self.patch
    }

    fn image(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Where the line `(channel, y)` of patch number `n` starts in its image.
    fn line(&self, n: usize, channel: usize, y: usize) -> usize {
        let across = self.width / self.patch;
        let (top, left) = (n / across * self.patch, n % across * self.patch);
        (channel * self.height + top + y) * self.width + left
    }

    /// `(channel, y)` of every line of a patch, in the order of a row.
    fn lines(&self) -> impl Iterator<Item = (usize, usize)> {
        let patch = self.patch;
        (0..self.channels * patch).map(move |line| (line / patch, line % patch))
    }

    fn check(&self, image: usize, rows: usize) {
        assert!(self.patch > 0 && image == self.batch * self.image(), "image fits its shape");
        assert_eq!(rows, self.batch * self.patches() * self.row(), "patches fit their shape");
    }
}

/// Copies every patch into its row.
///
/// # Shapes
/// - `image: [B, C, H, W]`, `out: [B * N, C * p * p]`
pub fn unfold(image: &[f32], shape: &Shape, out: &mut [f32]) {
    shape.check(image.len(), out.len());
    if out.is_empty() {
        return;
    }
    let images = out.par_chunks_mut(shape.patches() * shape.row()).zip(image.par_chunks(shape.image()));
    images.for_each(|(out, image)| {
        for (n, row) in out.chunks_exact_mut(shape.row()).enumerate() {
            for (target, (channel, y)) in row.chunks_exact_mut(shape.patch).zip(shape.lines()) {
                target.copy_from_slice(&image[shape.line(n, channel, y)..][..shape.patch]);
            }
        }
    });
}

/// The backward of [`unfold`]: adds every row to its patch.
///
/// # Shapes
/// - `dout: [B * N, C * p * p]`, `dimage: [B, C, H, W]`
pub fn fold(dout: &[f32], shape: &Shape, dimage: &mut [f32]) {
    shape.check(dimage.len(), dout.len());
    if dout.is_empty() {
        return;
    }
    let images = dimage.par_chunks_mut(shape.image()).zip(dout.par_chunks(shape.patches() * shape.row()));
    images.for_each(|(image, dout)| {
        for (n, row) in dout.chunks_exact(shape.row()).enumerate() {
            for (source, (channel, y)) in row.chunks_exact(shape.patch).zip(shape.lines()) {
                let target = &mut image[shape.line(n, channel, y)..][..shape.patch];
                target.iter_mut().zip(source).for_each(|(t, s)| *t += s);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_same_on_any_threads, random};

    /// A convolution by the book, against unfolding and inner products.
    #[test]
    fn unfolding_turns_a_convolution_into_products() {
        for (height, width, patch) in [(4, 6, 2), (3, 3, 3), (7, 5, 2), (2, 2, 1)] {
            let shape = Shape { batch: 2, channels: 3, height, width, patch };
            let image = random(2 * 3 * height * width, 1);
            let weight = random(shape.row(), 2);
            let mut rows = vec![f32::NAN; 2 * shape.patches() * shape.row()];
            unfold(&image, &shape, &mut rows);
            for (at, row) in rows.chunks(shape.row()).enumerate() {
                let (b, n) = (at / shape.patches(), at % shape.patches());
                let (top, left) = (n / (width / patch) * patch, n % (width / patch) * patch);
                let mut exact = 0.0;
                for c in 0..3 {
                    for (i, j) in (0..patch * patch).map(|ij| (ij / patch, ij % patch)) {
                        let pixel = image[((b * 3 + c) * height + top + i) * width + left + j];
                        exact += pixel * weight[(c * patch + i) * patch + j];
                    }
                }
                let got: f32 = row.iter().zip(&weight).map(|(x, w)| x * w).sum();
                assert_eq!(got, exact);
            }
        }
    }

    #[test]
    fn folding_is_the_transpose_and_adds() {
        let shape = Shape { batch: 2, channels: 2, height: 5, width: 6, patch: 2 };
        let image = vec![1.0; 2 * 2 * 5 * 6];
        let mut rows = vec![0.0; 2 * shape.patches() * shape.row()];
        unfold(&image, &shape, &mut rows);
        let mut back = image.clone();
        fold(&rows, &shape, &mut back);
        for (i, v) in back.iter().enumerate() {
            let in_a_patch = i / 6 % 5 < 4;
            assert_eq!(*v, if in_a_patch { 2.0 } else { 1.0 });
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        let shape = Shape { batch: 5, channels: 3, height: 32, width: 32, patch: 8 };
        let image = random(5 * 3 * 32 * 32, 1);
        assert_same_on_any_threads(|| {
            let mut rows = vec![0.0; image.len()];
            unfold(&image, &shape, &mut rows);
            let mut back = image.clone();
            fold(&rows, &shape, &mut back);
            vec![rows, back]
        });
    }
}
