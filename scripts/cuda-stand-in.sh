#!/bin/sh
# Tests the CUDA backend without a GPU and without a toolkit: the kernels run on the host.
#
# Builds stand-ins for the four CUDA libraries (see core/tensor/stand-in), tests them, then builds and runs
# heddle-tensor's unit tests of backend::cuda and its tests/cuda.rs against them. Arguments go to the latter:
# `scripts/cuda-stand-in.sh attention`.
# With HEDDLE_STAND_IN_ORDER=reverse threads run in the other order, which brings out missing barriers.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "$1" >&2
    exit 1
}

command -v g++ >/dev/null || fail "the CUDA stand-in compiles kernels for the host and needs g++, version 10 or later"

source=$(pwd)/core/tensor/stand-in
mkdir -p "${CARGO_TARGET_DIR:-target}/stand-in"
libraries=$(cd "${CARGO_TARGET_DIR:-target}/stand-in" && pwd)
# cudarc's declarations name what the libraries have to offer.
cudarc=$(cargo metadata --format-version 1 | grep -o '"manifest_path":"[^"]*/cudarc-[^"]*"' | cut -d'"' -f4)
[ -n "$cudarc" ] || fail "cargo metadata does not know of cudarc, which heddle-tensor's feature cuda needs"
bindings=$(dirname "$cudarc")/src

# One library: its name and soname, the sources with cudarc's declarations of it, then what it is made of. What is
# declared and not defined answers that it is not supported.
library() {
    name=$1 soname=$2 declarations=$3
    shift 3
    {
        echo 'extern "C" {'
        echo 'int stand_in_unsupported(const char*);'
        (cd "$bindings" && cat $declarations) | grep -oE 'pub fn (cu|nvrtc)[A-Za-z0-9_]+' | sort -u |
            sed 's/pub fn \(.*\)/__attribute__((weak)) int \1() { return stand_in_unsupported("\1"); }/'
        echo '}'
    } > "$libraries/$name-rest.cpp"
    g++ -std=c++17 -O2 -g1 -Wall -Wextra -fPIC -shared -Wl,-Bsymbolic -Wl,-soname,"$soname" \
        -DSTAND_IN_SOURCE="\"$source\"" -o "$libraries/$soname" "$libraries/$name-rest.cpp" "$@" -ldl -lpthread
    ln -sf "$soname" "$libraries/lib$name.so"
}

build() {
    (
        cd "$source"
        library cuda libcuda.so.1 driver/sys.rs driver.cpp driver_memory.cpp driver_modules.cpp block.cpp memory.cpp trace.cpp
        library nvrtc libnvrtc.so.13 nvrtc/sys.rs nvrtc.cpp
        library cublas libcublas.so.13 "cublas/sys.rs cublas/half.rs" cublas.cpp
        library cublasLt libcublasLt.so.13 cublaslt/sys.rs cublaslt.cpp product.cpp -L"$libraries" -lcuda
        g++ -std=c++17 -O1 -Wall -Wextra -DSTAND_IN_SOURCE="\"$source\"" -o "$libraries/self-test" self_test.cpp \
            -L"$libraries" -lcuda -lnvrtc -lcublasLt
    )
}

export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

wanted=$(cat "$source"/* scripts/cuda-stand-in.sh "$bindings"/*/sys.rs | cksum)
if [ "$wanted" != "$(cat "$libraries/stamp" 2>/dev/null)" ]; then
    build
    echo "$wanted" > "$libraries/stamp"
fi
"$libraries/self-test"

# Builds one test binary of heddle-tensor and prints its path. `cargo rustc` gives the linker's arguments to it alone;
# RUSTFLAGS would rebuild everything.
test_binary() {
    cargo rustc -p heddle-tensor --features cuda "$@" --message-format=json-render-diagnostics -- \
        -L native="$libraries" -C link-arg=-lcuda -C link-arg=-lnvrtc -C link-arg=-lcublas -C link-arg=-lcublasLt |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1
}

unit_tests=$(test_binary --lib --profile test)
tests=$(test_binary --test cuda)
[ -n "$unit_tests" ] && [ -n "$tests" ] || fail "the tests did not build"
cd core/tensor
"$unit_tests" backend::cuda
exec "$tests" "$@"
