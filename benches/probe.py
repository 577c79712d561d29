"""A linear probe of ten epochs on a frozen InternViT, in one run, as a ratio against PyTorch.

    python benches/probe.py HEDDLE

The peer does what open_clip does with a locked image tower: no gradient goes through it, and it runs again on every batch of every epoch.
Its pictures lie decoded in memory before the clock starts. heddle's time is that of the stage in the run's record: it decodes the
pictures, runs the tower once for each, writes what came out, and trains. Both have the same shapes, two threads, f32, AdamW and as many
steps; weights are random, since time does not depend on what a model has learnt.
"""

import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from lab import REPOSITORY, lab

EPOCHS, BATCH, CLASSES, THREADS = 10, 96, 8, 2
SIZE, PATCH, HEADS = 32, 4, 6

EXPERIMENT = f"""
schema = 1
run = {{ threads = {THREADS} }}
[params]
image-size = {SIZE}
patch = {PATCH}
width = WIDTH
depth = DEPTH
heads = {HEADS}
mlp-width = MLP
text-width = 32
text-depth = 1
text-heads = 2
text-mlp-width = 64
text-length = 8
vocab = 512
embed = 32
pool-heads = {HEADS}
classes = {CLASSES}

[nodes.pairs]
kind = "data.webdataset"
shards = "embedded:emoji/train-*.tar"
image = {{ size = {SIZE} }}

[nodes.bpe]
kind = "text.bpe"
in = "pairs"
vocab = 512

[nodes.base]
kind = "train"
graph = "{REPOSITORY}/graphs/internvl-c.toml"
in = {{ records = "pairs", tokenizer = "bpe" }}
loss = {{ itc = 1.0 }}
steps = 1
batch = 8

[nodes.probe]
kind = "train"
graph = "{REPOSITORY}/graphs/linear-probe.toml"
in = {{ records = "pairs" }}
weights = {{ vit = "base" }}
train = ["head"]
loss = {{ ce = 1.0 }}
labels = {{ column = "group", classes = ["Activities", "Animals & Nature", "Food & Drink", "Objects", "People & Body", "Smileys & Emotion", "Symbols", "Travel & Places"] }}
optimizer = {{ kind = "adamw", lr = 1e-3 }}
steps = STEPS
batch = {BATCH}
log-every = 1000
"""


class Block(nn.Module):
    def __init__(self, width, mlp):
        super().__init__()
        self.norm1, self.norm2, self.q_norm, self.k_norm = (nn.RMSNorm(width, eps=1e-6) for _ in range(4))
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, mlp), nn.Linear(mlp, width)
        self.ls1, self.ls2 = nn.Parameter(0.1 * torch.ones(width)), nn.Parameter(0.1 * torch.ones(width))

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        q, k, v = (t.view(b, n, HEADS, d // HEADS).transpose(1, 2) for t in (self.q_norm(q), self.k_norm(k), v))
        x = x + self.ls1 * self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        return x + self.ls2 * self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Vit(nn.Module):
    def __init__(self, width, depth, mlp):
        super().__init__()
        tokens = 1 + (SIZE // PATCH) ** 2
        self.patch, self.cls = nn.Conv2d(3, width, PATCH, PATCH), nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.blocks = nn.Sequential(*(Block(width, mlp) for _ in range(depth)))

    def forward(self, image):
        x = self.patch(image).flatten(2).transpose(1, 2)
        return self.blocks(torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos)


def peer(count, width, depth, mlp, steps):
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    images, labels = torch.rand(count, 3, SIZE, SIZE), torch.randint(CLASSES, (count,))
    tower, head = Vit(width, depth, mlp).eval().requires_grad_(False), nn.Linear(width, CLASSES)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    start = time.perf_counter()
    order = torch.cat([torch.randperm(count) for _ in range(EPOCHS + 1)])
    for step in range(steps):
        rows = order[step * BATCH : (step + 1) * BATCH]
        with torch.no_grad():
            features = tower(images[rows]).mean(1)
        optimizer.zero_grad()
        F.cross_entropy(head(features), labels[rows]).backward()
        optimizer.step()
    return time.perf_counter() - start


def compare(width, depth):
    mlp, count = 4 * width, 3482
    steps = EPOCHS * count // BATCH
    words = {"WIDTH": width, "DEPTH": depth, "MLP": mlp, "STEPS": steps}
    with lab(EXPERIMENT, words) as bench:
        bench.run("base")
        first = bench.run("probe")
        again = bench.run("probe", "-S", "nodes.probe.optimizer.lr=2e-3")
    (counts,) = first["rows"].values()
    assert counts["hit"] == 0, counts
    theirs = peer(count, width, depth, mlp, steps)
    print(
        f"InternViT of width {width}, depth {depth}, {1 + (SIZE // PATCH) ** 2} tokens; {count} pictures, {EPOCHS} epochs of batches of {BATCH}: "
        f"heddle {first['seconds']:.2f} s, PyTorch {torch.__version__} {theirs:.2f} s: {theirs / first['seconds']:.1f} x; "
        f"another learning rate, all rows there: {again['seconds']:.2f} s: {theirs / again['seconds']:.0f} x",
        flush=True,
    )


compare(96, 4)
compare(192, 12)
