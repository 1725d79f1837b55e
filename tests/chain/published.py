"""The published Nitro contracts, to compare with: from npm, `@statechannels/nitro-protocol`, pinned in `published/`.

Its package has the adjudicator and two apps compiled; token and batch operator come as source and are compiled once,
with the compiler and settings that reproduce the others.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

from scapp.channels.chain.contracts import Contract

HERE = Path(__file__).resolve().parent
SETTINGS: dict[str, Any] = {
    "evmVersion": "london",
    "viaIR": True,
    "optimizer": {"enabled": True, "runs": 20_000},
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}},
}
COMPILED = {"Token": "contracts/Token.sol", "BatchOperator": "contracts/auxiliary/BatchOperator.sol"}
PROTOCOL = "@statechannels/nitro-protocol"


@functools.cache
def build() -> Any:
    """The build script of the project's own contracts, which knows npm and the compiler."""
    path = HERE.parent.parent / "channels" / "contracts" / "build.py"
    spec = importlib.util.spec_from_file_location("scapp_contracts_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@functools.cache
def modules() -> Path:
    """The folder with the npm packages; the first call installs them."""
    path: Path = build().install(HERE / "published")
    return path


@functools.cache
def load(name: str) -> Contract:
    """A published contract by its name."""
    if name in COMPILED:
        return _compile()[name]
    path = modules() / PROTOCOL / "dist" / "artifacts" / "contracts" / f"{name}.sol" / f"{name}.json"
    return _contract(name, json.loads(path.read_bytes()))


def _contract(name: str, artifact: dict[str, Any]) -> Contract:
    codes = (bytes.fromhex(artifact[key].removeprefix("0x")) for key in ("bytecode", "deployedBytecode"))
    return Contract(name, artifact["abi"], *codes)


@functools.cache
def _compile() -> dict[str, Contract]:
    """Those that come as source, from a cache beside the packages."""
    cache = modules().parent / "compiled.json"
    if not cache.exists():
        answer = build().compile_standard(
            {"language": "Solidity", "sources": _sources(), "settings": SETTINGS}, modules() / "solc", strict=False
        )
        found = {name: answer["contracts"][f"{PROTOCOL}/{path}"][name] for name, path in COMPILED.items()}
        flat = {
            name: {
                "abi": item["abi"],
                "bytecode": item["evm"]["bytecode"]["object"],
                "deployedBytecode": item["evm"]["deployedBytecode"]["object"],
            }
            for name, item in found.items()
        }
        partial = cache.with_suffix(".part")
        partial.write_text(json.dumps(flat))
        partial.replace(cache)
    return {name: _contract(name, item) for name, item in json.loads(cache.read_bytes()).items()}


def _sources() -> dict[str, dict[str, str]]:
    """The wanted files and all that they import, by the names under which they are imported."""
    waiting = [f"{PROTOCOL}/{path}" for path in COMPILED.values()]
    found: dict[str, dict[str, str]] = {}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        text = (modules() / name).read_text()
        found[name] = {"content": text}
        for target in re.findall(r"import\s+(?:[^'\";]*?from\s+)?['\"]([^'\"]+)['\"]", text):
            waiting.append(str(_joined(name, target)))
    return found


def _joined(importer: str, target: str) -> Path:
    if not target.startswith("."):
        return Path(target)
    parts: list[str] = list(Path(importer).parent.parts)
    for part in Path(target).parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return Path(*parts)
