"""Compiling a checked module once, and keeping compiled code on disk; `module.py` does the checking.

Compiled code is native code that is run as it is, so the cache folder belongs to its user alone (0700), every file
carries a checksum, and any doubt about a file means compiling again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from pathlib import Path

from wasmtime import Module, WasmtimeError

from scapp.runtime.engine_config import engine_id, portable_engine, quick_engine, run_engine
from scapp.runtime.kernel import Budget

_CHECKSUM_BYTES = 32


class CodeCache:
    """Files of compiled code under `folder`, named by module hash and engine id; None keeps nothing.

    Raises PermissionError when the folder belongs to somebody else or others may write to it."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder is None:
            return
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.getuid():
            raise PermissionError(f"cache folder {folder} belongs to user {status.st_uid}; it must be our own")
        if status.st_mode & 0o077:
            folder.chmod(0o700)

    def load(self, wasm: bytes) -> bytes | None:
        """Compiled code of exactly this module, or None when there is none that is whole."""
        if self.folder is None:
            return None
        try:
            data = self._path(wasm).read_bytes()
        except OSError:
            return None
        checksum, code = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
        return code if code and hashlib.sha256(code).digest() == checksum else None

    def store(self, wasm: bytes, code: bytes) -> None:
        """Keep compiled code; a full or read-only disk costs only the next compilation."""
        if self.folder is None:
            return
        with contextlib.suppress(OSError):
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(code).digest() + code)
                os.replace(name, self._path(wasm))
            except OSError:
                os.unlink(name)

    def _path(self, wasm: bytes) -> Path:
        assert self.folder is not None
        return self.folder / f"{hashlib.sha256(wasm).hexdigest()}-{engine_id()}.cwasm"


class CompiledModule:
    """One module for the engines of all budgets: compiled once, loaded where it is first used. Thread-safe. `quick`:
    compiled in less time to slower code, and not kept."""

    def __init__(self, wasm: bytes, cache: CodeCache, *, quick: bool = False) -> None:
        self._lock = threading.Lock()
        self._wasm = wasm
        self._modules: dict[Budget, Module] = {}
        self._code = bytes(Module(quick_engine(), wasm).serialize()) if quick else self._compile(wasm, cache)

    def _compile(self, wasm: bytes, cache: CodeCache) -> bytes:
        engine = run_engine(Budget.ORDER)
        code = cache.load(wasm)
        if code is not None:
            with contextlib.suppress(WasmtimeError):
                self._modules[Budget.ORDER] = Module.deserialize(engine, code)
                return code
        module = Module(engine, wasm)
        code = bytes(module.serialize())
        cache.store(wasm, code)
        self._modules[Budget.ORDER] = module
        return code

    def module(self, budget: Budget) -> Module:
        """The module in the budget's engine."""
        with self._lock:
            if budget not in self._modules:
                self._modules[budget] = Module.deserialize(run_engine(budget), self._code)
            return self._modules[budget]

    def portable(self) -> Module:
        """The module for the engine's interpreter; compiled at each call."""
        return Module(portable_engine(), self._wasm)
