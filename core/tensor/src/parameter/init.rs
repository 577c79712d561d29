//! Draws the values that parameters start with.
//!
//! Each parameter has a random stream of its own, seeded by the run's seed and the parameter's full name.
//! So a value depends neither on the order of parameters nor on which others exist: growing a model leaves
//! the start of the old part as it was.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{Init, ParameterSpec};
use crate::element::Element;

/// The first values of a parameter, row-major.
pub(super) fn draw<E: Element>(name: &str, spec: &ParameterSpec, seed: u64) -> Vec<E> {
    let mut random = stream(name, seed);
    let mut next = || match spec.init {
        Init::Zeros => 0.0,
        Init::Ones => 1.0,
        Init::Constant(value) => value,
        Init::Normal { std } => std * normal(&mut random),
        Init::TruncatedNormal { std } => std * truncated_normal(&mut random),
        Init::Uniform { bound } => bound * random.gen_range(-1.0..1.0),
        Init::FanIn => random.gen_range(-1.0..1.0) / (fan_in(&spec.shape) as f64).sqrt(),
    };
    (0..spec.len()).map(|_| E::of(next())).collect()
}

fn fan_in(shape: &[usize]) -> usize {
    shape.iter().skip(1).product::<usize>().max(1)
}

fn normal(random: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(random)
}

fn truncated_normal(random: &mut ChaCha8Rng) -> f64 {
    loop {
        let x = normal(random);
        if x.abs() <= 2.0 {
            return x;
        }
    }
}

/// A generator whose 256-bit seed mixes seed and name. Not cryptographic, and stable: changing it changes
/// every experiment's start.
pub(crate) fn stream(name: &str, seed: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (lane, bytes) in (0_u64..).zip(key.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&fnv1a(seed, lane, name).to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// FNV-1a (Fowler, Noll and Vo) over the seed, the lane and the name.
fn fnv1a(seed: u64, lane: u64, name: &str) -> u64 {
    let bytes = seed.to_le_bytes().into_iter().chain(lane.to_le_bytes()).chain(name.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
