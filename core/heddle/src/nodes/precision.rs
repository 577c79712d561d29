//! The attribute `precision` of nodes that compute on tensors.

use heddle_graph::config::Reader;
use heddle_tensor::Precision;

/// Reads `precision`. It changes results, so that it is part of the key.
pub fn read(r: &mut Reader<'_>) -> Precision {
    r.choice(
        "precision",
        "what the operands of matrix products and of attention are rounded to; sums, norms, losses and weights stay f32",
        &[
            ("f32", Precision::F32, "single precision"),
            ("tf32", Precision::Tf32, "as a GPU's tensor cores round f32; GPU only"),
            ("bf16", Precision::Bf16, "16 bits; GPU, or frozen towers on a processor with avx512_bf16"),
            ("f16", Precision::F16, "16 bits with more digits and less range; GPU only"),
        ],
    )
    .or("f32")
}

/// Bytes that a frozen parameter takes: in bf16 the processor keeps the original beside the packed copy.
pub fn bytes(precision: Precision) -> u64 {
    if precision == Precision::Bf16 { 6 } else { 4 }
}
