"""Where the built reducer and the page are; `scapp.reducers.build` writes the first from `goofspiel.zig`."""

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


def web_folder() -> Path:
    """The files of the page, for `[web]` of a node's settings."""
    return Path(__file__).parent / "web"
