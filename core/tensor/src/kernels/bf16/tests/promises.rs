//! What holds bit for bit, for any sizes: threads, company in the batch, and hidden keys change nothing.

use proptest::prelude::*;

use super::*;
use crate::kernels::attention::Mask;
use crate::kernels::bf16::{Rotary, linear, llama_attention, llama_mlp, vit_attention, vit_mlp};
use crate::kernels::reference::{assert_same_on_any_threads, bits};

/// Every sub-layer, one output each; `x` starts with record number `first`.
fn run_all(engine: Engine, sizes: &Sizes, x: &[f32], first: usize) -> Vec<Vec<f32>> {
    let Sizes { tokens, .. } = *sizes;
    let batch = x.len() / sizes.record();
    let keep: Vec<f32> = (first..first + batch).map(|b| b as f32 * 0.7).collect();
    let visible: Vec<bool> = (first * tokens..(first + batch) * tokens).map(|j| j * 7 % 5 != 1).collect();
    let positions: Vec<u32> = (0..tokens as u32).collect();
    let rotary = Rotary::new(&positions, sizes.head_dim, 10_000.0);
    let mask = Mask::KeyPadding { keep: &visible, causal: true };
    let mut outputs = vec![vec![f32::NAN; x.len()]; 6];
    let [attention, normed_attention, mlp, llama, gated, dense] = &mut outputs[..] else { unreachable!() };
    vit_attention(engine, x, tokens, &vit_attention_weights(sizes, false), Some(&keep), attention);
    vit_attention(engine, x, tokens, &vit_attention_weights(sizes, true), None, normed_attention);
    vit_mlp(engine, x, tokens, &vit_mlp_weights(sizes), Some(&keep), mlp);
    llama_attention(engine, x, &llama_attention_weights(sizes), &rotary, mask, llama);
    llama_mlp(engine, x, &llama_mlp_weights(sizes), gated);
    let width = sizes.width();
    let square = PackedWeights::pack(&weights(width, width, 9), width, width);
    linear(engine, x, &square, None, dense);
    outputs
}

fn sizes() -> impl Strategy<Value = Sizes> {
    let parts = (1..4_usize, 1..65_usize, 1..4_usize, 1..12_usize, 1..70_usize);
    parts.prop_map(|(batch, tokens, heads, half, hidden)| Sizes {
        batch,
        tokens,
        heads,
        head_dim: 2 * half,
        hidden,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_record_does_not_depend_on_its_company(sizes in sizes()) {
        let x = sizes.input();
        for engine in engines() {
            let together = bits(&run_all(engine, &sizes, &x, 0));
            for (record, x) in x.chunks(sizes.record()).enumerate() {
                let alone = bits(&run_all(engine, &sizes, x, record));
                for (together, alone) in together.iter().zip(&alone) {
                    prop_assert_eq!(&together[record * sizes.record()..][..sizes.record()], &alone[..]);
                }
            }
        }
    }

    #[test]
    fn a_row_of_a_linear_layer_does_not_depend_on_its_company(
        (rows, inputs, outputs) in (1..120_usize, 1..90_usize, 1..70_usize),
        from in 0..120_usize,
    ) {
        let from = from % rows;
        let x = random(rows * inputs, 1);
        let w = PackedWeights::pack(&weights(outputs, inputs, 2), outputs, inputs);
        for engine in engines() {
            let run = |x: &[f32]| {
                let mut out = vec![f32::NAN; x.len() / inputs * outputs];
                linear(engine, x, &w, None, &mut out);
                bits(&[out]).remove(0)
            };
            let all = run(&x);
            prop_assert_eq!(&run(&x[from * inputs..])[..], &all[from * outputs..]);
        }
    }

    #[test]
    fn what_a_mask_hides_changes_nothing(sizes in sizes(), at in 0..65_usize) {
        let at = at % sizes.tokens;
        let (x, w) = (sizes.input(), llama_attention_weights(&sizes));
        let positions: Vec<u32> = (0..sizes.tokens as u32).collect();
        let rotary = Rotary::new(&positions, sizes.head_dim, 10_000.0);
        let mut other = x.clone();
        other[at * sizes.width()..][..sizes.width()].iter_mut().for_each(|x| *x = 1.0 - *x);
        let keep: Vec<bool> = (0..sizes.batch * sizes.tokens).map(|j| j != at).collect();
        for engine in engines() {
            let run = |x: &[f32], mask: Mask<'_>| {
                let mut out = vec![f32::NAN; x.len()];
                llama_attention(engine, x, &w, &rotary, mask, &mut out);
                bits(&[out]).remove(0)
            };
            let (before, hidden) = (at * sizes.width(), (at + 1) * sizes.width());
            let causal = [&x, &other].map(|x| run(x, Mask::Causal));
            prop_assert_eq!(&causal[0][..before], &causal[1][..before]);
            let padded = [&x, &other].map(|x| run(x, Mask::KeyPadding { keep: &keep, causal: false }));
            prop_assert_eq!(&padded[0][..before], &padded[1][..before]);
            prop_assert_eq!(&padded[0][hidden..], &padded[1][hidden..]);
        }
    }
}

#[test]
fn threads_do_not_change_bits() {
    for sizes in [
        Sizes { batch: 5, tokens: 17, heads: 4, head_dim: 24, hidden: 100 },
        Sizes { batch: 1, tokens: 130, heads: 2, head_dim: 10, hidden: 33 },
    ] {
        for engine in engines() {
            assert_same_on_any_threads(|| run_all(engine, &sizes, &sizes.input(), 0));
        }
    }
}

#[test]
fn a_query_that_sees_nothing_adds_nothing() {
    let sizes = Sizes { batch: 1, tokens: 15, heads: 2, head_dim: 4, hidden: 1 };
    let (x, w) = (sizes.input(), llama_attention_weights(&sizes));
    let rotary = Rotary::new(&[0; 15], 4, 10_000.0);
    let pattern: Vec<bool> = (0..15 * 15).map(|n| n / 15 != 13).collect();
    for engine in engines() {
        let mut out = vec![f32::NAN; x.len()];
        llama_attention(engine, &x, &w, &rotary, Mask::Pattern(&pattern), &mut out);
        assert_eq!(out[13 * 8..14 * 8], x[13 * 8..14 * 8]);
        assert_ne!(out[14 * 8..], x[14 * 8..]);
    }
}
