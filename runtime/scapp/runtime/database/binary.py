"""PostgreSQL's binary formats without decoding a value: COPY tuples cut into columns, columns joined to arrays, and
the psycopg adapter that sends such bytes as they are. `write.py` uses them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import msgspec
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

_LENGTH = struct.Struct(">i")
_ARRAY = struct.Struct(">iiIii")
_EMPTY_ARRAY = struct.Struct(">iiI")
_INT2, _INT4, _INT8 = struct.Struct(">ih"), struct.Struct(">ii"), struct.Struct(">iq")

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"

# Type numbers of PostgreSQL's catalog; they never change. The domains travel as what they are made of.
OIDS = {
    "bool": 16,
    "bytea": 17,
    "int8": 20,
    "int2": 21,
    "int4": 23,
    "text": 25,
    "json": 114,
    "float8": 701,
    "timestamptz": 1184,
    "numeric": 1700,
    "uuid": 2950,
    "bytes32": 17,
    "address": 17,
}
BASE_TYPES = {name: "bytea" if name in ("bytes32", "address") else name for name in OIDS}


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


def columns_of(rows: Sequence[bytes], count: int) -> list[list[bytes]]:
    """For each of `count` columns the fields of all rows, each with its length in front, as arrays want them."""
    columns: list[list[bytes]] = [[] for _ in range(count)]
    appends = [column.append for column in columns]
    length_at = _LENGTH.unpack_from
    for row in rows:
        position = 2
        for append in appends:
            (length,) = length_at(row, position)
            end = position + 4 + (length if length > 0 else 0)
            append(row[position:end])
            position = end
    return columns


def array(type_name: str, fields: Sequence[bytes]) -> Raw:
    """One-dimensional array of fields that carry their length; NULL fields are allowed."""
    oid = OIDS[type_name]
    if not fields:
        return Raw(_EMPTY_ARRAY.pack(0, 0, oid))
    return Raw(b"".join((_ARRAY.pack(1, 1, oid, len(fields), 1), *fields)))


def int2_fields(values: Iterable[int]) -> list[bytes]:
    return [_INT2.pack(2, value) for value in values]


def int4_fields(values: Iterable[int]) -> list[bytes]:
    return [_INT4.pack(4, value) for value in values]


def int8_fields(values: Iterable[int]) -> list[bytes]:
    return [_INT8.pack(8, value) for value in values]


def bytes_fields(values: Iterable[bytes]) -> list[bytes]:
    pack = _LENGTH.pack
    return [pack(len(value)) + value for value in values]


def int8(value: int) -> Raw:
    return Raw(value.to_bytes(8, "big", signed=True))


def boolean(value: bool) -> Raw:
    return Raw(b"\1" if value else b"\0")


def text_array(values: Iterable[object]) -> Raw:
    return array("text", bytes_fields(str(value).encode() for value in values))
