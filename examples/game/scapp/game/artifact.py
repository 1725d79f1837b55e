"""Where the built reducer is; `scapp.reducers.build` writes it from `goofspiel.zig`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path

_NAME = "goofspiel.wasm"


def wasm_bytes() -> bytes:
    """The compiled reducer."""
    return (files("scapp.game") / _NAME).read_bytes()


def wasm_path() -> AbstractContextManager[Path]:
    """The compiled reducer as a file, for tools that want a path: `with wasm_path() as path: …`."""
    return as_file(files("scapp.game") / _NAME)
