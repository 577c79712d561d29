//! Products against `f64`, and the same bits whichever way they are cut.

use super::*;
use crate::kernels::reference::{assert_close, random};

fn padded(data: &[f32], rows: usize, cols: usize) -> Padded {
    let mut matrix = Padded::default();
    matrix.pack(data, Rows { first: 0, stride: cols, count: rows, width: cols, in_place: false });
    matrix
}

fn columns(matrix: &Padded) -> Vec<f32> {
    matrix.as_slice().chunks(matrix.stride()).flat_map(|row| &row[..matrix.cols()]).copied().collect()
}

const SIZES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (5, 3, 8),
    (6, 9, 17),
    (7, 24, 24),
    (12, 17, 31),
    (13, 2, 32),
    (17, 0, 40),
    (25, 64, 63),
    (40, 33, 72),
];

#[test]
fn products_agree_with_f64_whatever_the_terms() {
    for (m, k, n) in SIZES {
        for terms in [Terms::All, Terms::Before(2), Terms::Before(-3), Terms::From(1), Terms::From(-4)] {
            let mut a = random(m * k, 1);
            for (i, row) in a.chunks_mut(k.max(1)).enumerate() {
                let needed = terms.of(i..i + 1, k);
                (0..k).filter(|l| !needed.contains(l)).for_each(|l| row[l] = 0.0);
            }
            let (b, factors) = (random(k * n, 2), random(m, 3));
            let term = |i: usize, j: usize, l: usize| f64::from(a[i * k + l]) * f64::from(b[l * n + j]);
            let exact: Vec<f64> =
                (0..m * n).map(|ij| (0..k).map(|l| term(ij / n, ij % n, l)).sum()).collect();
            let (left, right, mut out) = (padded(&a, m, k), padded(&b, k, n), Padded::default());
            out.reset(m, n);
            let target = Target::new(&mut out);
            product(Left::new(left.view()), right.view(), target, terms, Write::Overwrite);
            assert_close(&columns(&out), &exact, 1e-5);
            let factored = Left::new(left.view()).times(&factors);
            product(factored, right.view(), Target::new(&mut out), terms, Write::Add);
            let both = |(ij, x): (usize, &f64)| x + f64::from(factors[ij / n]) * x;
            assert_close(&columns(&out), &exact.iter().enumerate().map(both).collect::<Vec<_>>(), 1e-5);
        }
    }
}

#[test]
fn a_transposed_operand_gives_the_same_bits() {
    for (m, k, n) in SIZES {
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        let turned: Vec<f32> = (0..k * m).map(|lm| a[lm % m * k + lm / m]).collect();
        let (plain, turned, right) = (padded(&a, m, k), padded(&turned, k, m), padded(&b, k, n));
        let run = |left: Left<'_>| {
            let mut out = Padded::default();
            out.reset(m, n);
            product(left, right.view(), Target::new(&mut out), Terms::All, Write::Add);
            columns(&out)
        };
        assert_eq!(run(Left::new(plain.view())), run(Left::transposed(turned.view())));
    }
}

#[test]
fn the_width_of_vectors_and_blocks_does_not_change_bits() {
    for (m, k, n) in SIZES {
        let (left, right) = (padded(&random(m * k, 1), m, k), padded(&random(k * n, 2), k, n));
        let run = |product: unsafe fn(Job<'_>, Size)| {
            let mut out = Padded::default();
            out.reset(m, n);
            let (a, out_view) = (Left::new(left.view()), Target::new(&mut out));
            let (job, size) = checked(a, right.view(), out_view, Terms::All, Write::Add);
            // SAFETY: the job was checked; only copies that the processor can run are passed.
            unsafe { product(job, size) };
            columns(&out)
        };
        let portable = run(product_on_16::<true>);
        #[cfg(target_arch = "x86_64")]
        {
            assert_eq!(run(product_on_32::<true>), portable);
            if level() != Level::Baseline {
                assert_eq!(run(avx2), portable);
            }
            if level() == Level::Avx512 {
                assert_eq!(run(avx512), portable);
            }
        }
        let unfused: Vec<f64> = portable.iter().copied().map(f64::from).collect();
        assert_close(&run(product_on_16::<false>), &unfused, 1e-5);
    }
}
