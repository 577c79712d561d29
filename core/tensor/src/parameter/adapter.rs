//! Pairs of thin matrices beside a weight (LoRA; Hu et al., 2021), and what they come to together.

/// The names of a weight `[outputs, inputs]` and of the pair beside it, `a` `[rank, inputs]` and `b` `[outputs, rank]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// The weight.
    pub weight: String,
    /// The matrix that is applied first.
    pub a: String,
    /// The matrix that is applied to what comes out of it.
    pub b: String,
    /// Factor of `b a`.
    pub scale: f64,
}

/// `weight + scale b a`, all row-major, summed in double precision. `inputs` is the number of columns of `weight` and `a`.
pub fn merge(weight: &[f32], [a, b]: [&[f32]; 2], inputs: usize, scale: f64) -> Vec<f32> {
    let rank = a.len() / inputs.max(1);
    let mut merged = Vec::with_capacity(weight.len());
    let mut sum = vec![0.0_f64; inputs];
    for (row, b) in weight.chunks_exact(inputs.max(1)).zip(b.chunks_exact(rank.max(1))) {
        sum.fill(0.0);
        for (factor, a) in b.iter().zip(a.chunks_exact(inputs)) {
            sum.iter_mut().zip(a).for_each(|(sum, a)| *sum += f64::from(*factor) * f64::from(*a));
        }
        merged.extend(row.iter().zip(&sum).map(|(w, sum)| (f64::from(*w) + scale * sum) as f32));
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_adds_the_scaled_product() {
        // W is 2 x 3, the rank 2.
        let weight = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let (a, b) = ([1.0, 0.0, 2.0, 0.0, 1.0, 1.0], [1.0, 2.0, 0.0, -1.0]);
        let merged = merge(&weight, [&a, &b], 3, 0.5);
        assert_eq!(merged, [1.5, 3.0, 5.0, 4.0, 4.5, 5.5]);
    }
}
