"""Rows for people: PostgreSQL COPY BINARY tuples as JSON objects (`row_as_json`), query values as JSON (`plain`).

Both write a value of one type alike: bytes as `0x…`, numeric as decimal text, times as ISO 8601 in UTC.
"""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from scapp.reducers.manifest import Column

_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_NUMERIC = struct.Struct(">HhHH")


def row_as_json(columns: Sequence[Column], row: bytes) -> dict[str, Any]:
    """Column name to JSON value, for as many columns as the tuple has (a key has the leading ones).

    Raises ValueError when the tuple does not fit the columns."""
    (count,) = struct.unpack_from(">H", row)
    if count > len(columns):
        raise ValueError(f"a tuple of {count} columns for a table of {len(columns)}")
    values: dict[str, Any] = {}
    offset = 2
    for column in columns[:count]:
        (length,) = struct.unpack_from(">i", row, offset)
        offset += 4
        if length < 0:
            values[column.name] = None
            continue
        values[column.name] = _READERS[column.type](row[offset : offset + length])
        offset += length
    if offset != len(row):
        raise ValueError(f"{len(row) - offset} bytes after the last column")
    return values


def plain(value: Any) -> Any:
    """A value as psycopg gives it, in JSON."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value if not isinstance(value, float) or value - value == 0 else str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "0x" + bytes(value).hex()
    if isinstance(value, dt.datetime):
        return iso(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else str(value)
    return str(value)


def iso(moment: dt.datetime) -> str:
    """ISO 8601 in UTC with a Z."""
    text = (moment.astimezone(dt.UTC) if moment.tzinfo else moment).isoformat()
    return text.replace("+00:00", "Z")


def _integer(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _numeric(data: bytes) -> str:
    digits, weight, sign, _scale = _NUMERIC.unpack_from(data)
    value = 0
    for index in range(digits):
        (digit,) = struct.unpack_from(">H", data, _NUMERIC.size + 2 * index)
        value = value * 10_000 + digit
    value *= 10_000 ** (weight + 1 - digits) if digits else 1
    return f"-{value}" if sign else str(value)


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _float(data: bytes) -> Any:
    return plain(struct.unpack(">d", data)[0])


def _timestamp(data: bytes) -> str:
    microseconds = _integer(data)
    try:
        return iso(_EPOCH + dt.timedelta(microseconds=microseconds))
    except OverflowError:  # PostgreSQL's years go beyond Python's
        return f"2000-01-01T00:00:00Z{microseconds:+d}us"


_READERS: dict[str, Callable[[bytes], Any]] = {
    "bool": lambda data: data != b"\x00",
    "int2": _integer,
    "int4": _integer,
    "int8": _integer,
    "numeric": _numeric,
    "float8": _float,
    "text": lambda data: data.decode(),
    "bytea": _hex,
    "bytes32": _hex,
    "address": _hex,
    "uuid": lambda data: str(uuid.UUID(bytes=data)),
    "timestamptz": _timestamp,
    "json": msgspec.json.decode,
}
