"""InternViT-6B's blocks in PyTorch on a GPU: the peer of `scripts/gpu-check.sh`, same shapes and arithmetic.

Blocks are alike, so two of them stand for all 48. bf16 weights and activations, scaled_dot_product_attention, eager;
medians of 11 calls. Prints ms a block and TFLOP/s (two operations for each multiply-add).
"""
import statistics, time
import torch, torch.nn as nn, torch.nn.functional as F

WIDTH, HEADS, MLP, DEPTH, TOKENS, PATCH = 3200, 25, 12800, 2, 257, 14


class Block(nn.Module):
    def __init__(s):
        super().__init__()
        s.norm1, s.norm2, s.q_norm, s.k_norm = (nn.RMSNorm(WIDTH, eps=1e-6) for _ in range(4))
        s.qkv, s.proj = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)
        s.fc1, s.fc2 = nn.Linear(WIDTH, MLP), nn.Linear(MLP, WIDTH)
        s.ls1, s.ls2 = nn.Parameter(0.1 * torch.ones(WIDTH)), nn.Parameter(0.1 * torch.ones(WIDTH))

    def forward(s, x):
        b, n, d = x.shape
        q, k, v = s.qkv(s.norm1(x)).chunk(3, dim=-1)
        q, k, v = (t.view(b, n, HEADS, d // HEADS).transpose(1, 2) for t in (s.q_norm(q), s.k_norm(k), v))
        x = x + s.ls1 * s.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        return x + s.ls2 * s.fc2(F.gelu(s.fc1(s.norm2(x))))


class Vit(nn.Module):
    def __init__(s):
        super().__init__()
        s.patch, s.cls = nn.Conv2d(3, WIDTH, PATCH, PATCH), nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        s.pos = nn.Parameter(torch.randn(1, TOKENS, WIDTH) * 0.02)
        s.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))

    def forward(s, image):
        x = s.patch(image).flatten(2).transpose(1, 2)
        return s.blocks(torch.cat([s.cls.expand(len(x), -1, -1), x], 1) + s.pos)


def seconds(call):
    times = []
    for _ in range(14):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])


if not torch.cuda.is_available():
    raise SystemExit("no CUDA device")
torch.manual_seed(0)
model = Vit().to("cuda", torch.bfloat16).eval()
linear = TOKENS * (4 * WIDTH * WIDTH + 2 * WIDTH * MLP)
macs = DEPTH * (linear + 2 * (TOKENS - 1) ** 2 * WIDTH) + (TOKENS - 1) * 3 * PATCH * PATCH * WIDTH
for batch in (1, 32, 128):
    image = torch.rand(batch, 3, 224, 224, device="cuda", dtype=torch.bfloat16)
    with torch.inference_mode():
        time_taken = seconds(lambda: model(image))
    rate = 2 * macs * batch / time_taken / 1e12
    print(f"PyTorch {torch.__version__} Bf16 batch {batch:3} forward      {1e3 * time_taken / DEPTH:8.3f} ms a block, {rate:6.1f} TFLOP/s")
