#!/bin/sh
# Builds heddle for NVIDIA GPUs, with or without a CUDA toolkit on this machine.
#
#   scripts/build-cuda.sh              -> target/cuda/heddle and target/cuda/check (the GPU's own tests)
#   CUDA_MAJOR=12 scripts/build-cuda.sh   for a machine whose libraries are those of CUDA 12; default 13
#
# Nothing of CUDA is compiled here: heddle's kernels are compiled for the GPU at hand when they are first used (NVRTC),
# and dfdx's own are never launched, so that its `ci-check` switch may leave them out. The linker only has to learn the
# names of four libraries, from stubs made of cudarc's declarations. At run time the real ones have to be found, also to
# compute on the processor: libcuda (the driver), libnvrtc, libcublas, libcublasLt (a toolkit, or the PyPI packages
# nvidia-cuda-nvrtc and nvidia-cublas; see scripts/gpu-check.sh).
set -eu
cd "$(dirname "$0")/.."
major=${CUDA_MAJOR:-13}
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/cuda/stubs"
stubs=$(cd "$target/cuda/stubs" && pwd)

# What cudarc declares, and where its sources are.
cudarc=$(cargo metadata --format-version 1 --locked | grep -o '"manifest_path":"[^"]*/cudarc-[^"]*"' | cut -d'"' -f4)
[ -n "$cudarc" ] || { echo "cargo metadata does not know of cudarc" >&2; exit 1; }
bindings=$(dirname "$cudarc")/src

# A library with the right names and no code: its name, its soname, the sources that declare its functions.
stub() {
    name=$1 soname=$2
    shift 2
    (cd "$bindings" && cat "$@") | grep -oE 'pub fn (cu|nvrtc)[A-Za-z0-9_]+' | sort -u |
        sed 's/pub fn \(.*\)/int \1(void) { return 999; }/' |
        cc -x c - -shared -fPIC -Wl,-soname,"$soname" -o "$stubs/lib$name.so"
}
stub cuda libcuda.so.1 driver/sys.rs
stub nvrtc "libnvrtc.so.$major" nvrtc/sys.rs
stub cublas "libcublas.so.$major" cublas/sys.rs cublas/half.rs
stub cublasLt "libcublasLt.so.$major" cublaslt/sys.rs

# Builds one binary and prints its path; the linker's arguments are for it alone.
binary() {
    cargo rustc --release --locked "$@" --message-format=json-render-diagnostics -- -L native="$stubs" \
        -C link-arg=-lcuda -C link-arg=-lnvrtc -C link-arg=-lcublas -C link-arg=-lcublasLt |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1
}
heddle=$(binary -p heddle --bin heddle --features cuda)
[ -n "$heddle" ] || { echo "heddle did not build" >&2; exit 1; }
check=$(binary -p heddle-tensor --test cuda --features cuda)
[ -n "$check" ] || { echo "the GPU's tests did not build" >&2; exit 1; }
strip -o "$target/cuda/heddle" "$heddle"
strip -o "$target/cuda/check" "$check"
echo "built $target/cuda/heddle and $target/cuda/check for CUDA $major"
