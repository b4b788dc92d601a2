#!/usr/bin/env bash
# Puts an unpacked LibTorch 2.10.0 (CPU, x86-64) into build/libtorch-2.10.0, or $LIBTORCH2_DIR,
# without PyTorch's own large archive: headers and CMake files come from PyPI's small CPU wheel
# for another processor, the libraries from Maven's jar. Both are checked by SHA-256.
# Then: cmake -DCMAKE_PREFIX_PATH=build/libtorch-2.10.0/torch
set -euo pipefail

readonly version=2.10.0
readonly wheel_sha256=3282d9febd1e4e476630a099692b44fdc214ee9bf8ee5377732d9d9dfe5712e4
readonly jar_version=2.10.0-1.5.13
readonly jar_sha256=67e9b5b7c2caf2e6ed0e81947f1ff712c9a0755faeff6a0c3436d4432a25cc06

root=$(cd "$(dirname "$0")/.." && pwd)
target=${LIBTORCH2_DIR:-$root/build/libtorch-$version}
if [ -e "$target/torch/.complete" ]; then
  exit 0
fi
if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
  echo "[libtorch2] the machine must be Linux on x86-64. Got $(uname -s) on $(uname -m)." \
    "Set CMAKE_PREFIX_PATH to a LibTorch of your own." >&2
  exit 1
fi

check() {  # file, SHA-256 wanted
  local found
  found=$(sha256sum "$1" | cut -d ' ' -f 1)
  if [ "$found" != "$2" ]; then
    echo "[libtorch2] $(basename "$1") must have the SHA-256 $2. Got $found." >&2
    exit 1
  fi
}

mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$target.partial.XXXXXX")
trap 'rm -rf "$work"' EXIT

echo "Fetching LibTorch $version: headers (146 MB from PyPI) and libraries (from Maven)"
python3 -m pip download --quiet --no-deps --only-binary=:all: --platform manylinux_2_28_aarch64 \
  --python-version 3.11 --dest "$work" "torch==$version" < /dev/null
wheel=("$work"/torch-*.whl)
check "${wheel[0]}" "$wheel_sha256"

artifact="org.bytedeco:pytorch:$jar_version:jar:linux-x86_64"
mvn --batch-mode --quiet dependency:get "-Dartifact=$artifact" -Dtransitive=false < /dev/null
mvn --batch-mode --quiet dependency:copy "-Dartifact=$artifact" "-DoutputDirectory=$work" < /dev/null
jar=("$work"/pytorch-*.jar)
check "${jar[0]}" "$jar_sha256"

python3 - "${wheel[0]}" "${jar[0]}" "$work" << 'PYTHON'
import os, shutil, sys, zipfile

wheel, jar, work = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    names = [n for n in archive.namelist() if n.startswith(("torch/include/", "torch/share/"))]
    archive.extractall(work, names)
os.makedirs(os.path.join(work, "torch", "lib"))
with zipfile.ZipFile(jar) as archive:
    for name in archive.namelist():
        if os.path.basename(name) in ("libc10.so", "libtorch.so", "libtorch_cpu.so"):
            with archive.open(name) as source, \
                    open(os.path.join(work, "torch", "lib", os.path.basename(name)), "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
PYTHON

rm -f "${wheel[0]}" "${jar[0]}"
touch "$work/torch/.complete"
chmod 755 "$work"
rm -rf "$target"
mv "$work" "$target"
echo "LibTorch $version is in $target"
