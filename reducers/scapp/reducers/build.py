"""Compile Zig reducers to WebAssembly, bit for bit the same everywhere; `python -m scapp.reducers.build` is its CLI.

The SDK's sources stand in `reducers/zig/sdk` of the repository, or in `scapp/reducers/zig` of an installation. All
flags stand here: a different flag or compiler version gives a different module, and so a different deployment.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ZIG_VERSION = "0.17.1"
STACK_BYTES = 65_536
MEMORY_BYTES_MAX = 16_777_216
EXPORTS = ("scapp_manifest", "scapp_alloc", "scapp_reduce")
_FEATURES = "mvp+bulk_memory+multivalue+mutable_globals+nontrapping_fptoint+sign_ext"
_FLAGS = (
    "-target", "wasm32-freestanding", f"-mcpu={_FEATURES}",
    "-O", "safe",  # overflow and bounds trap: wrong amounts are worse than a larger module
    "-fstrip", "-fno-entry", "-fsingle-threaded",
    "--stack", str(STACK_BYTES), f"--max-memory={MEMORY_BYTES_MAX}",
    *(f"--export={name}" for name in EXPORTS),
)  # fmt: skip

_HERE = Path(__file__).resolve().parent
_REPOSITORY = _HERE.parents[2]
# Source and artifact of every reducer that ships with the repository, relative to its root.
SHIPPED = (
    ("reducers/library/ledger/ledger.zig", "reducers/scapp/reducers/library/ledger.wasm"),
    ("examples/game/scapp/game/goofspiel.zig", "examples/game/scapp/game/goofspiel.wasm"),
    ("reducers/zig/conformance.zig", "tests/golden/conformance.wasm"),
    ("reducers/library/transfer/transfer.zig", "benchmarks/transfer.wasm"),
)


class BuildError(Exception):
    """The reducer could not be built; the text is the compiler's, or says what is missing and how to get it."""


def sdk_folder() -> Path:
    """Folder of the SDK's sources; raises BuildError when this installation has none."""
    candidates = (_REPOSITORY / "reducers" / "zig" / "sdk", _HERE / "zig")
    for folder in candidates:
        if (folder / "entry.zig").is_file():
            return folder
    raise BuildError(f"Zig SDK not found: looked for entry.zig in {candidates[0]} and {candidates[1]}")


def compiler() -> list[str]:
    """Command that starts the pinned Zig; raises BuildError with the way to get it."""
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError("the Zig compiler is not installed: pip install 'scapp[zig]'")
    command = [sys.executable, "-m", "ziglang"]
    found = subprocess.run([*command, "version"], capture_output=True, text=True, check=False).stdout.strip()
    if found != ZIG_VERSION:
        raise BuildError(f"Zig {found or 'unknown'} is installed, {ZIG_VERSION} is needed: pip install 'scapp[zig]'")
    return command


def build_reducer(source: Path, out: Path, *, cache: Path | None = None) -> None:
    """Compile the reducer file `source` to the module `out`, replaced only when the build succeeds.

    `cache` keeps the compiler's caches between builds; without it Zig's usual global cache is used. Files beside
    `source` may be imported by it. Raises BuildError."""
    source = source.resolve()
    if not source.is_file():
        raise BuildError(f"no such file: {source}")
    command, sdk = compiler(), sdk_folder()
    with tempfile.TemporaryDirectory(prefix="scapp-build-") as work:
        built = Path(work) / "reducer.wasm"
        caches = ["--cache-dir", str((cache or Path(work)) / "local")]
        if cache is not None:
            caches += ["--global-cache-dir", str(cache / "global")]
        modules = ["--dep", "app", "--dep", "scapp", f"-Mroot={sdk / 'entry.zig'}", "--dep", "scapp", f"-Mapp={source}"]
        done = subprocess.run(
            [*command, "build-exe", *_FLAGS, *caches, f"-femit-bin={built}", *modules, f"-Mscapp={sdk / 'scapp.zig'}"],
            capture_output=True,
            text=True,
            check=False,
            cwd=work,
        )
        if done.returncode != 0:
            raise BuildError(f"{source.name} does not compile:\n{done.stderr.strip()}")
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(out.name + ".part")
        shutil.copyfile(built, part)
        part.replace(out)


def check_shipped(repository: Path = _REPOSITORY) -> list[str]:
    """Build every shipped reducer anew, with empty caches, and name the artifacts that differ from the result."""
    stale = []
    with tempfile.TemporaryDirectory(prefix="scapp-check-") as folder:
        for source, artifact in SHIPPED:
            fresh = Path(folder) / Path(artifact).name
            build_reducer(repository / source, fresh, cache=Path(folder) / "cache")
            kept = repository / artifact
            if not kept.is_file() or kept.read_bytes() != fresh.read_bytes():
                stale.append(artifact)
    return stale


def main(arguments: Sequence[str] | None = None) -> int:
    """CLI; returns the exit code: 0 done, 1 artifacts differ or a build failed."""
    parser = argparse.ArgumentParser(prog="python -m scapp.reducers.build", description="Compile Zig reducers.")
    parser.add_argument("source", nargs="?", type=Path, help="a reducer's .zig file")
    parser.add_argument("-o", "--out", type=Path, help="module to write (default: beside the source, .wasm)")
    parser.add_argument("--all", action="store_true", help="rebuild every reducer that ships with the repository")
    parser.add_argument("--check", action="store_true", help="rebuild those elsewhere and compare with what is kept")
    chosen = parser.parse_args(arguments)
    if [chosen.source is not None, chosen.all, chosen.check].count(True) != 1:
        parser.error("give one of: a source file, --all, --check")
    try:
        return _run(chosen)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1


def _run(chosen: argparse.Namespace) -> int:
    if chosen.check:
        stale = check_shipped()
        for artifact in stale:
            print(f"{artifact} is not what its source builds to: python -m scapp.reducers.build --all", file=sys.stderr)
        return 1 if stale else 0
    pairs = [(_REPOSITORY / source, _REPOSITORY / artifact) for source, artifact in SHIPPED]
    if chosen.source is not None:
        pairs = [(chosen.source, chosen.out or chosen.source.with_suffix(".wasm"))]
    for source, out in pairs:
        build_reducer(source, out)
        print(f"{out} ({out.stat().st_size:,} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
