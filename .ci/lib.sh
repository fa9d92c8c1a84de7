# Functions that the scripts in this folder share. Source it, do not run it. It changes to the root of the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# All files that these scripts make are in this folder, which can be deleted at any time.
work=$(realpath -m "${CARGO_TARGET_DIR:-target}")/ci
mkdir -p "$work"

# No script may silently download a toolchain or a target. No server answers on that port.
export RUSTUP_DIST_SERVER=http://127.0.0.1:9 RUSTUP_UPDATE_ROOT=http://127.0.0.1:9
export SAM_CLI_TELEMETRY=0 CARGO_TERM_COLOR=never PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# No script may reach a real account, so neither its credentials nor its settings are read.
unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1 AWS_REGION=us-east-1
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true

say() { printf '%s\n' "$*"; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# bounded SECONDS COMMAND...: runs a command with a time limit. It ends, with all its children, at the limit or with this script.
bounded() {
  local limit=$1 code=0
  shift
  timeout --kill-after=15 "$limit" "$@" &
  running=$!
  # A shell handles no signal while a foreground command runs. A signal interrupts `wait` immediately.
  wait "$running" || code=$?
  running=
  [ "$code" -ne 124 ] || printf 'stopped after %s s: %s\n' "$limit" "$*" >&2
  return "$code"
}

running=
# The system may reuse the id of a process that has ended, so `running` holds only the id of one that runs.
stop() {
  [ -z "$running" ] || { kill "$running" 2>/dev/null && wait "$running"; } || true
}
ended() {
  printf '%s: stopped by a signal\n' "$0" >&2
  exit "$1"
}
trap stop EXIT
trap 'ended 143' TERM
trap 'ended 130' INT

# packages NAME...: installs missing Debian packages, or fails with their names.
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
  bounded 180 apt-get update -qq || fail 'apt-get update failed; is a Debian mirror reachable?'
  bounded 300 apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$work/apt.log" 2>&1 ||
    fail "cannot install ${missing[*]}; see $work/apt.log"
}

# rust: checks for a toolchain, and installs a linker if there is none.
rust() {
  command -v cargo >/dev/null || fail 'cargo not found: install Rust, see https://rustup.rs'
  command -v cc >/dev/null || packages gcc libc6-dev
}

# install NAME: makes a virtual environment with the packages of requirements/NAME.txt, and sets $venv to its folder.
install() {
  local wanted
  venv=$work/venv-$1
  wanted=$(sha256sum <".ci/requirements/$1.txt")
  [ "$(cat "$venv/made-of" 2>/dev/null)" != "$wanted" ] || return 0
  # Debian has ensurepip, which venv needs, in a package of its own.
  command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3 python3-venv
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "Python 3.10 or newer is needed, found $(python3 -V)"
  say "installing requirements/$1.txt into $venv"
  rm -rf "$venv"
  python3 -m venv "$venv"
  bounded 600 "$venv/bin/pip" install --quiet --disable-pip-version-check -r ".ci/requirements/$1.txt" ||
    fail "cannot install .ci/requirements/$1.txt; is a Python package index reachable?"
  printf '%s\n' "$wanted" >"$venv/made-of"
}

# sam_tools: installs SAM, cfn-lint and cargo-lambda, and adds them to the path.
sam_tools() {
  install sam
  export PATH=$venv/bin:$PATH
}

# built: fails unless the functions are built.
built() {
  [ -f .aws-sam/build/template.yaml ] || fail 'the functions are not built: run bash .ci/build'
}
