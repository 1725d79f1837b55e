"""Log entries: their canonical bytes and the running log root (docs/reference/app-channel.md section 2).

An entry is `kind u8 | author u8 | counter u64 | time_ms u64 | payload`, integers big-endian. Its position in
the log (the *sequence*) is not part of it: the log root fixes the order. `log_root(k) = keccak256(log_root(k-1)
|| keccak256(entry k))`, with 32 zero bytes before entry 0. Entry 0 is always OPEN, and its payload is
`OpenPayload` in MessagePack.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from typing import Any

import msgspec

from scapp.channels.crypto import keccak256
from scapp.channels.types import ZERO_HASH, Hash

HEADER = struct.Struct(">BBQQ")
HEADER_BYTES = HEADER.size  # 18
pack_header, unpack_header = HEADER.pack, HEADER.unpack_from  # kind, author, counter, time_ms


class Kind(enum.IntEnum):
    """What an entry is. The numbers are signed into every log and never change."""

    OPEN = 0
    MESSAGE = 1
    TICK = 2
    CLOSE = 3


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One decoded entry; `counter` is the author's own, `time_ms` milliseconds since 1970 UTC."""

    kind: Kind
    author: int
    counter: int
    time_ms: int
    payload: bytes


class Slot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One outcome slot of the prefund: who may be paid in which asset, and the negotiated start amount."""

    asset: bytes  # 20
    destination: bytes  # 32
    amount: bytes  # 32, big-endian unsigned


class OpenPayload(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Payload of entry 0, handed to the reducer as it is: `[participants, slots, params]` in MessagePack."""

    participants: tuple[bytes, ...]
    slots: tuple[Slot, ...]
    params: Any = None


def encode_entry(kind: int, author: int, counter: int, time_ms: int, payload: bytes) -> bytes:
    """Canonical bytes of one entry; raises `struct.error` when a number does not fit its field."""
    return HEADER.pack(kind, author, counter, time_ms) + payload


def decode_entry(data: bytes) -> Entry:
    """Inverse of `encode_entry`; raises `ValueError` for a short header or an unknown kind."""
    if len(data) < HEADER_BYTES:
        raise ValueError(f"entry of {len(data)} bytes: the header alone is {HEADER_BYTES}")
    kind, author, counter, time_ms = HEADER.unpack_from(data)
    return Entry(Kind(kind), author, counter, time_ms, data[HEADER_BYTES:])


def extend_log_root(root: bytes, entries: Iterable[bytes]) -> Hash:
    """The log root after appending `entries` to a log whose root is `root` (`ZERO_HASH` for an empty one)."""
    hash_ = keccak256
    for entry in entries:
        root = hash_(root + hash_(entry))
    return root  # type: ignore[return-value]  # a call of `Hash` costs as much as a short hash


EMPTY_LOG_ROOT = ZERO_HASH
