"""The apps this node knows: module bytes and deployment bytes, content-addressed and kept for ever.

Layout of the folder: `modules/HASH.wasm`, and per deployment `ID.json` (what people ask about) beside `ID.deployment`
(the canonical bytes, written last: without it the deployment does not exist). `module.py` checks a module first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from scapp.channels.crypto import keccak256
from scapp.channels.deployment import ABI, Deployment, Limits, decode_deployment, deployment_id, encode_deployment
from scapp.channels.errors import CorruptionError, LocalError
from scapp.channels.types import Hash
from scapp.reducers.manifest import Manifest, Table
from scapp.runtime.keys_file import sync_folder

ID_PREFIX_DIGITS_MIN = 8
_log = logging.getLogger(__name__)


class UnknownApp(LocalError):
    """No deployment of this name or id is known here."""


class App(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of one deployment besides its bytes."""

    id: bytes
    deployment: Deployment
    manifest: Manifest
    wasm_bytes: int
    deployed_ms: int

    @property
    def name(self) -> str:
        return self.manifest.name

    def table(self, name: str) -> Table | None:
        return next((table for table in self.manifest.tables if table.name == name), None)


class Inspect(Protocol):
    """Check a module under these limits and read its manifest; raises a ScappError that names the offence."""

    def __call__(self, wasm: bytes, limits: Limits) -> Manifest: ...


class DeploymentStore:
    """Thread-safe. `inspect` is the deploy-time check; bytes it refuses are never stored."""

    def __init__(self, folder: Path, inspect: Inspect, clock_ms: Callable[[], int] | None = None) -> None:
        self._folder = folder
        self._modules = folder / "modules"
        self._inspect = inspect
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self._lock = threading.Lock()
        self._apps: dict[bytes, App] = {}
        self._modules.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("*.deployment")):
            try:
                app = self._read(path)
            except CorruptionError as error:  # one broken file must not keep every other channel from running
                _log.error("%s; deploy the module again", error)
            else:
                self._apps[app.id] = app

    def add(self, wasm: bytes, limits: Limits | None = None) -> App:
        """Check and keep a module; deploying the same bytes under the same limits again gives the same app, and mends
        files that were lost or changed."""
        limits = limits or Limits()
        deployment = Deployment(keccak256(wasm), ABI, limits)
        identity = bytes(deployment_id(deployment))
        with self._lock:
            known = self._apps.get(identity)
        if known is not None:
            self._mend(deployment.reducer, wasm)
            return known
        manifest = self._inspect(wasm, limits)
        app = App(
            id=identity,
            deployment=deployment,
            manifest=manifest,
            wasm_bytes=len(wasm),
            deployed_ms=self._clock_ms(),
        )
        with self._lock:
            write_whole(self._modules / f"{deployment.reducer.hex()}.wasm", wasm)
            write_whole(self._folder / f"{identity.hex()}.json", msgspec.json.encode(app))
            write_whole(self._folder / f"{identity.hex()}.deployment", encode_deployment(deployment))
            self._apps[identity] = app
        return app

    def all(self) -> list[App]:
        """Every app, oldest first."""
        with self._lock:
            return sorted(self._apps.values(), key=lambda app: (app.deployed_ms, app.id))

    def get(self, identity: bytes) -> App | None:
        with self._lock:
            return self._apps.get(bytes(identity))

    def resolve(self, text: str) -> App:
        """By name (the latest deployed of that name) or by id, of which 8 digits suffice. Raises LocalError."""
        apps = self.all()
        named = [app for app in apps if app.name == text]
        if named:
            return named[-1]
        digits = text.lower().removeprefix("0x")
        found = [app for app in apps if app.id.hex().startswith(digits)] if len(digits) >= ID_PREFIX_DIGITS_MIN else []
        if len(found) == 1:
            return found[0]
        if found:
            raise LocalError(f"{text} is the beginning of {len(found)} deployment ids; give more digits")
        known = ", ".join(sorted({app.name for app in apps})) or "none"
        raise UnknownApp(f"no app {text!r} is deployed at this node (known: {known})")

    def wasm(self, reducer: bytes) -> bytes | None:
        """The module of this hash, or None. Raises CorruptionError when the file's bytes do not have the hash."""
        path = self._modules / f"{bytes(reducer).hex()}.wasm"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        if keccak256(data) != bytes(reducer):
            raise CorruptionError(f"{path} holds other bytes than its name says; deploy the module again")
        return data

    def _mend(self, reducer: bytes, wasm: bytes) -> None:
        """Write a module's file again when it is gone or holds other bytes."""
        path = self._modules / f"{reducer.hex()}.wasm"
        with self._lock, contextlib.suppress(FileNotFoundError):
            if path.read_bytes() == wasm:
                return
        with self._lock:
            write_whole(path, wasm)

    def _read(self, path: Path) -> App:
        try:
            deployment = decode_deployment(path.read_bytes())
            app = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=App)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise CorruptionError(f"{path} cannot be read: {error}") from error
        if Hash(app.id) != deployment_id(deployment) or path.stem != app.id.hex():
            raise CorruptionError(f"{path} and its .json speak of different deployments")
        return app


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, and durable."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = error.filename or str(path)  # a failed write does not say where
        raise
    sync_folder(path.parent)
