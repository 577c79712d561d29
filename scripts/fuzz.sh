#!/usr/bin/env bash
# Runs every fuzz target for so many seconds (60), one after the other: scripts/fuzz.sh [seconds [target...]]
# Needs cargo-fuzz (`cargo install cargo-fuzz`) and a C++ compiler; the compiler's unstable flags are switched on here.
# What is found lies in tests/fuzz/artifacts/TARGET; the corpora, which are kept, in tests/fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
targets=("${@:-}")
[[ -n ${targets[0]} ]] || targets=(tar config answers manifest bundle)
export RUSTC_BOOTSTRAP=1

for target in "${targets[@]}"; do
  printf '\n== %s, %s s\n' "$target" "$seconds"
  folders=("tests/fuzz/corpus/$target" "tests/fuzz/seeds/$target")
  mkdir -p "${folders[0]}"
  # What the repository has anyway.
  [[ $target != config ]] || folders+=(experiments graphs tests/experiments tests/graphs tests/invalid)
  options=("-max_total_time=$seconds" -rss_limit_mb=2048 -timeout=20 -print_final_stats=1)
  [[ ! -f tests/fuzz/dict/$target ]] || options+=("-dict=tests/fuzz/dict/$target")
  cargo fuzz run --fuzz-dir tests/fuzz "$target" "${folders[@]}" -- "${options[@]}"
done
