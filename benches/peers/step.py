"""The quickstart's training step in PyTorch eager: same shapes, same dtype, 2 threads. Prints seconds a step.

usage: python step.py BATCH TOKENS STEPS        (called by `cargo bench -p heddle --bench step`)
"""
import math, sys, time
import torch, torch.nn as nn, torch.nn.functional as F

BATCH, TOKENS, STEPS = map(int, sys.argv[1:4])
torch.set_num_threads(2)
torch.manual_seed(0)
WIDTH, HEADS, MLP, DEPTH, PATCH, SIDE, VOCAB, TEXT_MLP, EMBED = 96, 4, 384, 4, 8, 32, 4096, 256, 128


class VitBlock(nn.Module):
    def __init__(s):
        super().__init__()
        s.norm1, s.norm2, s.q_norm, s.k_norm = (nn.RMSNorm(WIDTH, eps=1e-6) for _ in range(4))
        s.qkv, s.proj = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)
        s.fc1, s.fc2 = nn.Linear(WIDTH, MLP), nn.Linear(MLP, WIDTH)
        s.ls1, s.ls2 = nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.ones(WIDTH))

    def forward(s, x):
        b, n, d = x.shape
        q, k, v = s.qkv(s.norm1(x)).chunk(3, dim=-1)
        q, k, v = (t.view(b, n, HEADS, d // HEADS).transpose(1, 2) for t in (s.q_norm(q), s.k_norm(k), v))
        x = x + s.ls1 * s.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        return x + s.ls2 * s.fc2(F.gelu(s.fc1(s.norm2(x))))


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


class LlamaBlock(nn.Module):
    def __init__(s):
        super().__init__()
        s.norm1, s.norm2 = nn.RMSNorm(WIDTH, eps=1e-6), nn.RMSNorm(WIDTH, eps=1e-6)
        s.q, s.k, s.v, s.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        s.gate, s.up = nn.Linear(WIDTH, TEXT_MLP, bias=False), nn.Linear(WIDTH, TEXT_MLP, bias=False)
        s.down = nn.Linear(TEXT_MLP, WIDTH, bias=False)
        half = WIDTH // HEADS // 2
        angle = torch.arange(TOKENS)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        s.cos, s.sin = torch.cat([angle, angle], -1).cos(), torch.cat([angle, angle], -1).sin()

    def forward(s, x):
        b, n, d = x.shape
        y = s.norm1(x)
        q, k, v = (m(y).view(b, n, HEADS, d // HEADS).transpose(1, 2) for m in (s.q, s.k, s.v))
        y = F.scaled_dot_product_attention(rotate(q, s.cos, s.sin), rotate(k, s.cos, s.sin), v, is_causal=True)
        x = x + s.o(y.transpose(1, 2).reshape(b, n, d))
        y = s.norm2(x)
        return x + s.down(F.silu(s.gate(y)) * s.up(y))


class Model(nn.Module):
    def __init__(s):
        super().__init__()
        tokens = (SIDE // PATCH) ** 2 + 1
        s.patch, s.cls = nn.Conv2d(3, WIDTH, PATCH, PATCH), nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        s.pos = nn.Parameter(torch.randn(1, tokens, WIDTH) * 0.02)
        s.vit = nn.Sequential(*(VitBlock() for _ in range(DEPTH)))
        s.flat = nn.Linear(tokens * WIDTH, EMBED)
        s.embed, s.text, s.norm = nn.Embedding(VOCAB, WIDTH), LlamaBlock(), nn.RMSNorm(WIDTH, eps=1e-6)
        s.projection = nn.Parameter(torch.randn(WIDTH, EMBED) * 0.02)
        s.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(s, image, ids):
        x = s.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([s.cls.expand(len(x), -1, -1), x], 1) + s.pos
        image = F.normalize(s.flat(s.vit(x).flatten(1)), dim=-1)
        text = F.normalize(s.norm(s.text(s.embed(ids)))[:, -1] @ s.projection, dim=-1)
        logits, target = s.scale.exp() * image @ text.T, torch.arange(len(image))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.1)
image, ids = torch.rand(BATCH, 3, SIDE, SIDE) * 2 - 1, torch.randint(3, VOCAB, (BATCH, TOKENS))


def step():
    optimizer.zero_grad()
    model(image, ids).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


for _ in range(3):
    step()
start = time.perf_counter()
for _ in range(STEPS):
    step()
print((time.perf_counter() - start) / STEPS)
