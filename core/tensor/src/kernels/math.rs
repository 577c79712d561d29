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
    let (p, shifted) = exp_parts::<FMA>(x);
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let y = p * f32::from_bits(exponent << 23);
    let y = if x < EXP_LOW { 0.0 } else { y };
    let y = if x > EXP_HIGH { f32::INFINITY } else { y };
    if x.is_nan() { x } else { y }
}

/// `e^r`, and the number whose low bits are `n`; see [`exp`].
#[inline(always)]
fn exp_parts<const FMA: bool>(x: f32) -> (f32, f32) {
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, -LN2_LOW, fma::<FMA>(n, -LN2_HIGH, x));
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = fma::<FMA>(p, r, c);
    }
    (p, shifted)
}

/// Below this, `e^x` is nearer to 0 than to the smallest normal number: `-127 ln 2`.
const EXP_ZERO: f32 = -88.029_69;

/// `e^x` for `x <= 0`, or above 0 by a rounding error: as [`exp`] (0 from -88.03 on), NaN for NaN.
///
/// Scores less their maximum need no test for overflow. The one for underflow is a maximum: at -127 ln 2 the
/// power of two that the polynomial is multiplied with has an exponent field of zeros, and so is 0.
#[inline(always)]
pub fn exp_nonpositive<const FMA: bool>(x: f32) -> f32 {
    // Written so that a NaN is kept.
    let x = if EXP_ZERO > x { EXP_ZERO } else { x };
    let (p, shifted) = exp_parts::<FMA>(x);
    p * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// The natural logarithm within 2 units in the last place, for 0 (minus infinity) and normal numbers; NaN for
/// negative numbers and NaN.
///
/// `x = 2^n m` with `m` between the roots of 1/2 and 2, and `ln m = 2 artanh t` with `t = (m - 1) / (m + 1)`
/// by its Taylor polynomial of degree 9 (remainder below `2 t^11 / 11`, relative 3e-9).
#[inline(always)]
pub fn ln<const FMA: bool>(x: f32) -> f32 {
    const ROOT: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
    let exponent = (x.to_bits().wrapping_sub(ROOT) as i32) >> 23;
    let m = f32::from_bits(x.to_bits().wrapping_sub((exponent as u32) << 23));
    let t = (m - 1.0) / (m + 1.0);
    let (t2, n) = (t * t, exponent as f32);
    let mut p = 2.0 / 9.0;
    for c in [2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0] {
        p = fma::<FMA>(p, t2, c);
    }
    let y = fma::<FMA>(n, LN2_HIGH, fma::<FMA>(n, LN2_LOW, t * p));
    let y = if x > 0.0 { y } else { f32::NAN };
    if x == 0.0 { f32::NEG_INFINITY } else { y }
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

/// The sum of `e^(x - shift)`.
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
    fn exp_of_what_is_not_positive_needs_no_test_for_overflow() {
        for x in sweep(-87.3, 1e-3) {
            check(exp_nonpositive::<true>(x), f64::from(x).exp(), 1.8e-7, x);
            check(exp_nonpositive::<false>(x), f64::from(x).exp(), 1.8e-7, x);
        }
        for x in [-88.1, -1e30, f32::MIN, f32::NEG_INFINITY] {
            assert_eq!([exp_nonpositive::<true>(x), exp_nonpositive::<false>(x)], [0.0; 2], "at {x}");
        }
        assert_eq!(exp_nonpositive::<true>(0.0), 1.0);
        assert!(exp_nonpositive::<true>(f32::NAN).is_nan());
    }

    #[test]
    fn ln_is_within_two_units_in_the_last_place() {
        for x in sweep(1e-3, 3.0).chain(sweep(3.0, 1e6)).chain([f32::MIN_POSITIVE, f32::MAX]) {
            check(ln::<true>(x), f64::from(x).ln(), 2.4e-7, x);
            check(ln::<false>(x), f64::from(x).ln(), 2.4e-7, x);
        }
        assert_eq!(ln::<true>(1.0), 0.0);
        assert_eq!(ln::<true>(0.0), f32::NEG_INFINITY);
        assert!(ln::<true>(f32::NAN).is_nan() && ln::<true>(-1.0).is_nan());
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
            let exact: f64 = x.iter().map(|v| (f64::from(*v) - 0.5).exp()).sum();
            assert!((f64::from(sum_exp_minus::<true>(&x, 0.5)) - exact).abs() < 1e-6 * exact.max(1.0));
        }
    }
}
