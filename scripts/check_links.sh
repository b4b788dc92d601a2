#!/usr/bin/env bash
# Checks that what README and the guides link to is there: files, and headings of files.
# shellcheck disable=SC2016  # the backticks are Markdown's
set -euo pipefail
cd "$(dirname "$0")/.."

# GitHub's anchor of each heading of a file.
anchors() {
  sed -n '/^```/,/^```/d; s/^##* //p' "$1" | tr '[:upper:]' '[:lower:]' |
    sed 's/[^[:alnum:] _-]//g; s/ /-/g'
}

status=0
while IFS= read -r file; do
  while IFS= read -r link; do
    path=${link%%#*} anchor=
    [[ $link != *'#'* ]] || anchor=${link#*#}
    target=$(dirname "$file")/$path
    [ -n "$path" ] || target=$file
    if [ ! -e "$target" ]; then
      echo "$file: the link \"$link\" must lead to a file" >&2
      status=1
    elif [ -n "$anchor" ] && ! grep -qxF "$anchor" <(anchors "$target"); then
      echo "$file: the link \"$link\" must lead to a heading" >&2
      status=1
    fi
  done < <(sed '/^```/,/^```/d' "$file" | grep -oE '\]\([^)[:space:]]+\)' | sed 's/^](//; s/)$//' |
    grep -vE '^(https?|mailto):' || true)
done < <(git ls-files '*.md')
exit "$status"
