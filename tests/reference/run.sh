#!/usr/bin/env bash
# Checks that Python reads what lowrank writes, and the reverse; `make test-interop` calls this.
#
#   run.sh LOWRANK DRIVER [WORK]   LOWRANK: the command; DRIVER: tests/interop/adapter_driver.cc,
#                                  built; WORK: default build/interop, replaced
#
# $INTEROP_FLAGS holds further arguments of interop_test.py (--adapters 1000 --seed 7).
#
# Needs MNIST where `lowrank data fetch mnist` puts it, or a folder in its layout that
# $INTEROP_DATA names.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
lowrank=$(realpath "${1:?"run.sh: the lowrank command must be named first"}")
driver=$(realpath "${2:?"run.sh: the adapter driver must be named second"}")
work=${3:-$top/build/interop}
data=${INTEROP_DATA:-mnist}

python=$("$here/environment.sh")
rm -rf "$work"
mkdir -p "$work"

train=(--data "$data" --seed 0 --threads 1 --quiet)  # one thread is quick on a busy machine, too
"$lowrank" train "${train[@]}" --steps 200 --out "$work/base"
"$lowrank" finetune "$work/base" "${train[@]}" --only 2 --rank 1 --alpha 1 --steps 50 --out "$work/two"
"$lowrank" finetune "$work/base" "${train[@]}" --only 7 --rank 4 --alpha 8 --steps 20 \
  --target-modules linear1,linear3 --validation 0.1 --log-to "$work/log" --out "$work/seven"

read -ra flags <<< "${INTEROP_FLAGS:-}"
exec "$python" -W ignore "$here/interop_test.py" --lowrank "$lowrank" --driver "$driver" \
  --work "$work" --data "$data" "${flags[@]}"
