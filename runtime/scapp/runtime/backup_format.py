"""What a backup is: a directory, or a tar file of one, with a manifest that names every file and its checksum.

    manifest.json     this document
    log/              checkpoint of the event log
    home/             the node's files: settings, peers, deployments, projections; key and tokens on request

`backup.py` makes one, `restore.py` puts one in place.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from scapp.channels.errors import LocalError

MANIFEST = "manifest.json"
FORMAT = "scapp-backup"
VERSION = 1
SETTINGS = ("scapp.toml", "peers.json")
FOLDERS = ("deployments", "projections")
SECRETS = ("key", "key.json", "chain-key", "chain-key.json", "api.token", "tokens.json")
_CHUNK = 1 << 20


class FileMark(msgspec.Struct, frozen=True):
    """One file of a backup: its size and the SHA-256 of its bytes."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`channels`: every channel id that this node's log has ever seen; none of them may begin again (safety rule 9)."""

    format: str
    version: int
    made_ms: int
    scapp: str
    address: str
    has_keys: bool
    channels: tuple[str, ...]
    files: dict[str, FileMark]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(mark.bytes for mark in self.files.values())


class _Head(msgspec.Struct):
    format: str
    version: int


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Raises LocalError, for a newer version with what to do about it."""
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.format != FORMAT:
            raise LocalError(f"{where} is no backup of scapp: its manifest is a {head.format!r}")
        if head.version > VERSION:
            raise LocalError(
                f"{where} has backup format {head.version}; this scapp reads up to {VERSION}: install the newer scapp "
                "that wrote it"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise LocalError(f"{where}: {MANIFEST} cannot be read: {error}") from None
    for name in manifest.files:
        parts = Path(name).parts
        if not parts or parts[0] not in ("log", "home") or ".." in parts or "\\" in name or "\0" in name:
            raise LocalError(f"{where}: {MANIFEST} names the file {name!r}, which has no place in a backup")
    return manifest


def mark_of(path: Path) -> FileMark:
    """Size and checksum of a file. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return FileMark(size, digest.hexdigest())
