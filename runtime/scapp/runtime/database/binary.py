"""Parameters that PostgreSQL takes in binary as they are: the psycopg adapter and the few scalars that `write.py` and
`schema.py` need. Arrays are made in `scapp.runtime.arrays`."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from scapp.runtime import arrays

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"


class Raw(msgspec.Struct, frozen=True, gc=False):
    """A parameter in binary format; the statement's own cast gives its type."""

    data: bytes


class _RawDumper(Dumper):
    format = Format.BINARY
    oid = 0

    def dump(self, obj: Raw) -> bytes:
        return obj.data


def register(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Let this connection take `Raw` parameters."""
    connection.adapters.register_dumper(Raw, _RawDumper)


def int8(value: int) -> Raw:
    return Raw(value.to_bytes(8, "big", signed=True))


def boolean(value: bool) -> Raw:
    return Raw(b"\1" if value else b"\0")


def bytea_array(values: Iterable[bytes]) -> Raw:
    return Raw(arrays.array("bytea", arrays.bytes_fields(values)))


def text_array(values: Iterable[object]) -> Raw:
    return Raw(arrays.array("text", arrays.bytes_fields(str(value).encode() for value in values)))
