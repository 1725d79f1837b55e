"""Putting a backup in place: verified to the last event, marked as restored, whole or not at all.

A log that came from a backup may be older than what its node has signed; so every channel in it recovers first
(`scapp.channels.restoring`). The database is derived again by the node's first start.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from scapp.channels.errors import CorruptionError, LocalError
from scapp.channels.log.port import NODE_STREAM
from scapp.channels.log.rocks import RocksLog
from scapp.channels.restoring import mark_restored
from scapp.runtime.backup_format import MANIFEST, SECRETS, Manifest, mark_of, parse_manifest
from scapp.runtime.keys_file import sync_folder
from scapp.runtime.progress import Meter

MANIFEST_BYTES_MAX = 64 * 1024 * 1024


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a restore; `unreadable` channels stay closed."""

    home: str
    address: str
    made_ms: int
    channels: int
    bytes: int
    has_keys: bool
    unreadable: dict[str, str]


def restore_backup(source: Path, home: Path, *, now_ms: int, meter: Meter) -> Restored:
    """Raises LocalError when the backup is not whole or the directory is not empty, OSError, and what opening the log
    raises. Until all is verified and marked, `home` does not exist. Blocks."""
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise LocalError(f"{home} is not empty: a backup is put into an empty or a new directory only")
    home.parent.mkdir(parents=True, exist_ok=True)
    folder = home.with_name(f".{home.name}.{secrets.token_hex(4)}.restoring")
    try:
        with _opened(source) as (read, names):
            with read(MANIFEST) as file:
                manifest = parse_manifest(file.read(MANIFEST_BYTES_MAX), str(source))
            _check_names(source, manifest, names)
            folder.mkdir(mode=0o700)
            _copy(source, manifest, read, folder, meter)
        unreadable = _mark(source, manifest, folder / "log", now_ms, meter)
        if home.exists():
            home.rmdir()
        folder.rename(home)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sync_folder(home.parent)
    return Restored(
        home=str(home), address=manifest.address, made_ms=manifest.made_ms, channels=len(manifest.channels),
        bytes=manifest.size, has_keys=manifest.has_keys, unreadable=unreadable,
    )  # fmt: skip


Read = Callable[[str], IO[bytes]]


@contextmanager
def _opened(source: Path) -> Iterator[tuple[Read, set[str]]]:
    """How to read a file of the backup, and which there are."""
    if source.is_dir():
        names = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
        yield (lambda name: (source / name).open("rb")), names
        return
    try:
        with tarfile.open(source, "r:") as tar:
            members = {member.name: member for member in tar if member.isfile()}

            def read(name: str) -> IO[bytes]:
                file = tar.extractfile(members[name]) if name in members else None
                if file is None:
                    raise LocalError(f"{source} has no file {name}")
                return file

            yield read, set(members)
    except FileNotFoundError:
        raise LocalError(f"{source} does not exist") from None
    except tarfile.TarError as error:
        raise LocalError(f"{source} is neither a directory nor a tar file that can be read: {error}") from None


def _check_names(source: Path, manifest: Manifest, names: set[str]) -> None:
    missing = sorted(set(manifest.files) - names)
    extra = sorted(names - set(manifest.files) - {MANIFEST})
    if missing or extra:
        what = f"lacks {', '.join(missing[:3])}" if missing else f"has {', '.join(extra[:3])}, unknown to its manifest"
        raise LocalError(f"{source} is not whole: it {what}")


def _copy(source: Path, manifest: Manifest, read: Read, folder: Path, meter: Meter) -> None:
    meter.stage("copying", "bytes", manifest.size)
    for name, wanted in manifest.files.items():
        path = folder / name.removeprefix("home/")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = 0o600 if path.name in SECRETS else 0o644
        with (
            read(name) as file,
            os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as copy,
        ):
            shutil.copyfileobj(file, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        found = mark_of(path)
        if found != wanted:
            raise LocalError(
                f"{source}: {name} is damaged: expected {wanted.bytes} bytes with SHA-256 {wanted.sha256}, "
                f"found {found.bytes} with {found.sha256}"
            )
        meter.advance(wanted.bytes)


def _mark(source: Path, manifest: Manifest, path: Path, now_ms: int, meter: Meter) -> dict[str, str]:
    """Read the whole log once, then write the facts of the restore."""
    with RocksLog(path) as log:
        streams = log.streams()
        lost = sorted(set(manifest.channels) - {"0x" + stream.hex() for stream in streams})
        if lost:
            raise LocalError(f"{source}: the log lacks channel {lost[0]}, which the manifest names")
        unreadable: dict[str, str] = {}
        meter.stage("reading the log", "channels", len(streams))
        for stream in streams:
            try:
                for _ in log.read(stream):
                    pass
            except CorruptionError as error:
                if stream == NODE_STREAM:
                    raise
                unreadable["0x" + stream.hex()] = str(error)
            meter.advance()
        for stream, fault in mark_restored(log, secrets.token_bytes(16), now_ms, manifest.made_ms).items():
            unreadable["0x" + stream.hex()] = fault
    return unreadable
