"""Rows for people: PostgreSQL COPY BINARY tuples as JSON objects, for the stream's row changes.

Values look as in answers to queries (`queries.py`): bytes as `0x…`, numeric as decimal text, times as ISO 8601.
"""

from __future__ import annotations

import datetime as dt
import math
import struct
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from scapp.reducers.manifest import Column, Table
from scapp.runtime.rows import encode_key

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


def key_from_json(table: Table, values: Sequence[Any]) -> bytes:
    """Key tuple of primary key values as `row_as_json` shows them; numbers and booleans may be text. Raises
    ValueError that names the column."""
    if len(values) != table.key:
        names = ", ".join(column.name for column in table.key_columns)
        raise ValueError(f"table {table.name}: {len(values)} key values; the key has {table.key}: {names}")
    return encode_key(table, [_parsed(column, value) for column, value in zip(table.key_columns, values, strict=True)])


def _parsed(column: Column, value: Any) -> Any:
    try:
        return _PARSERS[column.type](value)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"key column {column.name}: {value!r} is no {column.type}") from None


def _as_integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return int(value)


def _as_bytes(value: Any) -> bytes:
    if not value.startswith("0x"):
        raise ValueError
    return bytes.fromhex(value[2:])


def _as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _integer(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _numeric(data: bytes) -> str:
    digits, weight, sign, _scale = _NUMERIC.unpack_from(data)
    if sign not in (0, 0x4000):
        return {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}.get(sign, _hex(data))
    value = 0
    for index in range(digits):
        (digit,) = struct.unpack_from(">H", data, _NUMERIC.size + 2 * index)
        value = value * 10_000 + digit
    exponent = 4 * (weight + 1 - digits) if digits else 0
    # No reducer writes fractions or signs; a row that somebody changed by hand may have them.
    text = str(value * 10**exponent) if exponent >= 0 else _fraction(value, -exponent)
    return f"-{text}" if sign else text


def _fraction(value: int, places: int) -> str:
    whole, rest = divmod(value, 10**places)
    return f"{whole}.{rest:0{places}d}".rstrip("0").rstrip(".")


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _float(data: bytes) -> float | str:
    """JSON has no NaN and no infinities."""
    (value,) = struct.unpack(">d", data)
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _timestamp(data: bytes) -> str:
    microseconds = _integer(data)
    try:
        return (_EPOCH + dt.timedelta(microseconds=microseconds)).isoformat().replace("+00:00", "Z")
    except OverflowError:  # PostgreSQL's years go beyond Python's
        return f"2000-01-01T00:00:00Z{microseconds:+d}us"


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "bool": lambda value: {"true": True, "false": False}[str(value).lower()],
    "int2": _as_integer,
    "int4": _as_integer,
    "int8": _as_integer,
    "numeric": _as_integer,
    "text": _as_text,
    "bytea": _as_bytes,
    "bytes32": _as_bytes,
    "address": _as_bytes,
    "uuid": uuid.UUID,
    "timestamptz": dt.datetime.fromisoformat,
}
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
