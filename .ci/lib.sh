# What the scripts in this folder share. Sourced, never run: it moves to the repository's root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Everything these scripts make is in here, and can be deleted at any time.
work=$(realpath -m "${CARGO_TARGET_DIR:-target}")/ci
mkdir -p "$work"

# Nothing here may fetch a toolchain or a target without a word: nobody answers on that port.
export RUSTUP_DIST_SERVER=http://127.0.0.1:9 RUSTUP_UPDATE_ROOT=http://127.0.0.1:9
export SAM_CLI_TELEMETRY=0 CARGO_TERM_COLOR=never PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# No script here may reach a real account: neither its credentials nor its settings are read.
unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1 AWS_REGION=us-east-1
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true

say() { printf '%s\n' "$*"; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# bounded SECONDS COMMAND...: a command that ends when its time is up, or with this script, and all it started with it.
bounded() {
  local limit=$1 code=0
  shift
  timeout --kill-after=15 "$limit" "$@" &
  running=$!
  # A shell hears no signal while a command runs in front of it; from `wait` it comes back at once.
  wait "$running" || code=$?
  running=
  [ "$code" -ne 124 ] || printf 'still running after %s s: %s\n' "$limit" "$*" >&2
  return "$code"
}

running=
# The number of a process that is gone may be another's by now, so only one that runs is in `running`.
stop() {
  [ -z "$running" ] || { kill "$running" 2>/dev/null && wait "$running"; } || true
}
ended() {
  printf '%s: ended by a signal\n' "$0" >&2
  exit "$1"
}
trap stop EXIT
trap 'ended 143' TERM
trap 'ended 130' INT

# packages NAME...: installs Debian packages that are missing, or says that they are.
packages() {
  local name missing=()
  for name in "$@"; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q '^install ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ] ||
    fail "missing: ${missing[*]} (apt-get install ${missing[*]}, as root)"
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  bounded 180 apt-get update -qq || fail 'apt-get update failed; is a Debian mirror in reach?'
  bounded 300 apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$work/apt.log" 2>&1 ||
    fail "cannot install ${missing[*]}; see $work/apt.log"
}

# rust: there is a toolchain, and something that links.
rust() {
  command -v cargo >/dev/null || fail 'no cargo: install Rust, see https://rustup.rs'
  command -v cc >/dev/null || packages gcc libc6-dev
}

# install NAME: a virtual environment of what requirements/NAME.txt pins; its folder is then in $venv.
install() {
  local wanted
  venv=$work/venv-$1
  wanted=$(sha256sum <".ci/requirements/$1.txt")
  [ "$(cat "$venv/made-of" 2>/dev/null)" != "$wanted" ] || return 0
  # Debian has venv, but not what it needs, in a package of its own.
  command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3 python3-venv
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "Python 3.10 or newer is needed, found $(python3 -V)"
  say "installing requirements/$1.txt into $venv"
  rm -rf "$venv"
  python3 -m venv "$venv"
  bounded 600 "$venv/bin/pip" install --quiet --disable-pip-version-check -r ".ci/requirements/$1.txt" ||
    fail "cannot install what .ci/requirements/$1.txt asks for; is a Python package index in reach?"
  printf '%s\n' "$wanted" >"$venv/made-of"
}

# sam_tools: SAM, cfn-lint and cargo-lambda are on the path.
sam_tools() {
  install sam
  export PATH=$venv/bin:$PATH
}

# built: the functions are where SAM expects them.
built() {
  [ -f .aws-sam/build/template.yaml ] || fail 'nothing is built yet: bash .ci/build'
}
