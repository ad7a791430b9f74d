# Shared by the scripts of this folder: where things are, and how missing packages get there. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${RMJOB_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/rmjob}

build_packages="build-essential cmake ninja-build ccache pkg-config ca-certificates python3
  libgrpc-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler libcurl4-openssl-dev libzstd-dev zlib1g-dev
  libdnnl-dev libssl-dev libsqlite3-dev libyaml-dev libjansson-dev libpcre2-dev libutf8proc-dev libxxhash-dev libcmocka-dev"

say() { printf '%s\n' "$*" >&2; }

# install_packages NAME...: those of Debian's that are missing. Needs root only when something is.
install_packages() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  say "installing ${#missing[@]} packages: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    say "run this as root, or install them yourself: apt-get install ${missing[*]}"
    return 1
  fi
  local log
  log=$(mktemp)
  if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -20 "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

# build_preset PRESET: configures once, then builds what changed.
build_preset() {
  local preset=$1 log
  log=$(mktemp)
  if ! { { [ -f "$root/build/$preset/build.ninja" ] || cmake -S "$root" --preset "$preset"; } &&
         cmake --build "$root/build/$preset"; } >"$log" 2>&1; then
    tail -40 "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}
