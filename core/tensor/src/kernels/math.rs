//! Scalar functions that the compiler turns into vectors, and sums with one fixed order.
//!
//! Everything is `inline(always)` and free of branches, so that it melts into the loops of a
//! [`super::simd::multiversion!`] body. `FMA` is that body's constant.
//!
//! Must not know: tensors, shapes, threads.

/// Elements that a sum keeps apart: lane `l` adds elements `l`, `l + 16`, `l + 32`, ...
pub const LANES: usize = 16;

/// `a * b + c`, rounded once where the instruction exists and twice elsewhere.
#[inline(always)]
pub fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Adding and taking away `1.5 * 2^23` rounds to an integer and leaves that integer in the low bits.
const ROUND: f32 = 12_582_912.0;
/// Below this, `exp` is 0 (the true value is a denormal).
const EXP_LOW: f32 = -87.336_54;
/// Above this, `exp` is infinite (the true value leaves the range of `f32` at 88.72).
const EXP_HIGH: f32 = 88.375;
/// `ln 2` in two parts, of which the first has so few bits that `n * LN2_HIGH` is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `e^x` within 2 units in the last place; 0 below -87.34, infinite above 88.37, NaN for NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, and `e^r` by its Taylor polynomial of degree 7 (remainder
/// `r^8 / 8!`, below 6e-9).
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, -LN2_LOW, fma::<FMA>(n, -LN2_HIGH, x));
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = fma::<FMA>(p, r, c);
    }
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let y = p * f32::from_bits(exponent << 23);
    let y = if x < EXP_LOW { 0.0 } else { y };
    let y = if x > EXP_HIGH { f32::INFINITY } else { y };
    if x.is_nan() { x } else { y }
}

/// `1 / (1 + e^-x)`, the logistic function.
#[inline(always)]
pub fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// Of the fit in [`normal`]: `t = 1 / (1 + 0.24 |x|)`.
const TAIL_RATE: f32 = 0.24;
/// Of the fit in [`normal`]: coefficients of `t`, `t^2`, ..., `t^10`.
const TAIL: [f32; 10] = [
    0.095_742_97,
    0.095_841_17,
    0.089_059_62,
    0.087_208_31,
    0.029_690_222,
    0.138_681_85,
    -0.141_018_59,
    0.203_081_23,
    -0.123_628_34,
    0.025_341_553,
];

/// Distribution and density of the standard normal, `(Phi(x), phi(x))`.
///
/// `Phi(-|x|) = e^(-x^2/2) q(t)`, the form of Abramowitz and Stegun 7.1.26, with our own polynomial of degree
/// 10 through Chebyshev nodes: relative error below 4e-9 before rounding, in the tails too. A rational
/// approximation of `erf` would lose the left tail to `1 + erf(x)`.
#[inline(always)]
pub fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    let bell = exp::<FMA>(-0.5 * x * x);
    let t = 1.0 / fma::<FMA>(TAIL_RATE, x.abs(), 1.0);
    let mut q = TAIL[9];
    for c in TAIL[..9].iter().rev() {
        q = fma::<FMA>(q, t, *c);
    }
    let tail = bell * (q * t);
    let phi = if x > 0.0 { 1.0 - tail } else { tail };
    (phi, bell * 0.398_942_3)
}

/// Adds the lanes as a tree, so that the order is the same for every width of vector.
#[inline(always)]
pub fn reduce(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The sum of `x`.
#[inline(always)]
pub fn sum(x: &[f32]) -> f32 {
    let mut acc = [0.0; LANES];
    let (chunks, tail) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            acc[l] += chunk[l];
        }
    }
    for (a, v) in acc.iter_mut().zip(tail) {
        *a += v;
    }
    reduce(acc)
}

/// The inner product of two slices of the same length.
#[inline(always)]
pub fn dot<const FMA: bool>(x: &[f32], y: &[f32]) -> f32 {
    let mut acc = [0.0; LANES];
    let (xs, x_tail) = x.as_chunks::<LANES>();
    let (ys, y_tail) = y.as_chunks::<LANES>();
    for (x, y) in xs.iter().zip(ys) {
        for l in 0..LANES {
            acc[l] = fma::<FMA>(x[l], y[l], acc[l]);
        }
    }
    for (a, (x, y)) in acc.iter_mut().zip(x_tail.iter().zip(y_tail)) {
        *a = fma::<FMA>(*x, *y, *a);
    }
    reduce(acc)
}

/// `sum (x - mean)^2`.
#[inline(always)]
pub fn squares_about<const FMA: bool>(x: &[f32], mean: f32) -> f32 {
    let mut acc = [0.0; LANES];
    let (chunks, tail) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            let d = chunk[l] - mean;
            acc[l] = fma::<FMA>(d, d, acc[l]);
        }
    }
    for (a, v) in acc.iter_mut().zip(tail) {
        let d = v - mean;
        *a = fma::<FMA>(d, d, *a);
    }
    reduce(acc)
}

/// The greatest element; NaNs are passed over, and an empty slice gives minus infinity.
#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    let mut acc = [f32::NEG_INFINITY; LANES];
    let (chunks, tail) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            acc[l] = if chunk[l] > acc[l] { chunk[l] } else { acc[l] };
        }
    }
    for (a, v) in acc.iter_mut().zip(tail) {
        *a = if *v > *a { *v } else { *a };
    }
    acc.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// `x <- e^(x - shift)` in place; returns the sum.
#[inline(always)]
pub fn exp_minus<const FMA: bool>(x: &mut [f32], shift: f32) -> f32 {
    let mut acc = [0.0; LANES];
    let (chunks, tail) = x.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            chunk[l] = exp::<FMA>(chunk[l] - shift);
            acc[l] += chunk[l];
        }
    }
    for (a, v) in acc.iter_mut().zip(tail) {
        *v = exp::<FMA>(*v - shift);
        *a += *v;
    }
    reduce(acc)
}

/// The sum of `e^(x - shift)`, leaving `x` as it is; the same bits as [`exp_minus`].
#[inline(always)]
pub fn sum_exp_minus<const FMA: bool>(x: &[f32], shift: f32) -> f32 {
    let mut acc = [0.0; LANES];
    let (chunks, tail) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            acc[l] += exp::<FMA>(chunk[l] - shift);
        }
    }
    for (a, v) in acc.iter_mut().zip(tail) {
        *a += exp::<FMA>(*v - shift);
    }
    reduce(acc)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(actual: f32, expected: f64, relative: f64, at: f32) {
        let error = (f64::from(actual) - expected).abs();
        assert!(error <= relative * expected.abs() + 1e-38, "at {at}: {actual} for {expected}");
    }

    fn sweep(low: f32, high: f32) -> impl Iterator<Item = f32> {
        (0..=200_000_u32).map(move |i| low + (high - low) * (i as f32 / 200_000.0))
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for x in sweep(-87.3, 88.3) {
            check(exp::<true>(x), f64::from(x).exp(), 1.8e-7, x);
            check(exp::<false>(x), f64::from(x).exp(), 1.8e-7, x);
        }
        assert_eq!(exp::<true>(0.0), 1.0);
        assert_eq!(exp::<true>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp::<true>(-1e30), 0.0);
        assert_eq!(exp::<true>(1e30), f32::INFINITY);
        assert!(exp::<true>(f32::NAN).is_nan());
    }

    #[test]
    fn normal_keeps_its_relative_accuracy_in_the_tail() {
        for x in sweep(-5.0, 8.0) {
            let (cdf, density) = normal::<true>(x);
            let exact = 0.5 * libm::erfc(-f64::from(x) / std::f64::consts::SQRT_2);
            check(cdf, exact, 1.5e-6, x);
            if x.abs() < 1.0 {
                check(cdf, exact, 5e-7, x);
            }
            let exact = (-0.5 * f64::from(x).powi(2)).exp() / (2.0 * std::f64::consts::PI).sqrt();
            check(density, exact, 3e-6, x);
        }
    }

    #[test]
    fn sums_agree_with_f64_for_every_tail() {
        for len in 0..70_usize {
            let x: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            let exact: f64 = x.iter().map(|v| f64::from(*v)).sum();
            assert!((f64::from(sum(&x)) - exact).abs() < 1e-5);
            let exact: f64 = x.iter().map(|v| f64::from(*v).powi(2)).sum();
            assert!((f64::from(dot::<true>(&x, &x)) - exact).abs() < 1e-5);
            let exact: f64 = x.iter().map(|v| (f64::from(*v) - 0.25).powi(2)).sum();
            assert!((f64::from(squares_about::<true>(&x, 0.25)) - exact).abs() < 1e-5);
            assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let mut y = x.clone();
            assert_eq!(exp_minus::<true>(&mut y, 0.5), sum_exp_minus::<true>(&x, 0.5));
        }
    }
}
