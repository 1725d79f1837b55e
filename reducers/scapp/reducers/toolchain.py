"""What the compilers of `zig.py` and `rust.py` share: errors, the SDKs' folders, and running a compiler."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

STACK_BYTES = 65_536
MEMORY_BYTES_MAX = 16_777_216
EXPORTS = ("scapp_manifest", "scapp_alloc", "scapp_reduce")

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]


class BuildError(Exception):
    """The reducer could not be built; the text is the compiler's, or says what is missing and how to get it."""


class ToolchainMissing(BuildError):
    """The compiler is not here; the text says how to get it."""


def sdk_folder(language: str, landmark: str) -> Path:
    """Folder of an SDK's sources: of the repository, or of an installation; BuildError when there is none."""
    candidates = (REPOSITORY / "reducers" / language / "sdk", HERE / language)
    for folder in candidates:
        if (folder / landmark).is_file():
            return folder
    raise BuildError(f"{language} SDK not found: looked for {landmark} in {candidates[0]} and {candidates[1]}")


def run(command: Sequence[str], what: str, *, folder: Path) -> None:
    """Run a compiler; BuildError with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode != 0:
        raise BuildError(f"{what} does not compile:\n{(done.stderr or done.stdout).strip()}")
