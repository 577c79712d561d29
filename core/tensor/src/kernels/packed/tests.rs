//! Products by every micro-kernel that this processor runs.

use super::*;
use crate::kernels::reference::{assert_close, random, to_f64};

/// Levels that this processor runs.
fn levels() -> Vec<Level> {
    let mut levels = vec![Level::Baseline];
    #[cfg(target_arch = "x86_64")]
    {
        if level() != Level::Baseline {
            levels.push(Level::Avx2);
        }
        if level() == Level::Avx512 {
            levels.push(Level::Avx512);
        }
    }
    levels
}

/// As `packed`, for another level.
fn at(level: Level, w: &[f32], depth: usize) -> Packed {
    let (width, columns) = (width(level), w.len() / depth);
    let mut data = lease(columns.div_ceil(width) * width * depth);
    data.fill(0.0);
    for c in 0..columns {
        for k in 0..depth {
            data[(c / width * depth + k) * width + c % width] = w[c * depth + k];
        }
    }
    Packed { data, depth, columns, level }
}

#[test]
fn every_level_agrees_with_f64() {
    for (rows, depth, columns) in
        [(1, 1, 1), (7, 3, 5), (6, 17, 64), (13, 40, 70), (5, 1100, 33), (12, 64, 16), (9, 9, 130)]
    {
        let (x, w) = (random(rows * depth, 1), random(columns * depth, 2));
        let (x64, w64) = (to_f64(&x), to_f64(&w));
        let exact = |i: usize| {
            let (r, c) = (i / columns, i % columns);
            (0..depth).map(|k| x64[r * depth + k] * w64[c * depth + k]).sum::<f64>()
        };
        let exact: Vec<f64> = (0..rows * columns).map(exact).collect();
        for level in levels() {
            let packed = at(level, &w, depth);
            let mut out = vec![f32::NAN; rows * columns];
            packed.product(&x, &mut out, Write::Overwrite);
            assert_close(&out, &exact, 1e-4);
            packed.product(&x, &mut out, Write::Add);
            assert_close(&out, &exact.iter().map(|v| 2.0 * v).collect::<Vec<_>>(), 1e-4);
        }
    }
}

#[test]
fn packing_puts_elements_where_products_look_for_them() {
    for (depth, columns) in [(1, 1), (3, 70), (70, 3), (17, 64), (40, 9)] {
        let w = random(depth * columns, 1);
        let turned: Vec<f32> = (0..depth * columns).map(|i| w[i % depth * columns + i / depth]).collect();
        let (by_row, by_column) = (random(depth, 2), random(columns, 3));
        let x = random(2 * depth, 4);
        let mut out = [vec![0.0; 2 * columns], vec![0.0; 2 * columns]];
        Packed::straight(&w, columns, None).product(&x, &mut out[0], Write::Overwrite);
        Packed::transposed(&turned, depth, None).product(&x, &mut out[1], Write::Overwrite);
        assert_eq!(out[0], out[1]);
        let scaled = |i: usize| w[i] * by_row[i / columns];
        let expected = Packed::straight(&(0..w.len()).map(scaled).collect::<Vec<_>>(), columns, None);
        assert_eq!(*expected.data, *Packed::straight(&w, columns, Some(&by_row)).data);
        let scaled = |i: usize| turned[i] * by_column[i / depth];
        let expected = Packed::transposed(&(0..w.len()).map(scaled).collect::<Vec<_>>(), depth, None);
        assert_eq!(*expected.data, *Packed::transposed(&turned, depth, Some(&by_column)).data);
    }
}

#[test]
fn avx2_and_avx512_give_the_same_bits_for_any_number_of_rows() {
    let (depth, columns) = (700, 77);
    let (x, w) = (random(20 * depth, 1), random(columns * depth, 2));
    let run = |level: Level, rows: usize| {
        let mut out = vec![0.0; rows * columns];
        at(level, &w, depth).product(&x[..rows * depth], &mut out, Write::Overwrite);
        out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    let fused: Vec<Level> = levels().into_iter().filter(|&l| l != Level::Baseline || BASELINE_FMA).collect();
    for level in &fused {
        let all = run(*level, 20);
        assert!(fused.iter().all(|other| run(*other, 20) == all));
        (1..20).for_each(|rows| assert!(run(*level, rows) == all[..rows * columns], "{rows} rows"));
    }
}
