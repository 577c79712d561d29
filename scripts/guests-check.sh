#!/usr/bin/env bash
# Builds the plugin templates of all four languages with the languages' own tools, as a user would (`heddle plugin new`,
# `build`, `check`, `test`, `bench`), and prints for each language the result, or `LEFT OUT` and the reason.
#
# The tools are taken from PATH and from target/guests. With CI=true, missing ones are installed: into target/guests from the
# registries of Python and Node, and from Debian's if this runs as root.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
tools=$root/target/guests
mkdir -p "$tools"
export PATH=$tools/venv/bin:$tools/node_modules/.bin:$PATH

has() { command -v "$1" >/dev/null; }
has_rust() { [[ -d $(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown || -n $(compgen -G '/usr/src/rustc-*/library/std') ]]; }
has_c() {
  has clang && has wasm-ld && [[ -f $(clang --target=wasm32-wasi -print-file-name=libc.a) ]] \
    && [[ -f $(clang --target=wasm32-wasi --rtlib=compiler-rt -print-libgcc-file-name) ]]
}
apt_install() {
  [[ $(id -u) == 0 ]] && has apt-get || return 0
  (apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@") >"$tools/apt.log" 2>&1 || true
}

if [[ ${CI-} == true ]]; then
  has_c || apt_install clang lld wasi-libc libclang-rt-14-dev-wasm32
  has componentize-py || (python3 -m venv "$tools/venv" && "$tools/venv/bin/pip" install -q componentize-py) >"$tools/pip.log" 2>&1 || true
  has jco || ! has npm || npm install --prefix "$tools" --no-fund --no-audit @bytecodealliance/jco >"$tools/npm.log" 2>&1 || true
fi

# As the whole workspace, so that what `cargo test --workspace` built serves here.
cargo test --quiet --locked --workspace --test cli --no-run

# The target's library, where it has to be built, is that of scripts/plugins-build.sh: the same flags, the same folder.
src=$(/usr/bin/rustc --print sysroot 2>/dev/null || rustc --print sysroot)/lib/rustlib/src
export GUESTS_TARGET_DIR=$root/plugins/target
export GUESTS_RUSTFLAGS="--remap-path-prefix=$root=/heddle --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$src=/rust --remap-path-prefix=$(readlink -f "$src/rust" 2>/dev/null || echo "$src")=/rust"

failed=0
check() {
  local language=$1 start=$SECONDS log=$tools/$1.log
  if cargo test --quiet --locked --workspace --test cli -- \
    --ignored --exact --nocapture "guests::${language}_from_new_to_bench" >"$log" 2>&1 && grep -q "^$language: " "$log"; then
    grep "^$language: " "$log" | sed "s/\$/ ($((SECONDS - start)) s)/"
  else
    cat "$log"
    echo "$language: FAILED"
    failed=1
  fi
}
left_out() { echo "LEFT OUT: $1: $2"; }

if has_rust; then check rust; else left_out rust 'no compiler for wasm32-unknown-unknown here'; fi
if has_c; then check c; else left_out c 'no clang with wasi-libc here'; fi
if has componentize-py; then check python; else left_out python 'no componentize-py here'; fi
if has node && has jco; then check js; else left_out js 'no jco here'; fi
exit "$failed"
