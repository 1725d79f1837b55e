#!/usr/bin/env bash
# Resolves pyproject.toml into the hash-locked requirements/*.txt: .ci/lock.sh VENV [uv arguments]
#
# Versions already locked are kept while they still satisfy pyproject.toml; pass --upgrade to move them all.
# The files name no registry, so that any mirror with the same files serves them.
set -euo pipefail

venv=${1:?"usage: lock.sh VENV [uv arguments]"}
shift
cd "$(dirname "$0")/.."

resolve() { # output, then inputs
  local output=requirements/$1.txt
  shift
  "$venv/bin/uv" pip compile --quiet --universal --generate-hashes --python-version 3.11 \
    --no-emit-index-url --no-header --annotation-style line --output-file "$output" "$@" >/dev/null
  echo "$output: $(grep -c == "$output") packages"
}

resolve build requirements/build.in "$@"
resolve pip requirements/pip.in "$@"
resolve runtime pyproject.toml "$@"
resolve dev pyproject.toml --extra zig --extra pglite --extra devchain --group dev --constraint requirements/runtime.txt \
  --constraint requirements/build.txt "$@"
