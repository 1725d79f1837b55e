"""PostgreSQL's binary arrays without decoding a value: COPY tuples cut into columns, columns joined to arrays and cut
again. `changes.py` carries such buffers from the kernel, `database/write.py` sends them.

A *field* is a value with its length in front, as arrays and COPY tuples hold it: `i32 length (-1 for NULL) | bytes`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

_LENGTH = struct.Struct(">i")
_ARRAY = struct.Struct(">iiIii")
_EMPTY_ARRAY = struct.Struct(">iiI")
_INT2, _INT4, _INT8 = struct.Struct(">ih"), struct.Struct(">ii"), struct.Struct(">iq")

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


def array(type_name: str, fields: Sequence[bytes]) -> bytes:
    """One-dimensional array of fields; NULL fields are allowed, and the header always says that there may be some."""
    oid = OIDS[type_name]
    if not fields:
        return _EMPTY_ARRAY.pack(0, 0, oid)
    return b"".join((_ARRAY.pack(1, 1, oid, len(fields), 1), *fields))


def array_fields(data: bytes) -> Iterator[bytes]:
    """The fields of an array that `array` made."""
    position = _ARRAY.size
    while position < len(data):
        end = field_end(data, position)
        yield data[position:end]
        position = end


def field_end(data: bytes, position: int) -> int:
    """Where the field that starts at `position` ends."""
    (length,) = _LENGTH.unpack_from(data, position)
    return int(position + 4 + max(length, 0))


def columns_of(rows: Sequence[bytes], count: int) -> list[list[bytes]]:
    """For each of `count` columns the fields of all rows."""
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


def int2_field(value: int) -> bytes:
    return _INT2.pack(2, value)


def int4_field(value: int) -> bytes:
    return _INT4.pack(4, value)


def int8_field(value: int) -> bytes:
    return _INT8.pack(8, value)


def bytes_field(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value


def bytes_fields(values: Iterable[bytes]) -> list[bytes]:
    return [bytes_field(value) for value in values]
