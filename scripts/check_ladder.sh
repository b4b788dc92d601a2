#!/usr/bin/env bash
# Checks what CONTRIBUTING.md says about the folders: a rung of the ladder includes only itself and
# the rungs above it; app/, cli/, bench/ and examples/ use only the library's public headers; no two
# folders include each other, directly or in a circle; no folder outgrows 16 sources; and
# lowrank/lowrank.h includes all public headers.
set -euo pipefail
cd "$(dirname "$0")/.."

# Files directly in src/ and in include/lowrank/ are on the rung "common".
readonly rungs="common kernels machine linalg io checkpoint effective adapter weights optim nn train"
readonly most_sources=16

# Prints one line for each include of our own files: the including file, the line number, the folder
# of the included file, and its path as written. The folder of a public header is below include/.
# shellcheck disable=SC2016  # $ is awk's
includes() {
  git ls-files --cached --others --exclude-standard -- 'src/*.cc' 'src/*.h' 'include/*.h' \
    'app/*.cc' 'app/*.h' 'cli/*.cc' 'cli/*.h' 'bench/*.cc' 'examples/*.cc' |
    while IFS= read -r file; do if [ -e "$file" ]; then echo "$file"; fi; done |
    xargs awk '
      /^#include ["<]/ {
        spelled = $2
        public = spelled ~ /^<lowrank\//
        if (!public && spelled !~ /^"/) next
        path = substr(spelled, 2, length(spelled) - 2)
        if (path ~ /\.inc$/) next
        folder = path
        if (!sub(/\/[^\/]*$/, "", folder)) folder = "."
        if (public) folder = "include/" folder
        else if (folder !~ /^(app|cli|bench)(\/|$)/) folder = folder == "." ? "src" : "src/" folder
        print FILENAME, FNR, folder, path
      }'
}

status=0
complain() {
  echo "$*" >&2
  status=1
}

# The place of each rung on the ladder.
declare -A place
count=0
for name in $rungs; do place[$name]=$((count++)); done

# Sets `rung` to the place of a folder on the ladder, or to "" if the folder is not part of it.
find_rung() {
  local name
  case $1 in
    src | include/lowrank) name=common ;;
    src/*) name=${1#src/} ;;
    include/lowrank/*) name=${1#include/lowrank/} ;;
    *) rung="" && return ;;
  esac
  rung=${place[${name%%/*}]:-unknown}
}

found=$(includes)
while read -r file line folder path; do
  at="$file:$line"
  own=${file%/*}
  if [ "$file" = include/lowrank/lowrank.h ]; then continue; fi
  if [ "$path" = lowrank/lowrank.h ]; then
    case $file in
      examples/*) ;;
      *) complain "$at: only examples/ may include lowrank/lowrank.h; include the headers used" ;;
    esac
    continue
  fi
  find_rung "$own"
  here=$rung
  find_rung "$folder"
  there=$rung
  case $file in
    src/* | include/*)
      if [ "$here" = unknown ]; then
        complain "$at: the folder $own must be a rung of the ladder ($rungs)"
      elif [ -z "$there" ]; then
        complain "$at: the library must not include $path"
      elif [ "$there" = unknown ] || [ "$there" -gt "$here" ]; then
        complain "$at: $own must not include $path, which is further down the ladder"
      fi
      ;;
    *)
      case $folder in
        include/*) ;;
        app | app/*) case $file in examples/*) complain "$at: examples/ must not include $path" ;; esac ;;
        cli | cli/*) case $file in cli/*) ;; *) complain "$at: only cli/ may include $path" ;; esac ;;
        *) complain "$at: $path is private to the library" ;;
      esac
      ;;
  esac
done <<< "$found"

# Circles between folders: tsort names the folders of each.
if ! circles=$(awk '{
    own = $1
    sub(/\/[^\/]*$/, "", own)
    if (own != $3 && $1 != "include/lowrank/lowrank.h") print own, $3
  }' <<< "$found" | sort -u | tsort 2>&1 > /dev/null); then
  complain "folders must not include each other. Got a circle of:"
  sed -n 's/^tsort: \([^:]*\)$/  \1/p' <<< "$circles" | grep -v input >&2 || true
fi

while IFS= read -r folder; do
  count=$(find "$folder" -maxdepth 1 -name '*.cc' | wc -l)
  if [ "$count" -gt "$most_sources" ]; then
    complain "$folder: a folder must hold at most $most_sources sources. Got $count. Split it up."
  fi
done < <(find src app cli -type d)

while IFS= read -r header; do
  if ! grep -qF "#include <$header>" include/lowrank/lowrank.h; then
    complain "include/lowrank/lowrank.h: must include every public header. $header is missing"
  fi
done < <(cd include && find lowrank -name '*.h' ! -name lowrank.h | sort)
exit "$status"
