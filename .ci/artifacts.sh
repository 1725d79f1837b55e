#!/usr/bin/env bash
# Proves that the committed artifacts come from their sources: .ci/artifacts.sh VENV
#
# Compiles every reducer, the kernel and every contract in a copy of the tree, in another folder and with empty caches, and compares
# the results byte for byte with what is committed. What this machine has no compiler for is named and skipped.
set -euo pipefail

venv=$(realpath "${1:?"usage: artifacts.sh VENV"}")
cd "$(dirname "$0")/.."

scratch=$(mktemp -d "$PWD/.ci-run.artifacts.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

mapfile -t artifacts < <(git ls-files '*.wasm')
if [[ ${#artifacts[@]} -eq 0 ]]; then
  echo "no committed .wasm artifact found" >&2
  exit 1
fi
contracts=(channels/scapp/channels/chain/artifacts tests/chain/artifacts)
git ls-files -z -- channels runtime reducers examples | xargs -0 cp --parents -t "$scratch"
mkdir "$scratch/.cache"
(cd "$scratch" && find . -name '*.wasm' -print >.artifacts)

# The copy's modules come first on the path, so that the build writes into the copy.
(
  cd "$scratch"
  export PYTHONPATH=$PWD/channels:$PWD/runtime:$PWD/reducers:$PWD/examples/game
  export XDG_CACHE_HOME=$PWD/.cache ZIG_GLOBAL_CACHE_DIR=$PWD/.cache/zig ZIG_LOCAL_CACHE_DIR=$PWD/.cache/zig-local
  xargs -r rm -f <.artifacts # a build that writes nothing must not pass
  "$venv/bin/python" -m scapp.reducers.build --all | tee .built
  "$venv/bin/python" runtime/kernel/build.py
  for folder in "${contracts[@]}"; do rm -rf "$folder"; done
  "$venv/bin/python" channels/contracts/build.py >/dev/null
)

failed=0
for artifact in "${artifacts[@]}"; do
  if grep -qF "$artifact not rebuilt: " "$scratch/.built"; then
    echo "skipped $artifact (its compiler is not here)"
  elif cmp -s "$artifact" "$scratch/$artifact"; then
    echo "ok      $artifact"
  else
    echo "DIFFERS $artifact"
    failed=1
  fi
done
for folder in "${contracts[@]}"; do
  if diff -rq "$folder" "$scratch/$folder"; then
    echo "ok      $folder"
  else
    echo "DIFFERS $folder"
    failed=1
  fi
done
exit "$failed"
