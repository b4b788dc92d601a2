#!/usr/bin/env bash
# The checks behind `make lint` (see CONTRIBUTING.md):
#   scripts/lint.sh BUILD_DIR [FILE...]   runs all checks; clang-tidy reads all files or only these
#   scripts/lint.sh --format              formats the code in place
set -euo pipefail
cd "$(dirname "$0")/.."

sources() { git ls-files --cached --others --exclude-standard '*.cc' '*.h'; }

if [ "$1" = --format ]; then
  sources | xargs clang-format -i
  exit 0
fi
build=$1
shift

echo "Format (clang-format)"
sources | xargs clang-format --dry-run -Werror

echo "Ladder (scripts/check_ladder.sh)"
scripts/check_ladder.sh

echo "Tests (scripts/check_tests.sh)"
scripts/check_tests.sh

echo "Links of the guides (scripts/check_links.sh)"
scripts/check_links.sh

echo "Scripts (shellcheck)"
git ls-files --cached --others --exclude-standard '*.sh' .ci/run | xargs shellcheck

# By itself, clang-tidy also walks over LibTorch's headers, which takes 50 s per file. With this
# plugin it walks only over our own declarations.
plugin=$build/own_code_only.so
if [ scripts/own_code_only.cc -nt "$plugin" ]; then
  version=$(clang-tidy --version | sed -n 's/.*LLVM version \([0-9]*\).*/\1/p')
  clang++ -std=c++17 -fno-rtti -O1 -fPIC -shared \
    -isystem "$("llvm-config-$version" --includedir)" scripts/own_code_only.cc -o "$plugin"
fi

cmake --build "$build" --target src/CMakeFiles/lowrank_objects.dir/cmake_pch.hxx.pch \
  tests/CMakeFiles/lowrank_tests.dir/cmake_pch.hxx.pch
# What is read is what is compiled: mostly joined sources, of which a named file is a part.
mapfile -t files < <(sed -n 's/^ *"file": "\(.*\)",\?$/\1/p' "$build/compile_commands.json" |
  grep -v /cmake_pch | sort -u)
if [ "$#" -gt 0 ]; then
  patterns=$(printf '/%s\n' "${@#"$PWD/"}")
  mapfile -t files < <(for file in "${files[@]}"; do
    if grep -qF "$patterns" <<< "$file" || grep -qsF "$patterns" "$file"; then echo "$file"; fi
  done)
fi

tidy() {  # build, plugin, file: prints what clang-tidy found, if anything
  local found
  if ! found=$(clang-tidy --quiet -p "$1" --load="$2" "$3" 2>&1); then
    grep -v ' warnings\? generated\.$' <<< "$found"
    return 1
  fi
}
export -f tidy
echo "Code (clang-tidy, ${#files[@]} files, compiled by clang)"
printf '%s\0' "${files[@]}" |
  xargs -0 -n 1 -P "$(nproc)" bash -c 'tidy "$@"' tidy "$build" "$plugin"
echo "All checks passed"
