# shellcheck shell=bash
# What tools/up and tools/check share: installing what is missing, configuring, building.
# Sourced, never run. Everything it does it says on standard error, and only when it does it.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() {
  say "$@"
  exit 1
}

# Purpose and Debian package of everything a build needs, then of what only the tests need.
build_packages=(
  "the compiler, clang 19|clang-19"
  "the linker, lld 19|lld-19"
  "the build system, meson 1.0 or later|meson"
  "ninja|ninja-build"
  "pkg-config|pkg-config"
  "ccache (makes rebuilding fast)|ccache"
  "liburing 2.3 or later, with headers|liburing-dev"
  "llhttp 8.1 or later, as a library or as C files|node-llhttp"
  "fmt 9 or later|libfmt-dev"
  "tl-expected (header tl/expected.hpp)|libexpected-dev"
  "xxHash|libxxhash-dev"
  "LZ4|liblz4-dev"
  "Zstandard|libzstd-dev"
  "OpenSSL 3|libssl-dev"
  "CLI11 2.1 or later|libcli11-dev"
  "toml++ 3.3 or later|libtomlplusplus-dev"
  "doctest 2.4|doctest-dev"
  "RocksDB 7.8 or later, for the comparator of the lab|librocksdb-dev"
  "Google Benchmark, for perf/micro|libbenchmark-dev"
  "curl|curl"
)
check_packages=(
  "clang-format 19|clang-format-19"
  "the sanitizers' run-time libraries|libclang-rt-19-dev"
  "llvm-nm and llvm-symbolizer|llvm-19"
  "wrk|wrk"
  "ip and tc, which make networks for clusters|iproute2"
  "redis-cli and redis-benchmark, which talk to --resp|redis-tools"
  "nginx, which the lab compares with|nginx-light"
  "Redis, which the proxy stands in front of|redis-server"
  "Chromium, which looks at the lab's report|chromium"
  "redis-cli and redis-benchmark|redis-tools"
  "the Redis client for Python|python3-redis"
)
# Node.js often comes from elsewhere, and Debian's npm brings hundreds of packages with it.
command -v node >/dev/null || check_packages+=("Node.js 18 or later, which drives Chromium|nodejs")
command -v npm >/dev/null || check_packages+=("npm, which brings the report's chart library and clients|npm")

# install_packages ENTRY…: entries as above. Quick when nothing is missing.
install_packages() {
  local entry package missing=()
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    require_tools_elsewhere "$@"
    return
  fi
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${@##*|}" 2>/dev/null || true)
  for entry; do
    package=${entry##*|}
    grep -qx "installed $package" <<<"$installed" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0

  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null ||
      die "Missing packages, and neither root nor sudo to install them. As root:"$'\n'\
"  apt-get install --no-install-recommends ${missing[*]}"
    as_root=(sudo)
  fi
  say "Installing: ${missing[*]}"
  local log
  log=$(mktemp)
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0)
  if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    say "The packages are named as in Debian 12 (bookworm). What each is for:"
    list_packages "$@"
    exit 1
  fi
  rm -f "$log"
}

list_packages() {
  local entry
  for entry; do printf '  %-52s Debian: %s\n' "${entry%%|*}" "${entry##*|}" >&2; done
}

# On a distribution without apt: go on when the programs are there, meson finds what else is missing.
require_tools_elsewhere() {
  local tool
  for tool in meson ninja pkg-config "${CXX:-clang++-19}"; do
    if ! command -v "$tool" >/dev/null; then
      say "$tool is missing. This script installs packages on Debian only; here, install:"
      list_packages "$@"
      say "If clang 19 has another name here, set CC and CXX, for example CC=clang CXX=clang++."
      exit 1
    fi
  done
}

# configure DIR OPTION…: does nothing when DIR is configured (ninja notices changed meson files).
configure() {
  local dir=$1
  shift
  [[ -f $dir/build.ninja ]] && return
  say "Configuring ${dir#"$root"/}"
  local launcher=''
  command -v ccache >/dev/null && launcher='ccache '
  local log
  if ! log=$(CC="${CC:-${launcher}clang-19}" CXX="${CXX:-${launcher}clang++-19}" \
    CC_LD="${CC_LD:-lld-19}" CXX_LD="${CXX_LD:-lld-19}" \
    meson setup "$dir" "$root" "$@" 2>&1); then
    tail -n 15 <<<"$log" >&2
    rm -rf "$dir"
    die "Configuring failed."
  fi
}

# The build that a user runs and that speed is measured on: -O3, with symbols and assertions.
configure_release() { configure "$root/build/release" -Doptimization=3 -Ddebug=true; }

# build DIR TARGET…: ninja's output only when something is built or fails.
build() {
  local dir=$1
  shift
  ninja -C "$dir" -n "$@" 2>/dev/null | grep -q 'no work to do' && return
  say "Building ${*:-everything} in ${dir#"$root"/}"
  ninja -C "$dir" "$@" >&2
}
