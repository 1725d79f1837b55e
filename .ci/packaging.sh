#!/usr/bin/env bash
# The package as its users meet it: .ci/packaging.sh VENV SCRATCH
#
# Builds the wheel, installs it into a second environment and checks there, outside the repository, that all four
# parts import, that `scapp --help` runs, and that mypy --strict and pyright resolve its types. Then repeats the
# imports with the editable install.
set -euo pipefail

venv=$(realpath "${1:?"usage: packaging.sh VENV SCRATCH"}")
scratch=${2:?"usage: packaging.sh VENV SCRATCH"}
cd "$(dirname "$0")/.."
rm -rf "$scratch"
mkdir -p "$scratch/user"
scratch=$(realpath "$scratch")

echo "building the wheel"
"$venv/bin/python" -m hatchling build -t wheel -d "$scratch/dist"
wheel=("$scratch"/dist/scapp-*.whl)
"$venv/bin/python" - "${wheel[0]}" <<'PY'
import sys, zipfile
names = zipfile.ZipFile(sys.argv[1]).namelist()
assert "scapp/__init__.py" not in names, "scapp must stay a namespace"
for part in ("channels", "runtime", "reducers", "game"):
    assert f"scapp/{part}/py.typed" in names, f"scapp/{part}/py.typed is missing"
stray = [n for n in names if not n.startswith(("scapp/", "scapp-"))]
assert not stray, f"files outside the package: {stray}"
assert any(n.endswith(".wasm") for n in names), "no compiled reducer in the wheel"
for page in ("scapp/game/web/index.html", "scapp/runtime/web/client.js"):
    assert page in names, f"{page} is missing"
assert "scapp/channels/chain/artifacts/NitroAdjudicator.json" in names, "no compiled contract in the wheel"
assert "scapp/runtime/devchain_node/package-lock.json" in names, "no lock of the development chain in the wheel"
for licence in ("LICENSE", "LICENSE-MIT", "LICENSE-APACHE"):
    assert any(n.endswith(f"/licenses/{licence}") for n in names), licence
print(f"{len(names)} files in {sys.argv[1].rpartition('/')[2]}")
PY

echo "installing it into a second environment"
"$venv/bin/python" -m venv "$scratch/venv"
install=("$scratch/venv/bin/python" -m pip install -qq --disable-pip-version-check --no-input)
"${install[@]}" --no-deps --require-hashes --only-binary :all: -r requirements/runtime.txt
"${install[@]}" --no-deps --no-index "${wheel[0]}"

cat >"$scratch/user/app.py" <<'PY'
import scapp.channels.state
import scapp.game
import scapp.reducers.manifest
import scapp.runtime.kernel
from scapp.channels.deployment import Deployment, deployment_id

identity: bytes = deployment_id(Deployment(reducer=bytes(32)))
PY
cat >"$scratch/user/wrong.py" <<'PY'
from scapp.channels.deployment import Deployment, deployment_id

identity: int = deployment_id(Deployment(reducer=bytes(32)))
PY
echo '{"include": ["app.py"], "reportMissingImports": "error", "typeCheckingMode": "standard"}' \
  >"$scratch/user/pyrightconfig.json"

as_user() { # python: imports and checkers against the environment it belongs to
  local python=$1
  (
    cd "$scratch/user"
    "$python" app.py
    "$(dirname "$python")/scapp" --help >/dev/null
    "$venv/bin/mypy" --strict --cache-dir "$scratch/mypy" --python-executable "$python" app.py
    if "$venv/bin/mypy" --strict --cache-dir "$scratch/mypy" --python-executable "$python" wrong.py >/dev/null; then
      echo "mypy accepts a wrong type: it does not see the package's types" >&2
      return 1
    fi
    "$venv/bin/pyright" --pythonpath "$python"
  )
}

echo "as a user of the wheel"
as_user "$scratch/venv/bin/python"
echo "as a user of the editable install"
as_user "$venv/bin/python"
