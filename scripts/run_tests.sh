#!/usr/bin/env bash
# Runs a test program in as many processes as there are cores, each with its share of the tests:
#   scripts/run_tests.sh build/release/tests/lowrank_tests [--gtest_filter=...]
# Most of the suite waits for one thread or for a command that it has started.
set -euo pipefail

shards=$(nproc)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
export GTEST_TOTAL_SHARDS=$shards
# Threads that wait for work sleep, instead of taking the core of another process.
export OMP_WAIT_POLICY=passive

pids=()
for ((i = 0; i < shards; ++i)); do
  GTEST_SHARD_INDEX=$i "$@" --gtest_brief=1 > "$logs/$i" 2>&1 &
  pids+=($!)
done
status=0
for ((i = 0; i < shards; ++i)); do
  wait "${pids[i]}" || status=1
  grep -v '^Running main\|^Note: This is test shard' "$logs/$i" || true
done
passed=$(cat "$logs"/* | sed -n 's/^\[  PASSED  \] \([0-9]*\) tests\?\.$/\1/p' | awk '{n += $1} END {print n + 0}')
failed=$(cat "$logs"/* | grep -c '^\[  FAILED  \] .*(' || true)
echo "$passed passed, $failed failed"
exit "$status"
