#!/usr/bin/env bash
# Uses a build as other projects will: installs it, moves the prefix, and builds and runs examples/
# against the installed package, by CMake and by pkg-config. scripts/check_package.sh BUILD_DIR
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "[package] $*" >&2
  exit 1
}

# Runs a command and prints its output only if it fails.
quietly() { "$@" > "$work/log" 2>&1 || { cat "$work/log" >&2; fail "failed: $*"; }; }

quietly cmake --install "$build" --prefix "$work/first"
prefix=$work/moved
mv "$work/first" "$prefix"
cp -r examples "$work/examples"
library=$(find "$prefix" -name 'liblowrank.so')
package=$(find "$prefix" -name lowrankTargets.cmake)
libtorch=$(sed -n 's/^CMAKE_PREFIX_PATH:[A-Z]*=//p' "$build/CMakeCache.txt")

echo "Package: the command, the exported symbols, what the target requires"
"$prefix/bin/lowrank" --version
for file in man/man1/lowrank-finetune.1 bash-completion/completions/lowrank \
  zsh/site-functions/_lowrank fish/vendor_completions.d/lowrank.fish; do
  [ -s "$prefix/share/$file" ] || fail "the package must hold share/$file. Got none."
done
for file in README.md docs/library.md examples/train_adapter.cc; do
  [ -f "$prefix/share/doc/lowrank/$file" ] || fail "the package must hold $file. Got none."
done
if nm -DC --defined-only "$library" | cut -d ' ' -f 3- |
  grep -vE '^((typeinfo|typeinfo name|vtable|VTT) for |(non-)?virtual thunk to )?lowrank::'; then
  fail "liblowrank must export names of lowrank alone. Got those above."
fi
if grep -E 'fmt|PNG|ZLIB|OpenSSL|PCRE2' "$package"; then
  fail "lowrank::lowrank must not require the library's own dependencies. Got those above."
fi

echo "Package: the examples, by CMake"
quietly cmake -G Ninja -S "$work/examples" -B "$work/build" "-DCMAKE_PREFIX_PATH=$prefix;$libtorch"
quietly cmake --build "$work/build"
"$work/build/train_adapter" "$work/adapter"
"$work/build/personalize_script" tests/fixtures/reader_scripted.pt "$work/personal.pt"
"$work/build/serve_adapters"
"$work/build/time_series" "$work/whole" | tail -1
"$work/build/time_series" "$work/killed" > "$work/log" 2>&1 &
until [ -e "$work/killed/adapter.state" ] || ! kill -0 $! 2> /dev/null; do sleep 0.02; done
kill -KILL $! 2> /dev/null || true
wait $! 2> /dev/null || true
[ ! -e "$work/killed/adapter" ] || echo "Package: the example was faster than its kill"
quietly "$work/build/time_series" "$work/killed"
cmp "$work/whole/adapter/adapter_model.safetensors" \
  "$work/killed/adapter/adapter_model.safetensors" ||
  fail "a run that was killed and resumed must end as one that was not."

echo "Package: an example, by pkg-config"
# A (2, 3) matrix of ones in float64: rank 1.
{
  printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' \
    "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }"
  for _ in 1 2 3 4 5 6; do printf '\x00\x00\x00\x00\x00\x00\xf0\x3f'; done
} > "$work/ones.npy"
read -ra flags <<< "$(PKG_CONFIG_PATH=$(dirname "$library")/pkgconfig \
  pkg-config --cflags --libs lowrank)"
quietly "${CXX:-g++}" "$work/examples/factorize.cc" "${flags[@]}" -o "$work/factorize"
quietly "${CXX:-g++}" tests/package/drop_in_layers.cc "${flags[@]}" -o "$work/drop_in_layers"
said=$(LD_LIBRARY_PATH=$(dirname "$library") "$work/drop_in_layers")
[[ $said == "6 12 36 numbers"* ]] || fail "drop-in layers must give 6, 12 and 36 numbers. Got $said."
for program in "$work/build/factorize" "$work/factorize"; do
  said=$(LD_LIBRARY_PATH=$(dirname "$library") "$program" "$work/ones.npy" "$work/factors")
  echo "$said"
  [[ $said == "rank 1: 6 numbers become 5"* ]] || fail "ones must have rank 1."
done

echo "Package: another LibTorch is refused"
mkdir "$work/other"
touch "$work/other/TorchConfig.cmake"
echo 'set(PACKAGE_VERSION 9.8.0)' > "$work/other/TorchConfigVersion.cmake"
if cmake -G Ninja -S "$work/examples" -B "$work/refused" "-DCMAKE_PREFIX_PATH=$prefix" \
  "-DTorch_DIR=$work/other" > "$work/log" 2>&1; then
  fail "LibTorch 9.8 must be refused. Got a package that was found."
fi
tr -s '\n ' ' ' < "$work/log" | grep -oE '\[lowrank\] LibTorch must be .* with this one\.' ||
  { cat "$work/log" >&2; fail "the refusal must say which LibTorch is needed."; }
