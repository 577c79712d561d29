#!/usr/bin/env python3
"""Compares heddle's LLaMA on SmolLM2's weights with `transformers`: logits, and greedy continuations of prompts.

    pip install torch transformers accelerate gguf safetensors numpy
    python3 decoder.py path/to/heddle path/to/SmolLM2-135M-Instruct.Q4_1.gguf

Both sides read the same GGUF file by themselves and compute in single precision on the processor: heddle with `weights.gguf` and
`graphs/language-model.toml`, `transformers` with its own reader (`gguf_file`), its own configuration and a cache. A third pass of
`transformers` in double precision says what rounding alone makes of the logits. heddle's greedy token after every row is that of
`transformers`, so continuations are the same; that cached decoding gives the bits of a whole pass is among heddle's own tests.
"""
import json, subprocess, sys, tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, logging

logging.disable_progress_bar()
HEDDLE, FILE = (Path(argument).resolve() for argument in sys.argv[1:3])
GRAPH = Path(__file__).resolve().parents[2] / "graphs/language-model.toml"
SIZES = {
    "params.vocab": 49152, "params.text-width": 576, "params.text-depth": 30, "params.text-heads": 9, "params.text-mlp-width": 1536,
    "nodes.llm.kv-heads": 3, "nodes.llm.eps": 1e-5, "nodes.llm.rope-base": 100000.0,
}
NEW = 32
# Largest difference of a logit from double precision, by which either side may be off.
ROUNDING = 2e-3


def chat(question):
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


PROMPTS = [
    chat("What is the capital of France?"), chat("Name three colours of the rainbow."), chat("Write one sentence about a cat."),
    "Once upon a time there was a", "def fibonacci(n):\n", "The chemical symbol of gold is",
]


def ours(folder, ids, lengths):
    (folder / "x.toml").write_text(f'schema = 1\n[nodes.smollm2]\nkind = "weights.gguf"\nfile = {json.dumps(str(FILE))}\n')
    subprocess.run([HEDDLE, "run", "x.toml", "--quiet"], check=True, cwd=folder)
    mask = np.zeros(ids.shape, np.int64)
    for row, length in zip(mask, lengths):
        row[:length] = 1
    save_file({"text": ids, "text.mask": mask}, folder / "in.safetensors")
    sizes = [part for key, value in SIZES.items() for part in ("-S", f"{key}={value}")]
    weights = next(folder.glob(".heddle/runs/*/artifacts/smollm2.weights.safetensors"))
    command = [HEDDLE, "apply", GRAPH, *sizes, "--weights", weights, "--inputs", "in.safetensors", "--output", "logits",
               "--out", "out.safetensors", "--quiet"]
    subprocess.run(command, check=True, cwd=folder)
    return load_file(folder / "out.safetensors")["logits"]


def main(folder):
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)  # spinning threads stand still where others use the processors
    where = {"pretrained_model_name_or_path": str(FILE.parent), "gguf_file": FILE.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()
    prompts = [tokenizer(text, add_special_tokens=False).input_ids for text in PROMPTS]
    # Without an end: rows after one are as good as any for a comparison.
    settings = {"do_sample": False, "max_new_tokens": NEW, "eos_token_id": None, "pad_token_id": 0, "repetition_penalty": 1.0}
    written = [model.generate(torch.tensor([ids]), **settings)[0].tolist() for ids in prompts]

    lengths = [len(ids) for ids in written]
    ids = np.zeros((len(written), max(lengths)), np.int64)
    for row, tokens in zip(ids, written):
        row[: len(tokens)] = tokens
    logits = ours(folder, ids, lengths)
    theirs = [model(torch.tensor([tokens])).logits[0].numpy() for tokens in written]
    model.double()
    exact = [model(torch.tensor([tokens])).logits[0].numpy() for tokens in written]

    def largest(left, right):
        return max(float(np.abs(a[: len(b)] - b).max()) for a, b in zip(left, right))

    between, own, other = largest(logits, theirs), largest(logits, exact), largest(theirs, exact)
    size = max(float(np.abs(rows).max()) for rows in exact)
    print(f"logits: {sum(lengths)} rows of {logits.shape[-1]}, up to {size:.1f}; largest difference from transformers {between:.2e};"
          f" from its double precision {own:.2e}, transformers' own {other:.2e}")
    assert own < ROUNDING and other < ROUNDING, "more than rounding"

    for text, tokens, prompt, rows in zip(PROMPTS, written, prompts, logits):
        greedy = rows[len(prompt) - 1 : len(tokens) - 1].argmax(-1).tolist()
        assert greedy == tokens[len(prompt) :], f"{text!r}\n  heddle       {tokenizer.decode(greedy)!r}\n  transformers {tokenizer.decode(tokens[len(prompt):])!r}"
        print(f"  {text!r} -> {tokenizer.decode(greedy)[:60]!r}..")
    print(f"greedy continuations: {len(PROMPTS)} prompts, {NEW} tokens each, equal")


with tempfile.TemporaryDirectory() as folder:
    main(Path(folder))
