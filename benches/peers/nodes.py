"""InternViT and LLaMA in PyTorch: the peer of `cargo bench -p heddle --bench nodes`, same shapes and arithmetic.

usage: python nodes.py NAME THREADS eager|compile
prints: seconds a call (best of several), MiB that the process grew from before the model was made
"""
import sys, time
import torch, torch.nn as nn, torch.nn.functional as F

name, threads, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(threads)
torch.manual_seed(0)
bf16 = name.endswith("bf16")


def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024


class VitBlock(nn.Module):
    def __init__(s, width, heads, mlp):
        super().__init__()
        s.heads = heads
        s.norm1, s.norm2, s.q_norm, s.k_norm = (nn.RMSNorm(width, eps=1e-6) for _ in range(4))
        s.qkv, s.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        s.fc1, s.fc2 = nn.Linear(width, mlp), nn.Linear(mlp, width)
        s.ls1, s.ls2 = nn.Parameter(0.1 * torch.ones(width)), nn.Parameter(0.1 * torch.ones(width))

    def forward(s, x):
        b, n, d = x.shape
        q, k, v = s.qkv(s.norm1(x)).chunk(3, dim=-1)
        q, k, v = (t.view(b, n, s.heads, d // s.heads).transpose(1, 2) for t in (s.q_norm(q), s.k_norm(k), v))
        x = x + s.ls1 * s.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        return x + s.ls2 * s.fc2(F.gelu(s.fc1(s.norm2(x))))


class Vit(nn.Module):
    def __init__(s, width=384, depth=12, heads=6, mlp=1536, patch=14, side=224):
        super().__init__()
        s.patch, s.cls = nn.Conv2d(3, width, patch, patch), nn.Parameter(torch.randn(1, 1, width) * 0.02)
        s.pos = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, width) * 0.02)
        s.blocks = nn.Sequential(*(VitBlock(width, heads, mlp) for _ in range(depth)))

    def forward(s, image):
        x = s.patch(image).flatten(2).transpose(1, 2)
        return s.blocks(torch.cat([s.cls.expand(len(x), -1, -1), x], 1) + s.pos)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


class Llama(nn.Module):
    """Embedding, one layer, final norm."""

    def __init__(s, width=512, heads=8, mlp=1376, vocab=1024, tokens=128):
        super().__init__()
        s.heads, s.embed = heads, nn.Embedding(vocab, width)
        s.norm1, s.norm2, s.norm = (nn.RMSNorm(width, eps=1e-6) for _ in range(3))
        s.q, s.k, s.v, s.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        s.gate, s.up = nn.Linear(width, mlp, bias=False), nn.Linear(width, mlp, bias=False)
        s.down = nn.Linear(mlp, width, bias=False)
        half = width // heads // 2
        angle = torch.arange(tokens)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        s.register_buffer("cos", torch.cat([angle, angle], -1).cos())
        s.register_buffer("sin", torch.cat([angle, angle], -1).sin())

    def forward(s, ids):
        x = s.embed(ids)
        b, n, d = x.shape
        y = s.norm1(x)
        q, k, v = (m(y).view(b, n, s.heads, d // s.heads).transpose(1, 2) for m in (s.q, s.k, s.v))
        y = F.scaled_dot_product_attention(rotate(q, s.cos, s.sin), rotate(k, s.cos, s.sin), v, is_causal=True)
        x = x + s.o(y.transpose(1, 2).reshape(b, n, d))
        y = s.norm2(x)
        return s.norm(x + s.down(F.silu(s.gate(y)) * s.up(y)))


rest = memory("VmRSS")
model = Vit() if name.startswith("vit") else Llama()
data = torch.rand(8, 3, 224, 224) * 2 - 1 if name.startswith("vit") else torch.randint(3, 1000, (16, 128))
if bf16:
    model = model.to(torch.bfloat16)
    data = data.to(torch.bfloat16) if data.is_floating_point() else data
run = torch.compile(model) if mode == "compile" else model

if "step" in name:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), weight_decay=0.1)

    def call():
        optimizer.zero_grad()
        run(data).mean(1).square().mean().backward()
        optimizer.step()
else:
    model.eval()

    def call():
        with torch.inference_mode():
            run(data)


call()
call()
best, calls = float("inf"), 0
warm = time.perf_counter()
while calls < 5 or (calls < 200 and time.perf_counter() - warm < 5):
    start = time.perf_counter()
    call()
    best = min(best, time.perf_counter() - start)
    calls += 1
print(best, memory("VmHWM") - rest)
