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

/// Weights as published ones are, the form that keeps them, and its bytes a weight.
fn weights(len: usize) -> Vec<(&'static str, Vec<f32>, f64)> {
    let halves = |mask: u32| random(len, 3).into_iter().map(|x| f32::from_bits(x.to_bits() & mask)).collect();
    vec![
        ("single", random(len, 2), 4.0),
        ("bf16", halves(0xffff_0000), 2.0),
        ("f16", halves(0xffff_e000), 2.0),
        // Below 2^-14 half precision has fewer digits.
        (
            "f16",
            (0..len)
                .map(|i| (i * 37 % 2048) as f32 / 16_777_216.0 * if i % 3 == 0 { -1.0 } else { 1.0 })
                .collect(),
            2.0,
        ),
        ("blocks", blocks(len, |step, _, q| step.abs() * (f32::from(q.max(1)) - 128.0)), 1.25),
        ("blocks", blocks(len, |step, _, q| step * (f32::from(q / 16) - 8.0)), 1.25),
        ("blocks", blocks(len, |step, base, q| step.abs() * f32::from(q / 16) + base), 1.25),
        ("blocks", vec![0.3; len], 1.25),
    ]
}

fn kept(w: &[f32], inputs: usize) -> Compact {
    Compact::new(w, inputs, |_| true).expect("there is room")
}

fn form(compact: &Compact) -> &'static str {
    match compact.panels {
        Panels::Single(_) => "single",
        Panels::Bf16(_) => "bf16",
        Panels::F16(_) => "f16",
        Panels::Blocks(_) => "blocks",
    }
}

/// Bytes of the panels of a form that is smaller.
fn size(compact: &Compact) -> usize {
    match &compact.panels {
        Panels::Single(_) => unreachable!("a smaller form"),
        Panels::Bf16(halves) | Panels::F16(halves) => size_of_val(halves.as_slice()),
        Panels::Blocks(blocks) => blocks.size(),
    }
}

/// All values, by row of `w`.
fn values(compact: &Compact) -> Vec<u32> {
    let (width, inputs) = (packed::width(compact.level), compact.inputs);
    let mut values = vec![0; inputs * compact.outputs];
    let mut expanded = vec![0.0; EXPANDED * width];
    for panel in 0..compact.outputs.div_ceil(width) {
        for from in (0..inputs).step_by(EXPANDED) {
            let depth = EXPANDED.min(inputs - from);
            let terms = compact.terms(panel, from, &mut expanded[..depth * width]);
            for (k, terms) in terms.chunks_exact(width).enumerate() {
                for (c, term) in terms.iter().take(compact.outputs - panel * width).enumerate() {
                    values[(panel * width + c) * inputs + from + k] = term.to_bits();
                }
            }
        }
    }
    values
}

fn levels() -> Vec<Level> {
    let mut levels = vec![Level::Baseline];
    #[cfg(target_arch = "x86_64")]
    levels.extend([Level::Avx2, Level::Avx512]);
    levels
}

/// In panels of every width, which are filled and read by the instructions that this processor has.
#[test]
fn every_value_comes_back() {
    for (inputs, outputs) in [(32, 1), (64, 64), (96, 130), (160, 63)] {
        for (expected, w, bytes) in weights(inputs * outputs) {
            let bits = |w: &[f32]| w.iter().map(|w| w.to_bits()).collect::<Vec<_>>();
            let compact = kept(&w, inputs);
            assert_eq!(form(&compact), expected);
            assert!(values(&compact) == bits(&w), "{expected} of {inputs} to {outputs}");
            for level in levels() {
                let Some(compact) = Compact::smaller(&w, inputs, level) else {
                    assert_eq!(expected, "single");
                    continue;
                };
                assert_eq!(form(&compact), expected);
                assert!(values(&compact) == bits(&w), "{expected} of {inputs} to {outputs}, {level:?}");
                let padded = outputs.next_multiple_of(packed::width(level)) * inputs;
                assert_eq!(size(&compact) as f64, padded as f64 * bytes);
            }
        }
    }
}

/// One value that a form cannot hold, anywhere, and the matrix is kept in another.
#[test]
fn an_odd_value_is_not_lost() {
    let (inputs, outputs) = (64, 70);
    for (usual, w, _) in weights(inputs * outputs) {
        for place in [0, 37, 2211, 64 * 70 - 1] {
            for odd in [0.1, f32::NAN, 1.0e-30, 1.0e-40, f32::INFINITY, f32::NEG_INFINITY, 70_000.0, -0.0] {
                let mut w = w.clone();
                w[place] = odd;
                let compact = kept(&w, inputs);
                assert!(values(&compact).into_iter().eq(w.iter().map(|w| w.to_bits())), "{odd} at {place}");
                assert!(
                    odd != 0.1 || form(&compact) == "single" || usual == "blocks" && w[1] == 0.3,
                    "{usual}"
                );
            }
        }
    }
}

#[test]
fn products_have_the_bits_of_packed_weights() {
    for (inputs, outputs) in [(32, 1), (64, 64), (96, 130), (160, 63), (576, 70)] {
        for (form, w, _) in weights(inputs * outputs) {
            let (compact, packed) = (kept(&w, inputs), Packed::transposed(&w, inputs, None));
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

#[test]
fn threads_do_not_change_bits() {
    let (inputs, outputs, rows) = (128, 700, 3);
    for (_, w, _) in weights(inputs * outputs) {
        assert_same_on_any_threads(|| {
            let mut out = vec![0.0; rows * outputs];
            kept(&w, inputs).product(&random(rows * inputs, 1), &mut out, Write::Overwrite);
            vec![out]
        });
    }
}

#[test]
fn nothing_is_a_sum_of_nothing() {
    kept(&[], 0).product(&[], &mut [], Write::Overwrite);
    kept(&[], 3).product(&[1.0; 6], &mut [], Write::Add);
    kept(&random(9, 1), 3).product(&[], &mut [], Write::Overwrite);
}
