"""Compiles the Zig sources that only measures need; the caches are the usual ones, so that only the first run waits."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
_FEATURES = "mvp+bulk_memory+multivalue+mutable_globals+nontrapping_fptoint+sign_ext"


@cache
def compiled(source: str, exports: Sequence[str], features: str = "", kernel_source: str = "") -> bytes:
    """The module of a source relative to this folder, optimised for speed; it may import one file of the kernel."""
    from scapp.reducers.zig import compiler

    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "module.wasm"
        flags = [
            "-target",
            "wasm32-freestanding",
            f"-mcpu={_FEATURES}{features}",
            "-O",
            "fast",
            "-fstrip",
            "-fno-entry",
        ]
        flags += ["-fsingle-threaded", "--stack", "65536", "--max-memory=16777216", *(f"--export={n}" for n in exports)]
        if kernel_source:
            imported = f"-M{kernel_source}={HERE.parent / 'runtime/kernel/src' / kernel_source}.zig"
            parts = ["--dep", kernel_source, f"-Mroot={HERE / source}", imported]
        else:
            parts = [str(HERE / source)]
        subprocess.run(
            [*compiler(), "build-exe", *flags, f"-femit-bin={out}", "--cache-dir", work, *parts],
            check=True,
            capture_output=True,
            cwd=work,
        )
        return out.read_bytes()
