"""Stored values of the on-disk log: MessagePack with checksums. `rocks.py` decides where they are stored.

Page value     `[previous chain, [event, ...], chain]`
Head value     `[version, chain, check]`
Outbox value   `[value, check]`
Snapshot value `[data, chain of the page that holds event version-1, check]`

A page's chain is the CRC-32 of stream, first version and events, seeded with the chain of the page before (0 at
the start). A page that is altered, missing, moved to another key or swapped with another no longer fits its
neighbours or the head. CRC-32 finds faults of disks and memory; against forgery stand the signatures inside the
events. It costs 40 us for a page of 272 kB, a fifth of blake2b or sha256.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from zlib import crc32

import msgspec

from scapp.channels.log.port import LogCorrupt, Snapshot

GENESIS_CHAIN = 0
STREAM_BYTES = 32
VERSION_LIMIT = 2**64 - 1  # sorts after every version

_ARRAY_OF_3 = 0x93
_UINT32 = 0xCE
_PREFIX = struct.Struct(">BBI")  # array of 3, previous chain
_SUFFIX = struct.Struct(">BI")  # chain
_pack_prefix, _pack_suffix = _PREFIX.pack, _SUFFIX.pack
_VERSION = struct.Struct(">Q")
_pack_version = _VERSION.pack
_NUMBERS = struct.Struct(">QI")

_encode = msgspec.msgpack.Encoder().encode
_decode_events = msgspec.msgpack.Decoder(tuple[bytes, ...]).decode


class Head(msgspec.Struct, frozen=True, gc=False):
    """The end of a stream: number of events, and the chain of its last page."""

    version: int
    chain: int


class StoredPage(msgspec.Struct, frozen=True, gc=False):
    """A page that passed its own checksum; `previous_chain` and `chain` tie it to its neighbours."""

    first_version: int
    events: tuple[bytes, ...]
    previous_chain: int
    chain: int

    @property
    def end_version(self) -> int:
        """Version after the last event of the page."""
        return self.first_version + len(self.events)


class _HeadRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    version: int
    chain: int
    check: int


class _OutboxRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    value: bytes
    check: int


class _SnapshotRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    data: bytes
    page_chain: int
    check: int


_decode_head = msgspec.msgpack.Decoder(_HeadRow).decode
_decode_outbox = msgspec.msgpack.Decoder(_OutboxRow).decode
_decode_snapshot = msgspec.msgpack.Decoder(_SnapshotRow).decode


def page_key(stream: bytes, version: int) -> bytes:
    """40 bytes that sort by stream, then by version; also the key of a snapshot."""
    return stream + _pack_version(version)


def key_version(key: bytes) -> int:
    """The version in a page or snapshot key."""
    version: int = _VERSION.unpack_from(key, STREAM_BYTES)[0]
    return version


def frame_page(key: bytes, events: Sequence[bytes], previous_chain: int) -> tuple[bytes, int]:
    """Value of a new page and its chain."""
    body = _encode(events)
    chain = crc32(key + body, previous_chain)  # nearly always short: a copy costs less than a second call
    return b"".join((_pack_prefix(_ARRAY_OF_3, _UINT32, previous_chain), body, _pack_suffix(_UINT32, chain))), chain


def unframe_page(key: bytes, value: bytes) -> StoredPage:
    """Raises LogCorrupt, naming stream and version, when the page is not what was written under this key."""
    where = f"stream {key[:STREAM_BYTES].hex()} page at version {key_version(key)}"
    if len(value) < _PREFIX.size + _SUFFIX.size:
        raise LogCorrupt(f"{where}: {len(value)} bytes, expected at least {_PREFIX.size + _SUFFIX.size}")
    array, first_tag, previous_chain = _PREFIX.unpack_from(value)
    last_tag, chain = _SUFFIX.unpack_from(value, len(value) - _SUFFIX.size)
    body = memoryview(value)[_PREFIX.size : -_SUFFIX.size]
    found = crc32(body, crc32(key, previous_chain))
    if found != chain or (array, first_tag, last_tag) != (_ARRAY_OF_3, _UINT32, _UINT32):
        raise LogCorrupt(f"{where}: checksum expected {chain:08x}, found {found:08x}")
    try:
        events = _decode_events(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise LogCorrupt(f"{where}: the checksum holds but the events do not decode: {error}") from error
    return StoredPage(key_version(key), events, previous_chain, chain)


def frame_head(stream: bytes, head: Head) -> bytes:
    """Value of a head row."""
    version, chain = head.version, head.chain
    return _encode((version, chain, crc32(_NUMBERS.pack(version, chain), crc32(stream))))  # a _HeadRow


def unframe_head(stream: bytes, value: bytes) -> Head:
    """Raises LogCorrupt when the head row fails its checksum."""
    try:
        row = _decode_head(value)
        expected = _head_check(stream, row.version, row.chain)
    except (msgspec.DecodeError, RecursionError, struct.error) as error:
        raise LogCorrupt(f"stream {stream.hex()} head: {value.hex()} does not decode: {error}") from error
    if row.check != expected:
        raise LogCorrupt(
            f"stream {stream.hex()} head at version {row.version}: "
            f"checksum expected {row.check:08x}, found {expected:08x}"
        )
    return Head(row.version, row.chain)


def frame_outbox(key: bytes, value: bytes) -> bytes:
    """Value of an outbox row."""
    return _encode(_OutboxRow(value, crc32(value, crc32(key))))


def unframe_outbox(key: bytes, stored: bytes) -> bytes:
    """Raises LogCorrupt when the outbox row fails its checksum."""
    try:
        row = _decode_outbox(stored)
    except (msgspec.DecodeError, RecursionError) as error:
        raise LogCorrupt(f"outbox row {key.hex()} does not decode: {error}") from error
    found = crc32(row.value, crc32(key))
    if found != row.check:
        raise LogCorrupt(f"outbox row {key.hex()}: checksum expected {row.check:08x}, found {found:08x}")
    return row.value


def frame_snapshot(key: bytes, data: bytes, page_chain: int) -> bytes:
    """Value of a snapshot row; `page_chain` ties it to the events it folds."""
    return _encode(_SnapshotRow(data, page_chain, crc32(data, crc32(key, page_chain))))


def unframe_snapshot(key: bytes, stored: bytes) -> tuple[Snapshot, int] | None:
    """Snapshot and page chain, or None when the row fails its checksum (a snapshot is only ever a shortcut)."""
    try:
        row = _decode_snapshot(stored)
        check = crc32(row.data, crc32(key, row.page_chain))
    except (msgspec.DecodeError, RecursionError, OverflowError):
        return None
    return (Snapshot(key_version(key), row.data), row.page_chain) if check == row.check else None


def _head_check(stream: bytes, version: int, chain: int) -> int:
    return crc32(_NUMBERS.pack(version, chain), crc32(stream))
