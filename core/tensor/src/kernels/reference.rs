//! What the tests of all kernels share: seeded numbers, comparison with `f64`, finite differences, pools.

/// `len` seeded numbers, evenly spread over -1 to 1.
pub fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..8 {
        next();
    }
    (0..len).map(|_| (next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0).collect()
}

/// The same numbers in double precision.
pub fn to_f64(x: &[f32]) -> Vec<f64> {
    x.iter().copied().map(f64::from).collect()
}

/// Fails unless every element is within `tolerance * max(1, |expected|)`.
#[track_caller]
pub fn assert_close(actual: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len());
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let error = (f64::from(*a) - e).abs();
        assert!(error <= tolerance * e.abs().max(1.0), "element {i}: {a} for {e}");
    }
}

/// The gradient of `f` at `x` by central differences.
pub fn gradient(x: &[f32], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut x = to_f64(x);
    let step = 1e-5;
    (0..x.len())
        .map(|i| {
            let at = x[i];
            x[i] = at + step;
            let above = f(&x);
            x[i] = at - step;
            let below = f(&x);
            x[i] = at;
            (above - below) / (2.0 * step)
        })
        .collect()
}

/// `sum probe * y`: turns a forward into a scalar whose gradient is the backward of `probe`.
pub fn probe(y: &[f64], probe: &[f32]) -> f64 {
    y.iter().zip(probe).map(|(y, p)| y * f64::from(*p)).sum()
}

/// Fails unless `run` gives the same bits on pools of 1, 2 and 3 threads.
#[track_caller]
pub fn assert_same_on_any_threads(run: impl Fn() -> Vec<Vec<f32>> + Sync) {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool can start");
        bits(&pool.install(&run))
    };
    let one = on(1);
    assert!(one == on(2), "two threads give other bits than one");
    assert!(one == on(3), "three threads give other bits than one");
}

/// Bit patterns, so that comparing also tells zeros and NaNs apart.
pub fn bits(results: &[Vec<f32>]) -> Vec<Vec<u32>> {
    results.iter().map(|r| r.iter().map(|v| v.to_bits()).collect()).collect()
}
