"""Compiles the kernel to WebAssembly, bit for bit the same everywhere: `make kernel`, or with --check to compare.

Always from an empty cache: Zig's cache has given stale code after a change of an imported file's declarations.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scapp.reducers.toolchain import BuildError
from scapp.reducers.zig import compiler
from scapp.runtime.native.modules import KERNEL_NAME
from scapp.runtime.wasm_sections import write_u32

SOURCES = Path(__file__).resolve().parent / "src"
ARTIFACT = Path(__file__).resolve().parents[1] / "scapp/runtime/native/kernel.wasm"
STACK_BYTES = 65_536
FLAGS = (
    "-target", "wasm32-freestanding",
    "-mcpu=mvp+bulk_memory+multivalue+mutable_globals+nontrapping_fptoint+sign_ext+simd128",
    "-fno-builtin",  # short copies stay loops
    "-fstrip", "-fno-entry", "-fsingle-threaded", "--stack", str(STACK_BYTES),
)  # fmt: skip
_EXPORT = re.compile(r"^(?:pub )?export fn (\w+)", re.MULTILINE)


def build(out: Path, *, safe: bool = False) -> None:
    """Compile to `out`; `safe` keeps Zig's checks of overflow and bounds, for tests. Raises BuildError."""
    names = [name for source in sorted(SOURCES.glob("*.zig")) for name in _EXPORT.findall(source.read_text())]
    with tempfile.TemporaryDirectory(prefix="scapp-kernel-") as work:
        built = Path(work) / "kernel.wasm"
        caches = ["--cache-dir", f"{work}/local", "--global-cache-dir", f"{work}/global"]
        exports = [f"--export={name}" for name in names]
        mode = ["-O", "safe" if safe else "fast"]
        done = subprocess.run(
            [*compiler(), "build-exe", *FLAGS, *mode, *exports, *caches, f"-femit-bin={built}", SOURCES / "main.zig"],
            capture_output=True,
            text=True,
            check=False,
            cwd=work,
        )
        if done.returncode != 0:
            raise BuildError(f"the kernel does not compile:\n{done.stderr.strip()}")
        out.write_bytes(built.read_bytes() + _name_section())


def _name_section() -> bytes:
    """The module's name, by which its frames in a trap are told from a reducer's."""
    name = KERNEL_NAME.encode()
    subsection = write_u32(len(name)) + name
    body = b"\4name\0" + write_u32(len(subsection)) + subsection
    return b"\0" + write_u32(len(body)) + body


def main(arguments: Sequence[str] | None = None) -> int:
    """CLI; returns the exit code: 0 done, 1 the artifact differs or the build failed."""
    parser = argparse.ArgumentParser(prog="runtime/kernel/build.py", description="Compile the kernel.")
    parser.add_argument("--check", action="store_true", help="build elsewhere and compare with what is kept")
    parser.add_argument("--out", type=Path, default=ARTIFACT, help="file to write")
    chosen = parser.parse_args(arguments)
    try:
        if not chosen.check:
            build(chosen.out)
            print(f"{chosen.out} ({chosen.out.stat().st_size:,} bytes)")
            return 0
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder) / "kernel.wasm"
            build(fresh)
            if fresh.read_bytes() == ARTIFACT.read_bytes():
                return 0
        print(f"{ARTIFACT.name} is not what its source builds to: make kernel", file=sys.stderr)
    except BuildError as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
