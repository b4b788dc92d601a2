#!/usr/bin/env bash
# Installs the missing Debian packages for the given purposes:
#   scripts/install-dependencies.sh build test
# If none is missing, it prints nothing, asks for nothing and does not use the network.
set -euo pipefail

packages_for() {
  case "$1" in
    # libtorch-dev leaves out the -dev packages that its own CMake files look for.
    build) echo "g++ cmake ninja-build pkg-config libtorch-dev libprotobuf-dev libgoogle-glog-dev \
libgflags-dev libgloo-dev libopenblas0-openmp nlohmann-json3-dev libcli11-dev libfmt-dev zlib1g-dev \
libpng-dev libjpeg-dev libcsv-dev libssl-dev libpcre2-dev libboost-dev libgtest-dev \
libgmock-dev gnuplot-nox" ;;
    test) echo "dataset-fashion-mnist" ;;
    lint) echo "clang clang-format clang-tidy libclang-dev llvm-dev shellcheck" ;;
    # The benchmark tries every installed BLAS library; this one does not become the default.
    bench) echo "libbenchmark-dev libblis4-openmp python3-torch python3-numpy python3-scipy \
python3-venv python3-pip" ;;
    bench-full) echo "python3-matplotlib" ;;
    interop) echo "python3-torch python3-numpy python3-scipy python3-venv python3-pip" ;;
    docs) echo "doxygen" ;;
    browser) echo "chromium chromium-driver python3" ;;
    data) echo "ca-certificates curl tar gzip" ;;
    # Debian's npm conflicts with a Node.js from elsewhere, which brings an npm of its own.
    npm) command -v npm > /dev/null || echo "npm" ;;
    libtorch2)
      echo "libopenblas0-openmp"
      python3 -m pip --version > /dev/null 2>&1 || echo "python3 python3-pip"
      command -v mvn > /dev/null || echo "maven"
      ;;
    *)
      echo "[install] a purpose must be one of build, test, lint, bench, bench-full, interop," \
        "browser, docs, data, npm, libtorch2. Got \"$1\"." >&2
      exit 2
      ;;
  esac
}

wanted=()
for purpose in "$@"; do
  list=$(packages_for "$purpose")
  # shellcheck disable=SC2206  # package names, one a word
  wanted+=($list)
done

if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
  echo "[install] nothing was installed, because this is not a Debian-like system. It needs what" \
    "Debian calls ${wanted[*]}." >&2
  exit 0
fi

# dpkg-query fails if it does not know one of the packages, but it still lists the others.
installed=$({ dpkg-query --show --showformat='${Package} ${db:Status-Status}\n' "${wanted[@]}" \
  2> /dev/null || true; } | sed -n 's/ installed$//p')
missing=()
for package in "${wanted[@]}"; do
  case $'\n'"$installed"$'\n' in
    *$'\n'"$package"$'\n'*) ;;
    *) missing+=("$package") ;;
  esac
done
if [ "${#missing[@]}" -eq 0 ]; then
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo > /dev/null; then
    echo "[install] root or sudo is needed to install packages. Got neither. As root, run:" \
      "apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "Installing Debian packages for $* (needed once): ${missing[*]}"
apt_get() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 \
    -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -qq "$@" < /dev/null
}
apt_get update
apt_get install --yes --no-install-recommends "${missing[@]}"
