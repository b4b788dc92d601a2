#!/usr/bin/env bash
# Compares lowrank with PyTorch and PEFT, measures what adapters cost a server, runs the
# microbenchmarks, compares the commands for weights with PyTorch, and one and two processes with
# DistributedDataParallel, and at the end prints the table of targets. `make bench` calls it.
#
#   run.sh BUILD [compare.py's options]      BUILD: a build folder with LOWRANK_BUILD_BENCH=ON
#   run.sh --full BUILD [sweep.py's options]
#
# $BENCH_PYTHON: an interpreter with torch and peft (default: the one that
# tests/reference/environment.sh makes). All measurements are also written to build/bench.json,
# build/bench-linear.json, build/bench-weights.json and build/bench-processes.json.
set -euo pipefail

full=
if [[ ${1-} == --full ]]; then
  full=yes
  shift
fi
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/.." && pwd)
build=$(realpath "${1:?"run.sh: the build folder must be named first"}")
shift

python=${BENCH_PYTHON:-$("$top/tests/reference/environment.sh")}
mkdir -p "$top/build"
if [[ -n $full ]]; then
  "$python" "$here/sweep.py" --build "$build" --out "$top/build/bench-full.json" "$@"
  echo "All samples: $top/build/bench-full.json. The figures are in"
  /usr/bin/python3 "$here/plot.py" "$top/build/bench-full.json" "$top/docs"
  exit
fi
"$python" "$here/compare.py" --build "$build" --out "$top/build/bench.json" "$@"
"$build/bench/adapters_bench"
"$build/bench/linear_bench" --benchmark_min_time=0.2 --benchmark_repetitions=5 \
  --benchmark_report_aggregates_only=true --benchmark_enable_random_interleaving=true \
  --benchmark_out_format=json --benchmark_out="$top/build/bench-linear.json" |
  grep -E '_median|_cv|^Benchmark'
"$python" "$here/weights.py" --build "$build" --out "$top/build/bench-weights.json"
"$python" "$here/processes.py" --lowrank "$build/cli/lowrank" --out "$top/build/bench-processes.json"
"$python" "$here/tables.py" "$top/build/bench.json"
