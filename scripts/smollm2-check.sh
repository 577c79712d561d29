#!/usr/bin/env bash
# Reads a real model's GGUF file and compares tensors with Python's package gguf, token ids with llama.cpp, and what the decoder
# computes and writes with transformers:
#   scripts/smollm2-check.sh [HEDDLE]
# Makes an environment of its own under target/ and fetches the model (93 MB); without Python or its packages, says so
# and ends well. The last part needs PyTorch: PYTHON names an interpreter with torch, transformers, accelerate, gguf and safetensors.
set -euo pipefail
cd "$(dirname "$0")/.."
heddle=${1:-target/debug/heddle}
venv=target/smollm2-venv
if ! [[ -x $venv/bin/python ]]; then
  python3 -m venv "$venv" >/dev/null 2>&1 || { echo 'LEFT OUT: no Python with venv here'; exit 0; }
fi
"$venv/bin/pip" install --quiet --disable-pip-version-check 'gguf==0.19.*' 'safetensors==0.*' numpy 'tokenizers==0.*' xllamacpp >/dev/null 2>&1 \
  || { echo 'LEFT OUT: the packages cannot be installed here'; exit 0; }
file=$(scripts/fetch-smollm2.sh) || { echo 'LEFT OUT: the model cannot be fetched'; exit 0; }
"$venv/bin/python" tests/smollm2/check.py "$heddle" "$file"
python=${PYTHON:-$venv/bin/python}
if "$python" -c 'import torch, transformers, accelerate, gguf, safetensors' >/dev/null 2>&1; then
  "$python" tests/smollm2/decoder.py "$heddle" "$file"
else
  echo "LEFT OUT: the decoder; $python has no torch, transformers, accelerate, gguf or safetensors"
fi
