#!/usr/bin/env python3
"""Compares what heddle reads from SmolLM2's GGUF file with what others read: tensors with the Python package `gguf`, token
ids with llama.cpp.

    pip install gguf safetensors numpy tokenizers xllamacpp
    python3 check.py path/to/heddle path/to/SmolLM2-135M-Instruct.Q4_1.gguf

All tensors are compared, bit for bit. The rows of q and k are brought into the order of the file by llama.cpp's own
`permute`, so that the comparison does not repeat heddle's. heddle's tokenizer is a `tokenizer.json`, and the package `tokenizers` runs it.
"""
import json, subprocess, sys, tempfile, urllib.request
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
TEXTS = [
    "Hello world", " Hello  world ", "hello, World! It's the dog's; they're we've I'm you'll he'd IT'S", "", " ", "  ", "    ", "\n",
    "\n\n\n", " \n ", "\t\tx\t", "a\r\nb\r\n", "x  \n  y", "trailing   ", "   leading", "3", "42", "1234567890", "3.14159e-10",
    "x1y22z333", "12,345.67 $", "2024-12-31T23:59:59Z", "½ ² ³ Ⅷ ٣٤٥ 五 ①", "naïve café Zürich", "cafe\u0301", "Ελληνικά", "Привет, мир 2024!",
    "你好，世界。", "これは猫です", "고양이", "هذا قط صغير", "שלום", "हिन्दी पाठ", "ภาษาไทย", "🐈", "👩‍👩‍👧‍👦 family", "🇮🇹 flag ☃️", "\u00a0nbsp\u3000ideographic",
    "\u200bzero\u200d\ufeff", "def f(x):\n    return x ** 2  # square\n", "for (int i = 0; i < 10; ++i) { a[i] += b; }", "https://example.org/a?b=c&d=%20",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|endoftext|>", "<file_sep>x<repo_name>", "<|im_start", "a<|im_end|>b", "_____ ---- ====",
    "ALLCAPS MiXeD camelCase snake_case", "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis", "\U0001d54f math \U00010348",
    "\x00\x01\x7f control", "“quotes” – dash … ‘single’", "it’s don’t", "a" * 200, "word " * 50, "summarize: a small cat on a red mat",
]


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


def token_ids(folder):
    import xllamacpp
    from tokenizers import Tokenizer

    (folder / "y.toml").write_text(f'schema = 1\n[nodes.smollm2]\nkind = "text.gguf"\nfile = {json.dumps(str(FILE))}\n')
    subprocess.run([HEDDLE, "run", "y.toml", "--quiet"], check=True, cwd=folder)
    ours = Tokenizer.from_file(str(next(folder.glob(".heddle/runs/*/artifacts/smollm2.tokenizer.json"))))
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.warmup = str(FILE), 256, False
    server = xllamacpp.Server(settings)

    def llama_cpp(text):
        body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
        request = urllib.request.Request(f"{server.listening_address}/tokenize", body, {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request))["tokens"]

    different = [(text, ours.encode(text).ids, llama_cpp(text)) for text in TEXTS]
    count = sum(len(theirs) for _, _, theirs in different)
    different = [(text, mine, theirs) for text, mine, theirs in different if mine != theirs]
    for text, mine, theirs in different:
        print(f"{text!r}\n  heddle    {mine}\n  llama.cpp {theirs}")
    assert not different, f"{len(different)} of {len(TEXTS)} texts differ"
    assert all(ours.decode(ours.encode(text).ids, skip_special_tokens=False) == text for text in TEXTS)
    print(f"token ids: {len(TEXTS)} texts, {count} ids, equal")


with tempfile.TemporaryDirectory() as folder:
    weights(Path(folder))
    token_ids(Path(folder))
