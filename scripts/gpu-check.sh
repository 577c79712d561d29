#!/bin/sh
# Checks heddle on the GPU of this machine and measures it, in one command and a few minutes (at most ten).
#
#   scripts/build-cuda.sh && scripts/gpu-check.sh          (the two may run on different machines: carry target/cuda)
#
# 1. every operation, module, loss and optimiser step against the CPU, in f32, tf32, bf16 and f16
# 2. the quickstart's smoke run on the GPU
# 3. a few steps of every stage of three-stages.toml, then captions and answers, on the GPU
# 4. InternViT-6B forward at 224 pixels, random weights, bf16, f16 and tf32, batch 1, 32 and 128, and the same in PyTorch
#    (bf16, SDPA) where PyTorch is installed
#
# The driver's libcuda has to be there; libnvrtc, libcublas and libcublasLt of the CUDA version that build-cuda.sh was
# told are taken from a toolkit or from Python's nvidia-* packages. The report goes to standard output.
set -u
cd "$(dirname "$0")/.."
built=$(cd "${CARGO_TARGET_DIR:-target}/cuda" 2>/dev/null && pwd)
python=${PYTHON:-python3}
[ -x "$built/heddle" ] && [ -x "$built/check" ] || { echo "run scripts/build-cuda.sh first" >&2; exit 1; }

wheels=$("$python" -c 'import glob, os, sys
print(":".join(sorted({os.path.dirname(p) for d in sys.path if d for p in glob.glob(d + "/nvidia/*/lib/lib*.so*")})))' \
    2>/dev/null || true)
toolkit=${CUDA_PATH:-/usr/local/cuda}
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}${wheels:+$wheels:}$toolkit/lib64:/usr/local/nvidia/lib64"
missing=$(ldd "$built/heddle" | grep 'not found' || true)
[ -z "$missing" ] || { echo "libraries are missing:"; echo "$missing"; exit 1; } >&2

status=0
step() { printf '\n== %s (%s s)\n' "$1" "$(($(date +%s) - started))"; }
started=$(date +%s)

step 'device'
nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv,noheader 2>/dev/null || echo unknown

step 'correctness against the CPU'
(cd core/tensor && timeout 150 "$built/check") || status=1

step 'quickstart, smoke setting, on the GPU'
home=$(mktemp -d)
timeout 90 "$built/heddle" run experiments/quickstart.toml --home "$home" -S params.steps=30 -S run.device=cuda:0 \
    --quiet || status=1

step 'three stages, a few steps of each, on the GPU'
few=
for stage in words stage1 stage2 talk align stage3; do few="$few -S nodes.$stage.steps=20"; done
# shellcheck disable=SC2086 # one word each
timeout 120 "$built/heddle" run experiments/three-stages.toml --home "$home" $few -S run.device=cuda:0 --quiet || status=1
rm -rf "$home"

step 'InternViT-6B, 224 pixels, random weights'
(cd core/tensor && timeout 120 "$built/check" --ignored --nocapture speed) || status=1
if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    timeout 90 "$python" benches/peers/internvit_6b.py || status=1
else
    echo 'no PyTorch with CUDA here: no ratio'
fi

step 'done'
exit $status
