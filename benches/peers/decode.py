"""Greedy decoding of a LLaMA with `transformers`: the peer of `cargo bench -p heddle --bench decode`, same weights and prompts.

usage: python decode.py WEIGHTS.safetensors BATCH PROMPT NEW THREADS loop|generate
prints: seconds of the tokens after the prompts' own (best of two; processor time on one thread), and the tokens

`loop` is a bare loop over the model with its cache, which does less than `generate`. The prompt is read before the clock starts;
for `generate` the time of a call that writes one token is taken off.
"""
import sys, time
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

weights, batch, prompt, new, threads, mode = sys.argv[1], *map(int, sys.argv[2:6]), sys.argv[6]
clock = time.process_time if threads == 1 else time.perf_counter
torch.set_num_threads(threads)
torch.set_grad_enabled(False)
config = LlamaConfig(
    vocab_size=49152, hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, intermediate_size=1536,
    rms_norm_eps=1e-5, rope_theta=100000.0, rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
    max_position_embeddings=8192, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None, pad_token_id=0,
)
model = LlamaForCausalLM(config).eval()
model.load_state_dict(load_file(weights))
ids = torch.tensor([[1000 + (r * 7919 + p * 104_729) % 40_000 for p in range(prompt)] for r in range(batch)])


def loop():
    out = model(ids, use_cache=True, logits_to_keep=1)
    token, written = out.logits[:, -1].argmax(-1, keepdim=True), []
    cache = out.past_key_values
    start = clock()
    for _ in range(new - 1):
        written.append(token)
        out = model(token, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        token = out.logits[:, -1].argmax(-1, keepdim=True)
    written.append(token)
    return clock() - start, torch.cat(written, 1)


def generate():
    seconds = []
    for count in (1, new):
        start = clock()
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, min_new_tokens=count)
        seconds.append(clock() - start)
    return seconds[1] - seconds[0], out[:, prompt:]


once = {"loop": loop, "generate": generate}[mode]
once()
seconds, tokens = min((once() for _ in range(2)), key=lambda measured: measured[0])
print(seconds, ",".join(str(token) for token in tokens.flatten().tolist()))
