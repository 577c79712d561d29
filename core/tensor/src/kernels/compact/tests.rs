//! Every form has the bits of packed `f32`, and no value is lost to one that does not fit.

use super::*;
use crate::kernels::reference::{assert_same_on_any_threads, bits, random};

/// Blocks of 32 as ggml's quantisers leave them: `make(step, base, integer from 0 to 255)`.
fn blocks(len: usize, make: impl Fn(f32, f32, u8) -> f32) -> Vec<f32> {
    let (numbers, bytes) = (random(len, 5), random(len, 6));
    let half = |x: f32| f32::from_bits(x.to_bits() & !0x1fff);
    let of = |i: usize| {
        let step = numbers[i / 32 * 32];
        let step = half(0.01 * (step + step.signum()));
        let base = half(0.3 * numbers[(i / 32 * 32 + 1) % len]);
        // The ends of the range are in every block, as they are in a quantiser's.
        let byte = match i % 32 {
            3 => 0,
            7 => 255,
            _ => ((bytes[i] + 1.0) * 127.0) as u8,
        };
        make(step, base, byte)
    };
    (0..len).map(of).collect()
}

/// Weights in the forms that published ones have, with what a value may take at most.
fn forms(len: usize) -> Vec<(&'static str, Vec<f32>, f64)> {
    let halves = |mask: u32| random(len, 3).into_iter().map(|x| f32::from_bits(x.to_bits() & mask)).collect();
    vec![
        ("single", random(len, 2), 4.0),
        ("bf16", halves(0xffff_0000), 2.0),
        ("f16", halves(0xffff_e000), 2.0),
        ("Q8_0", blocks(len, |step, _, q| step.abs() * (f32::from(q.max(1)) - 128.0)), 1.25),
        ("Q4_0", blocks(len, |step, _, q| step * (f32::from(q / 16) - 8.0)), 1.25),
        ("Q4_1", blocks(len, |step, base, q| step.abs() * f32::from(q / 16) + base), 1.25),
        ("constant", vec![0.3; len], 1.25),
    ]
}

#[test]
fn products_have_the_bits_of_packed_weights() {
    for (inputs, outputs) in [(32, 1), (64, 64), (96, 130), (160, 63), (576, 70)] {
        for (form, w, most) in forms(inputs * outputs) {
            let compact = Compact::new(&w, inputs);
            let whole = (outputs.div_ceil(packed::width(level())) * packed::width(level()) * inputs) as f64;
            assert!(compact.bytes() as f64 <= whole * most, "{form} of {inputs} to {outputs}");
            let packed = Packed::transposed(&w, inputs, None);
            for rows in [1, 2, 5, 8, 17] {
                let x = random(rows * inputs, 1);
                for write in [Write::Overwrite, Write::Add] {
                    let mut expected = random(rows * outputs, 4);
                    let mut found = expected.clone();
                    packed.product(&x, &mut expected, write);
                    compact.product(&x, &mut found, write);
                    assert!(
                        bits(&[found]) == bits(&[expected]),
                        "{form}: {rows} rows, {inputs} to {outputs}"
                    );
                }
            }
        }
    }
}

/// One value that a form cannot hold, anywhere, and the matrix is kept as it is.
#[test]
fn one_odd_value_keeps_a_matrix_single() {
    let (inputs, outputs) = (64, 70);
    for (form, w, _) in forms(inputs * outputs) {
        for (place, odd) in
            [(0, 0.1), (37, f32::NAN), (2211, 1.0e-30), (64 * 70 - 1, f32::INFINITY), (99, -0.0)]
        {
            let w: Vec<f32> = w.iter().enumerate().map(|(i, w)| if i == place { odd } else { *w }).collect();
            let (compact, mut kept) = (Compact::new(&w, inputs), vec![0.0; inputs * outputs]);
            // The product with one of the unit vectors is a column, where nothing else is not a number.
            for k in 0..inputs {
                let unit: Vec<f32> = (0..inputs).map(|i| f32::from(u8::from(i == k))).collect();
                let mut column = vec![0.0; outputs];
                compact.product(&unit, &mut column, Write::Overwrite);
                column.iter().enumerate().for_each(|(n, value)| kept[n * inputs + k] = *value);
            }
            for (i, (w, kept)) in w.iter().zip(&kept).enumerate() {
                let row_is_odd = i / inputs == place / inputs && !odd.is_finite();
                assert!(row_is_odd || w == kept, "{form}, {odd} at {place}: {kept} for {w} at {i}");
            }
            assert!(odd.is_finite() || kept[place / inputs * inputs].is_nan() || kept[place].is_infinite());
        }
    }
}

#[test]
fn threads_do_not_change_bits() {
    let (inputs, outputs, rows) = (128, 700, 3);
    for (_, w, _) in forms(inputs * outputs) {
        assert_same_on_any_threads(|| {
            let mut out = vec![0.0; rows * outputs];
            Compact::new(&w, inputs).product(&random(rows * inputs, 1), &mut out, Write::Overwrite);
            vec![out]
        });
    }
}

#[test]
fn nothing_is_a_sum_of_nothing() {
    let nothing = Compact::new(&[], 0);
    nothing.product(&[], &mut [], Write::Overwrite);
    Compact::new(&[], 3).product(&[], &mut [], Write::Add);
    Compact::new(&random(9, 1), 3).product(&[], &mut [], Write::Overwrite);
}
