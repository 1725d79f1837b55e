"""Making a backup of a node, while it runs or not; `backup_format.py` says what one is, `restore.py` puts it in place.

The log is a checkpoint that RocksDB makes: what is durable at one moment, whatever is written meanwhile. Tables of the
database and compiled modules are not in it, for they are made again from the log.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from scapp.channels.books.step import BOOKS_STREAM
from scapp.channels.errors import LocalError
from scapp.channels.log.port import NODE_STREAM
from scapp.channels.log.rocks import RocksLog
from scapp.channels.payments.locked.events import LOCKS_STREAM
from scapp.runtime.backup_format import FOLDERS, FORMAT, MANIFEST, SECRETS, SETTINGS, VERSION, Manifest, mark_of
from scapp.runtime.keys_file import check_private, sync_folder
from scapp.runtime.progress import Meter
from scapp.runtime.recovery_documents import BackupView

_OWN = (NODE_STREAM, BOOKS_STREAM, LOCKS_STREAM)  # streams that are no channel's


def make_backup(
    home: Path, log: RocksLog, target: Path, *, address: str, keys: bool, now_ms: int, scapp: str, meter: Meter
) -> Manifest:
    """Write the backup to `target`, a new directory, or a tar file when its name ends with `.tar`; whole or not at all.

    Raises LocalError, OSError, and what the log raises. Blocks."""
    if target.exists():
        raise LocalError(f"{target} exists already; a backup is never written over anything")
    if not target.parent.is_dir():
        raise LocalError(f"{target.parent} is no directory; make it first")
    folder = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    folder.mkdir(mode=0o700)
    try:
        meter.stage("checkpoint of the log", "")
        # First the log, then its list of channels: one that opens meanwhile is in the list at worst.
        log.checkpoint(folder / "log")
        channels = tuple("0x" + stream.hex() for stream in log.streams() if stream not in _OWN)
        _copy_home(home, folder / "home", keys)
        manifest = _described(folder, meter, address=address, keys=keys, now_ms=now_ms, scapp=scapp, channels=channels)
        _sync(folder)
        if target.suffix == ".tar":
            _pack(folder, target, meter, manifest)
        else:
            folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sync_folder(target.parent)
    return manifest


def backup_view(target: Path, made: Manifest) -> BackupView:
    """What is told of a backup that was made."""
    return BackupView(
        path=str(target), made_ms=made.made_ms, files=len(made.files), bytes=made.size, channels=len(made.channels),
        has_keys=made.has_keys,
    )  # fmt: skip


def _copy_home(home: Path, into: Path, keys: bool) -> None:
    into.mkdir(mode=0o700)
    for name in (*SETTINGS, *(SECRETS if keys else ())):
        if (home / name).exists():
            if name in SECRETS:
                check_private(home / name)
            shutil.copy2(home / name, into / name)
    for name in FOLDERS:
        if (home / name).is_dir():
            shutil.copytree(home / name, into / name, ignore=shutil.ignore_patterns(".*"))


def _described(
    folder: Path, meter: Meter, *, address: str, keys: bool, now_ms: int, scapp: str, channels: tuple[str, ...]
) -> Manifest:
    files = {}
    found = list(_files(folder))
    meter.stage("checksums", "bytes", sum(path.stat().st_size for path in found))
    for path in found:
        mark = files[path.relative_to(folder).as_posix()] = mark_of(path)
        meter.advance(mark.bytes)
    manifest = Manifest(
        format=FORMAT, version=VERSION, made_ms=now_ms, scapp=scapp, address=address, has_keys=keys,
        channels=channels, files=files,
    )  # fmt: skip
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    return manifest


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "LOCK")


def _pack(folder: Path, target: Path, meter: Meter, manifest: Manifest) -> None:
    meter.stage("packing", "bytes", manifest.size)
    temporary = folder.with_suffix(".tar")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                for name in (MANIFEST, *manifest.files):
                    tar.add(folder / name, name)
                    meter.advance((folder / name).stat().st_size)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Everything below the folder onto the disk."""
    for path in folder.rglob("*"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(folder)
