"""Compile reducers to WebAssembly; `python -m scapp.reducers.build` and `scapp build` are its command lines.

The language follows from the file's name. Zig, C and AssemblyScript give the same bytes everywhere, because their
compilers are pinned; Rust does for one version of rustc. The flags stand in `zig.py`, `rust.py`, `assemblyscript.py`: a
different flag or compiler gives a different module, and so a different deployment.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scapp.reducers import assemblyscript, rust, zig
from scapp.reducers.toolchain import REPOSITORY, BuildError, ToolchainMissing

LANGUAGES = {".zig": "zig", ".c": "c", ".rs": "rust", ".ts": "assemblyscript"}
OPTIONAL = {"rust", "assemblyscript"}  # compilers that do not come with pip
# Source and artifact of every reducer that ships with the repository, relative to its root.
SHIPPED = (
    ("reducers/library/ledger/ledger.zig", "reducers/scapp/reducers/library/ledger.wasm"),
    ("reducers/library/chat/chat.c", "reducers/scapp/reducers/library/chat.wasm"),
    ("reducers/library/auction/auction.zig", "reducers/scapp/reducers/library/auction.wasm"),
    ("reducers/library/orderbook/orderbook.rs", "reducers/scapp/reducers/library/orderbook.wasm"),
    ("reducers/library/crafting/crafting.zig", "reducers/scapp/reducers/library/crafting.wasm"),
    ("examples/game/scapp/game/goofspiel.zig", "examples/game/scapp/game/goofspiel.wasm"),
    ("reducers/zig/conformance.zig", "tests/golden/conformance.wasm"),
    ("reducers/library/transfer/transfer.zig", "benchmarks/transfer.wasm"),
    ("reducers/library/ledger/ledger.c", "tests/golden/ledger-c.wasm"),
    ("reducers/c/conformance.c", "tests/golden/conformance-c.wasm"),
    ("reducers/library/ledger/ledger.rs", "tests/golden/ledger-rust.wasm"),
    ("reducers/rust/conformance.rs", "tests/golden/conformance-rust.wasm"),
    ("reducers/library/ledger/ledger.ts", "tests/golden/ledger-assemblyscript.wasm"),
    ("reducers/assemblyscript/conformance.ts", "tests/golden/conformance-assemblyscript.wasm"),
)


def language_of(source: Path) -> str:
    """Of a reducer file; raises BuildError for a name that ends in none of `LANGUAGES`."""
    if source.suffix not in LANGUAGES:
        raise BuildError(f"{source.name} is in no language known here: files end in {', '.join(LANGUAGES)}")
    return LANGUAGES[source.suffix]


def build_reducer(
    source: Path, out: Path, *, cache: Path | None = None, pinned: bool = False, quick: bool = False
) -> None:
    """Compile the reducer file `source` to the module `out`, replaced only when the build succeeds.

    `cache` keeps Zig's caches between builds; without it its usual global cache is used. Files beside `source` may be
    used by it. `pinned` demands the version of rustc that built what ships. `quick`, for trying things: the module does
    the same, but its bytes are not those that participants sign; only Zig has it. Raises BuildError."""
    source = source.resolve()
    if not source.is_file():
        raise BuildError(f"no such file: {source}")
    language = language_of(source)
    with tempfile.TemporaryDirectory(prefix="scapp-build-") as folder:
        work = Path(folder)
        built = work / "reducer.wasm"
        if language == "rust":
            rust.build_rust(source, built, work, version=rust.RUST_VERSION if pinned else None)
        elif language == "assemblyscript":
            assemblyscript.build_assemblyscript(source, built, work)
        elif language == "zig":
            zig.build_zig(source, built, work, cache, quick=quick)
        else:
            zig.build_c(source, built, work, cache)
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(out.name + ".part")
        shutil.copyfile(built, part)
        part.replace(out)


def check_shipped(repository: Path = REPOSITORY) -> tuple[list[str], list[str]]:
    """Build every shipped reducer anew, with empty caches: the artifacts that differ, and why some were not built."""
    stale, skipped = [], []
    with tempfile.TemporaryDirectory(prefix="scapp-check-") as folder:
        for source, artifact in SHIPPED:
            fresh, kept = Path(folder) / Path(artifact).name, repository / artifact
            try:
                build_reducer(repository / source, fresh, cache=Path(folder) / "cache", pinned=True)
            except ToolchainMissing as error:
                skipped.append(f"{artifact} not rebuilt: {error}")
                continue
            if not kept.is_file() or kept.read_bytes() != fresh.read_bytes():
                stale.append(artifact)
    return stale, skipped


def main(arguments: Sequence[str] | None = None) -> int:
    """CLI; returns the exit code: 0 done, 1 artifacts differ or a build failed."""
    parser = argparse.ArgumentParser(prog="python -m scapp.reducers.build", description="Compile reducers.")
    parser.add_argument("source", nargs="?", type=Path, help="a reducer's .zig, .c, .rs or .ts file")
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
        stale, skipped = check_shipped()
        for line in skipped:
            print(line)
        for artifact in stale:
            print(f"{artifact} is not what its source builds to: python -m scapp.reducers.build --all", file=sys.stderr)
        return 1 if stale else 0
    if chosen.all:
        return _build_all()
    out = chosen.out or chosen.source.with_suffix(".wasm")
    build_reducer(chosen.source, out)
    print(f"{out} ({out.stat().st_size:,} bytes)")
    return 0


def _build_all() -> int:
    for source, artifact in SHIPPED:
        out = REPOSITORY / artifact
        try:
            build_reducer(REPOSITORY / source, out, pinned=True)
        except ToolchainMissing as error:
            if language_of(Path(source)) not in OPTIONAL:  # Zig comes with pip, so its absence is a mistake
                raise
            print(f"{artifact} not rebuilt: {error}")
            continue
        print(f"{out} ({out.stat().st_size:,} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
