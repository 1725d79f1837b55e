#!/usr/bin/env bash
# Brings the virtual environment DIR up to date: .ci/venv.sh DIR runtime|dev
#
# Installs the locked, hash-checked requirements and then scapp itself, editable. A stamp file holds the digest of
# everything that was installed from, so that an environment which is up to date costs a few milliseconds.
# A `dev` environment serves `runtime` as well and is never reduced.
set -euo pipefail

venv=${1:?"usage: venv.sh DIR runtime|dev"}
kind=${2:?"usage: venv.sh DIR runtime|dev"}
cd "$(dirname "$0")/.."
case $kind in
  runtime | dev) ;;
  *) echo "venv.sh: kind is runtime or dev, not '$kind'" >&2; exit 2 ;;
esac

supported='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c "$supported" 2>/dev/null; then
      echo "$candidate"
      return
    fi
    if [[ -n ${PYTHON:-} && $candidate == "$PYTHON" ]]; then
      echo "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13" >&2
      return 1
    fi
  done
  echo "no Python 3.11, 3.12 or 3.13 found on PATH; install one or name it: make setup PYTHON=/path/to/python" >&2
  return 1
}

create() {
  local python
  python=$(find_python)
  echo "creating $venv with $("$python" --version)"
  rm -rf "$venv"
  if "$python" -c 'import ensurepip' 2>/dev/null; then
    "$python" -m venv "$venv"
  else # some distributions package venv's pip apart: borrow the interpreter's own
    "$python" -m venv --without-pip "$venv"
    "$python" -m pip --python "$venv/bin/python" install -qq --disable-pip-version-check \
      --require-hashes --only-binary :all: -r requirements/pip.txt
  fi
}

digest() { # of everything that decides what gets installed
  local files=(pyproject.toml requirements/build.txt requirements/runtime.txt .ci/venv.sh)
  [[ $1 == dev ]] && files+=(requirements/dev.txt)
  { pwd; cat "${files[@]}"; } | sha256sum | cut -d' ' -f1
}

up_to_date() { # kind
  [[ -x $venv/bin/python && -f $venv/.stamp-$1 && $(<"$venv/.stamp-$1") == "$(digest "$1")" ]]
}

locked() { # requirement files; they name every package, and a resolver would look for newer ones of extras
  local arguments=() file
  for file in "$@"; do arguments+=(-r "requirements/$file.txt"); done
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-input \
    --no-deps --require-hashes --only-binary :all: "${arguments[@]}"
}

mkdir -p "$(dirname "$venv")"
if command -v flock >/dev/null; then # two makes at once must not install into one directory
  exec 9>"$venv.lock"
  flock 9
fi

if up_to_date dev || { [[ $kind == runtime ]] && up_to_date runtime; }; then
  exit 0
fi
[[ -x $venv/bin/python ]] && "$venv/bin/python" -c "$supported" 2>/dev/null || create
[[ -f $venv/.stamp-dev ]] && kind=dev
rm -f "$venv/.stamp-runtime" "$venv/.stamp-dev"
echo "installing the locked $kind requirements into $venv"
if [[ $kind == dev ]]; then locked build dev; else locked build runtime; fi
"$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-input \
  --no-deps --no-build-isolation --editable .
digest "$kind" >"$venv/.stamp-$kind"
