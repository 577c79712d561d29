//! Modules against the official InternVL code, outputs and gradients, on both CPU backends.

use heddle_tensor::{Cpu, CpuF64};

use crate::support::{
    chat::{check_chat_mlp, check_chat_qllama},
    generative::{
        check_generate, check_internvl_g, check_losses, check_qllama, check_retrieval, check_stage2,
    },
    parity::{check_internvl_c, check_pool, check_positions, check_vit},
};

#[test]
fn vit_with_query_key_norm() {
    let worst = [check_vit(&Cpu::default(), "vit_qknorm"), check_vit(&CpuF64::default(), "vit_qknorm")];
    assert!(worst[0] < 1.0 && worst[1] < 1.0, "{worst:?}");
}

#[test]
fn vit_with_qkv_bias() {
    let worst = [check_vit(&Cpu::default(), "vit_plain"), check_vit(&CpuF64::default(), "vit_plain")];
    assert!(worst[0] < 1.0 && worst[1] < 1.0, "{worst:?}");
}

#[test]
fn position_embedding_resizes() {
    check_positions(&Cpu::default());
    check_positions(&CpuF64::default());
}

#[test]
fn attention_pooling() {
    check_pool(&Cpu::default());
    check_pool(&CpuF64::default());
}

#[test]
fn internvl_c() {
    check_internvl_c(&Cpu::default());
    check_internvl_c(&CpuF64::default());
}

#[test]
fn qllama() {
    check_qllama(&Cpu::default());
    check_qllama(&CpuF64::default());
}

#[test]
fn internvl_g() {
    check_internvl_g(&Cpu::default());
    check_internvl_g(&CpuF64::default());
}

#[test]
fn stage2() {
    check_stage2(&Cpu::default());
    check_stage2(&CpuF64::default());
}

#[test]
fn retrieval() {
    check_retrieval(&Cpu::default());
    check_retrieval(&CpuF64::default());
}

#[test]
fn losses() {
    check_losses(&Cpu::default());
    check_losses(&CpuF64::default());
}

#[test]
fn generation() {
    check_generate(&Cpu::default());
    check_generate(&CpuF64::default());
}

#[test]
fn chat_mlp() {
    check_chat_mlp(&Cpu::default());
    check_chat_mlp(&CpuF64::default());
}

#[test]
fn chat_qllama() {
    check_chat_qllama(&Cpu::default());
    check_chat_qllama(&CpuF64::default());
}
