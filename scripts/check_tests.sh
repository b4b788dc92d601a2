#!/usr/bin/env bash
# Checks that the tests mirror the sources: tests/a/b_test.cc must test src/a/b, or a/b in app/ or
# cli/, or its first line must say what it covers: "// Covers src/effective/ops."
set -euo pipefail
cd "$(dirname "$0")/.."

status=0
while IFS= read -r test; do
  name=${test#tests/}
  name=${name%_test.cc}
  found=
  for source in "src/$name.cc" "src/$name.h" "$name.cc" "$name.h"; do
    if [ -e "$source" ]; then found=yes; fi
  done
  IFS= read -r first < "$test"
  if [ -z "$found" ] && [[ $first != "// Covers "* ]]; then
    echo "$test: must have a source of its name, or a first line \"// Covers ...\"" >&2
    status=1
  fi
done < <(find tests -name '*_test.cc' | sort)
exit "$status"
