#!/usr/bin/env bash
# Checks that a layer includes only itself and the layers before it on the ladder, and that the
# command, the examples and the benchmarks use only public headers; and that lowrank/lowrank.h
# includes all of these.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly ladder=(kernels linalg io adapter nn data models train report)

rung() {  # the place of a layer on the ladder; -1 for the common headers
  local i
  for i in "${!ladder[@]}"; do
    if [ "${ladder[$i]}" = "$1" ]; then
      echo "$i"
      return
    fi
  done
  echo -1
}

status=0
for layer in "${ladder[@]}"; do
  here=$(rung "$layer")
  while IFS=: read -r file line text; do
    other=$(sed -E 's/.*[<"](lowrank\/)?([a-z_]+)\/.*/\2/' <<< "$text")
    if [ "$(rung "$other")" -gt "$here" ]; then
      echo "$file:$line: $layer must not include $other, which is further down the ladder" >&2
      status=1
    fi
  done < <(grep -RnE '^#include [<"](lowrank/)?[a-z_]+/[a-z_0-9/]+\.h[>"]' \
    "include/lowrank/$layer" "src/$layer" 2> /dev/null || true)
done

for folder in cli examples bench; do
  while IFS=: read -r file line text; do
    header=$(sed -E 's/.*"(.*)".*/\1/' <<< "$text")
    if [ -e "src/$header" ] && [ ! -e "$(dirname "$file")/$header" ] &&
      [ ! -e "$folder/$header" ]; then
      echo "$file:$line: $folder uses only public headers, and $header is private" >&2
      status=1
    fi
  done < <(grep -RnE '^#include "' "$folder" --include='*.cc' --include='*.h' 2> /dev/null || true)
done
while IFS= read -r header; do
  if ! grep -qF "#include <$header>" include/lowrank/lowrank.h; then
    echo "include/lowrank/lowrank.h: must include every public header. $header is missing" >&2
    status=1
  fi
done < <(cd include && find lowrank -name '*.h' ! -name lowrank.h | sort)
exit "$status"
