#!/usr/bin/env python3
"""Compares what heddle reads from SmolLM2's GGUF file with what the Python package `gguf` reads.

    pip install gguf safetensors numpy
    python3 check.py path/to/heddle path/to/SmolLM2-135M-Instruct.Q4_1.gguf

All tensors are compared, bit for bit. The rows of q and k are brought into the order of the file by llama.cpp's own
`permute`, so that the comparison does not repeat heddle's.
"""
import json, subprocess, sys, tempfile
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

HEDDLE, FILE = (Path(argument).resolve() for argument in sys.argv[1:3])
HEADS = {"attn_q": 9, "attn_k": 3}
NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}


def permute(weights, heads):
    """`LlamaModel.permute` of convert_hf_to_gguf.py."""
    shape = weights.shape
    return weights.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def weights(folder):
    (folder / "x.toml").write_text(f'schema = 1\n[nodes.smollm2]\nkind = "weights.gguf"\nfile = {json.dumps(str(FILE))}\n')
    subprocess.run([HEDDLE, "run", "x.toml"], check=True, cwd=folder)
    found = load_file(next(folder.glob(".heddle/runs/*/artifacts/smollm2.weights.safetensors")))
    types, elements = {}, 0
    for tensor in gguf.GGUFReader(FILE).tensors:
        *block, name, _ = tensor.name.split(".")
        key = f"model.layers.{block[1]}.{NAMES[name]}.weight" if block else f"{NAMES[name]}.weight"
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        ours = found.pop(key)
        if name in HEADS:
            assert not np.array_equal(ours, expected.reshape(ours.shape))
            ours = permute(ours, HEADS[name])
        assert np.array_equal(ours.view(np.uint32), expected.reshape(ours.shape).view(np.uint32)), tensor.name
        if name == "token_embd":
            assert np.array_equal(found.pop("lm_head.weight"), ours)
        types[tensor.tensor_type.name] = types.get(tensor.tensor_type.name, 0) + 1
        elements += ours.size
    assert not found, found.keys()
    print(f"weights: {sum(types.values())} tensors, {elements} elements, equal bit for bit: {types}")


with tempfile.TemporaryDirectory() as folder:
    weights(Path(folder))
