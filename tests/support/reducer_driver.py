"""Drives a compiled reducer through a kernel, one entry a batch, and shows its tables as dicts.

The row decoder here is written apart from the runtime's, so that the two check each other.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgpack

from scapp.channels.admission import ChannelContext
from scapp.channels.entries import Kind, encode_entry
from scapp.channels.types import ChannelId
from scapp.runtime.changes import BatchChanges, LogLine
from scapp.runtime.kernel import Budget
from scapp.runtime.module import CheckedModule, check_module
from tests.support import wat
from tests.support.changes import committed

Slots = Sequence[tuple[bytes, bytes, int]]
ALICE, BOB, CAROL, DAVE = (bytes([tag]) * 20 for tag in (0xA1, 0xB0, 0xCA, 0xDA))
CAST = (ALICE, BOB, CAROL, DAVE)
CHANNEL = bytes(range(32))
NOW_MS = 1_800_000_000_000


class Refused(Exception):
    """The reducer did not accept an entry; `code` as in the ABI, the text is the reason."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@lru_cache
def checked(wasm: bytes) -> CheckedModule:
    """A module compiled once per run of the tests."""
    return check_module(wasm)


def slot_for(address: bytes, amount: int, asset: bytes = bytes(20)) -> tuple[bytes, bytes, int]:
    """An outcome slot that pays an address."""
    return asset, bytes(12) + address, amount


class Driver:
    """One channel with one reducer. `send` and the others raise `Refused` and leave everything as it was."""

    def __init__(
        self,
        wasm: bytes,
        participants: Sequence[bytes] = CAST[:2],
        params: Any = None,
        slots: Slots = (),
        *,
        channel_id: bytes = CHANNEL,
        now_ms: int = NOW_MS,
    ) -> None:
        module = checked(wasm)
        self.manifest = module.manifest
        context = ChannelContext(ChannelId(channel_id), tuple(participants), module.deployment, tuple(slots))
        self.kernel = wat.fresh(module, context)
        self.sequence = 0
        self.now_ms = now_ms
        self.changes: BatchChanges | None = None
        self.logs: tuple[LogLine, ...] = ()
        wire_slots = [[asset, destination, amount.to_bytes(32, "big")] for asset, destination, amount in slots]
        self.raw(Kind.OPEN, 0, msgpack.packb([list(participants), wire_slots, params]))

    def raw(self, kind: Kind, author: int, payload: bytes) -> list[tuple[str, Any]]:
        """Run one entry; returns its events as (topic, value), value unpacked when it is MessagePack."""
        entry = encode_entry(kind, author, self.sequence + 1, self.now_ms, payload)
        result = self.kernel.run(self.sequence, [entry], budget=Budget.ORDER)
        self.logs = result.logs
        if result.refusals:
            self.kernel.rollback()
            raise Refused(result.refusals[0].code, result.refusals[0].reason)
        self.changes = committed(self.kernel)
        self.sequence += 1
        return [(event.topic, _unpacked(event.data)) for event in self.changes.app_events()]

    def send(self, author: int, message: Any) -> list[tuple[str, Any]]:
        return self.raw(Kind.MESSAGE, author, msgpack.packb(message))

    def tick(self, author: int = 0) -> list[tuple[str, Any]]:
        return self.raw(Kind.TICK, author, b"")

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Rows in key order as dicts of Python values; timestamps in milliseconds since 1970, json parsed."""
        columns = next(item.columns for item in self.manifest.tables if item.name == table)
        return [decode_row([(column.name, column.type) for column in columns], row) for row in self.kernel.rows(table)]

    @property
    def amounts(self) -> list[int]:
        return list(self.kernel.amounts())

    def close(self) -> None:
        self.kernel.close()


def _unpacked(data: bytes) -> Any:
    try:
        return msgpack.unpackb(data)
    except (ValueError, msgpack.exceptions.ExtraData):
        return data


def decode_row(columns: Sequence[tuple[str, str]], row: bytes) -> dict[str, Any]:
    """One COPY BINARY tuple as a dict."""
    (count,) = struct.unpack_from(">H", row)
    assert count == len(columns)
    values, at = {}, 2
    for name, type_ in columns:
        (length,) = struct.unpack_from(">i", row, at)
        at += 4
        if length < 0:
            values[name] = None
            continue
        values[name] = _DECODERS[type_](row[at : at + length])
        at += length
    assert at == len(row)
    return values


def _numeric(data: bytes) -> int:
    count, weight, sign, scale = struct.unpack_from(">HhHH", data)
    assert (sign, scale) == (0, 0)
    digits = struct.unpack_from(f">{count}H", data, 8)
    return sum(digit * 10_000 ** (weight - index) for index, digit in enumerate(digits))


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "bool": lambda data: data == b"\1",
    "int2": _signed,
    "int4": _signed,
    "int8": _signed,
    "numeric": _numeric,
    "float8": lambda data: struct.unpack(">d", data)[0],
    "text": lambda data: data.decode(),
    "json": json.loads,
    "timestamptz": lambda data: _signed(data) // 1000 + 946_684_800_000,
    "bytea": bytes,
    "bytes32": bytes,
    "address": bytes,
    "uuid": bytes,
}
