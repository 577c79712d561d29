#!/usr/bin/env bash
# Builds the example plugins into plugins/prebuilt and writes its MANIFEST. With --check: builds them elsewhere and compares;
# bytes have to be equal if the compiler is the one that the MANIFEST names, else it is enough that everything builds.
# `caption-rule` is the template for C under that name; without a clang for WebAssembly it is left as it is.
#
# Needs a Rust compiler for wasm32-unknown-unknown: `rustup target add wasm32-unknown-unknown`, or Debian's rustc-web and
# rust-web-src, which come without that target's library, so that it is built too.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
out=plugins/prebuilt
if [[ ${1-} == --check ]]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"

target=wasm32-unknown-unknown
build=(cargo build --quiet --release --locked --target "$target")
sysroot=$(rustc --print sysroot)
if [[ ! -d $sysroot/lib/rustlib/$target ]]; then
  if [[ ! -d /usr/src/rustc-$(/usr/bin/rustc --version 2>/dev/null | cut -d' ' -f2)/library/std ]]; then
    echo 'no compiler for wasm32-unknown-unknown here: `rustup target add wasm32-unknown-unknown`, or on Debian' >&2
    echo '`apt install rustc-web rust-web-src`' >&2
    exit 3
  fi
  export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
  host=$(rustc --version --verbose | sed -n 's/^host: //p')
  export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$sysroot/lib/rustlib/$host/bin/rust-lld
  build+=(-Zbuild-std=std,panic_abort)
fi
compiler=$("${RUSTC:-rustc}" --version)
# Paths in messages of panics must not depend on where this lies.
src=$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/src
export RUSTFLAGS="--remap-path-prefix=$root=/heddle --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$src=/rust --remap-path-prefix=$(readlink -f "$src/rust" 2>/dev/null || echo "$src")=/rust"
export CARGO_TARGET_DIR=$root/plugins/target

# What a plugin is made of, as one digest.
source_digest() {
  (cd plugins && find "$@" wit/0.1 -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
}

manifest=$out/MANIFEST.toml
{
  echo '# Written by scripts/plugins-build.sh: what each file was built from, and by which compiler.'
  echo "compiler = \"$compiler\""
} > "$manifest"
for folder in plugins/examples/*/; do
  name=$(basename "$folder")
  [[ -f $folder/Cargo.toml ]] || continue
  # One by one: the SDK's features say what a plugin is.
  (cd plugins && "${build[@]}" -p "$name")
  cp "plugins/target/$target/release/${name//-/_}.wasm" "$out/$name.wasm"
  {
    echo
    echo "[$name]"
    echo "sha256 = \"$(sha256sum "$out/$name.wasm" | cut -d' ' -f1)\""
    echo "source = \"$(source_digest "examples/$name" sdk Cargo.toml Cargo.lock)\""
  } >> "$manifest"
done

# The template for C. The command is that of `heddle plugin build`.
build_c() {
  local copy
  copy=$(mktemp -d)
  cp -r plugins/templates/c/. "$copy"
  sed -i 's/my-filter/caption-rule/g' "$copy/plugin.c"
  (cd "$copy" && clang --target=wasm32-wasi -mexec-model=reactor -nostartfiles -O2 -g0 -Wall -Wextra -Werror \
    -Wl,--no-entry -Wl,--strip-all -o "$1" bindings/*.c bindings/*.o ./*.c)
  rm -r "$copy"
}

has_c() {
  command -v clang >/dev/null && command -v wasm-ld >/dev/null && [[ -f $(clang --target=wasm32-wasi -print-file-name=libc.a) ]] \
    && [[ -f $(clang --target=wasm32-wasi --rtlib=compiler-rt -print-libgcc-file-name) ]]
}

built_by=$(sed -n '/^\[caption-rule\]/,/^$/s/^compiler = "\(.*\)"/\1/p' plugins/prebuilt/MANIFEST.toml)
if has_c; then
  build_c "$(realpath "$out")/caption-rule.wasm"
  clang=$(clang --version | head -n 1)
  if [[ ${1-} == --check && $built_by != "$clang" ]]; then
    echo "caption-rule: built with another compiler ($clang here); it builds"
    cp plugins/prebuilt/caption-rule.wasm "$out/"
  else
    built_by=$clang
  fi
else
  echo 'LEFT OUT: caption-rule, no clang for WebAssembly here'
  [[ $out == plugins/prebuilt ]] || cp plugins/prebuilt/caption-rule.wasm "$out/"
fi
{
  echo
  echo '[caption-rule]'
  echo "compiler = \"$built_by\""
  echo "sha256 = \"$(sha256sum "$out/caption-rule.wasm" | cut -d' ' -f1)\""
  echo "source = \"$(source_digest templates/c)\""
} >> "$manifest"

if [[ ${1-} == --check ]]; then
  if grep -qxF "compiler = \"$compiler\"" plugins/prebuilt/MANIFEST.toml; then
    diff -r "$out" plugins/prebuilt
    echo 'plugins/prebuilt: the same bytes'
  else
    echo "plugins/prebuilt: built with another compiler ($compiler here); everything builds"
  fi
fi
