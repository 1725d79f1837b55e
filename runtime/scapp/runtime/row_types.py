"""The column types: what bytes of a value are allowed, and Python values to and from them; `rows.py` builds tuples.

Bytes are PostgreSQL's binary send format. A check returns None or says what is wrong; it never depends on the
PostgreSQL server, because every participant must come to the same answer.
"""

from __future__ import annotations

import datetime
import json
import math
import struct
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from scapp.runtime.json_text import json_problem

NUMERIC_MAX = 2**256 - 1
NUMERIC_DIGITS_MAX = 20  # base-10,000 digits of 2^256 - 1
CANONICAL_NAN = bytes.fromhex("7ff8000000000000")
# PostgreSQL's range: 4713-11-24 BC up to but not including 294277-01-01, microseconds since 2000-01-01 UTC.
TIMESTAMP_MIN = -211_813_488_000_000_000
TIMESTAMP_END = 9_223_371_331_200_000_000
EPOCH = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)

Check = Callable[[bytes], str | None]
Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]


class ColumnCodec(msgspec.Struct, frozen=True):
    """`width` is the only length a value may have, or None; `check` looks at a value of right width."""

    width: int | None
    check: Check | None
    encode: Encode
    decode: Decode


def _check_bool(value: bytes) -> str | None:
    return None if value in (b"\0", b"\1") else f"bool {value.hex()}; allowed are 00 and 01"


def _check_float8(value: bytes) -> str | None:
    number = struct.unpack(">d", value)[0]
    if number != number and value != CANONICAL_NAN:
        return f"float8 NaN {value.hex()}; the only NaN allowed is {CANONICAL_NAN.hex()}"
    return None


def _check_text(value: bytes) -> str | None:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return f"text is not UTF-8 at byte {error.start} of {len(value)}"
    return "text contains a NUL, which PostgreSQL cannot store" if 0 in value else None


def _check_timestamptz(value: bytes) -> str | None:
    micros = int.from_bytes(value, "big", signed=True)
    if TIMESTAMP_MIN <= micros < TIMESTAMP_END:
        return None
    return f"timestamptz {micros}; allowed are {TIMESTAMP_MIN} to {TIMESTAMP_END - 1} µs since 2000-01-01"


def _check_numeric(value: bytes) -> str | None:
    try:
        numeric_to_int(value)
    except ValueError as error:
        return str(error)
    return None


def numeric_to_int(value: bytes) -> int:
    """The integer in canonical `numeric_send` form; raises ValueError for any other form or range."""
    if len(value) < 8:
        raise ValueError(f"numeric of {len(value)} bytes; the header alone is 8")
    count, weight, sign, dscale = struct.unpack_from(">HhHH", value)
    if len(value) != 8 + 2 * count or count > NUMERIC_DIGITS_MAX:
        raise ValueError(
            f"numeric of {len(value)} bytes with {count} digits; allowed are 8 + 2 × digits, at most 20 digits"
        )
    if sign or dscale:
        raise ValueError(f"numeric with sign {sign:#x} and scale {dscale}; only unsigned integers are allowed")
    if not count:
        if weight:
            raise ValueError(f"numeric zero with weight {weight}; allowed is 0")
        return 0
    digits: tuple[int, ...] = struct.unpack_from(f">{count}H", value, 8)
    if not count - 1 <= weight < NUMERIC_DIGITS_MAX or max(digits) > 9999 or not digits[0] or not digits[-1]:
        raise ValueError(f"numeric {value.hex()} is not the canonical form of an integer")
    number = 0
    for digit in digits:
        number = number * 10_000 + digit
    number *= int(10_000 ** (weight + 1 - count))
    if number > NUMERIC_MAX:
        raise ValueError(f"numeric {number}; allowed are 0 to 2^256-1")
    return number


def int_to_numeric(number: int) -> bytes:
    """Canonical `numeric_send` bytes of 0 … 2^256-1; raises ValueError outside."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= NUMERIC_MAX:
        raise ValueError(f"{number!r} is no numeric; allowed are integers from 0 to 2^256-1")
    digits: list[int] = []
    weight = -1
    while number:
        number, digit = divmod(number, 10_000)
        if digit or digits:
            digits.append(digit)
        weight += 1
    digits.reverse()
    return struct.pack(f">HhHH{len(digits)}H", len(digits), max(weight, 0), 0, 0, *digits)


def _encode_bool(value: Any) -> bytes:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is no bool; allowed are True and False")
    return b"\1" if value else b"\0"


def _integer_codec(width: int) -> ColumnCodec:
    limit = 1 << (8 * width - 1)

    def encode(value: Any) -> bytes:
        if isinstance(value, bool) or not isinstance(value, int) or not -limit <= value < limit:
            raise ValueError(f"{value!r} is no int{width}; allowed are integers from {-limit} to {limit - 1}")
        return value.to_bytes(width, "big", signed=True)

    return ColumnCodec(width, None, encode, lambda data: int.from_bytes(data, "big", signed=True))


def _encode_float8(value: Any) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no float8; allowed are numbers")
    return CANONICAL_NAN if math.isnan(value) else struct.pack(">d", value)


def _encode_text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text; allowed are strings")
    return value.encode()


def _encode_json(value: Any) -> bytes:
    """A string is taken as JSON text and kept as it is; anything else is written compactly."""
    return value.encode() if isinstance(value, str) else json.dumps(value, separators=(",", ":")).encode()


def _raw_codec(name: str, width: int | None) -> ColumnCodec:
    def encode(value: Any) -> bytes:
        if not isinstance(value, bytes) or (width is not None and len(value) != width):
            raise ValueError(f"{value!r} is no {name}; allowed are {'any' if width is None else width} bytes")
        return value

    return ColumnCodec(width, None, encode, bytes)


def _encode_uuid(value: Any) -> bytes:
    return value.bytes if isinstance(value, uuid.UUID) else uuid.UUID(str(value)).bytes


def _encode_timestamptz(value: Any) -> bytes:
    """From an aware datetime, or from microseconds since 2000-01-01 UTC."""
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; timestamptz needs one")
        value = (value - EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(value, bool) or not isinstance(value, int) or not TIMESTAMP_MIN <= value < TIMESTAMP_END:
        raise ValueError(f"{value!r} is no timestamptz; allowed are aware datetimes and µs since 2000-01-01 in range")
    return value.to_bytes(8, "big", signed=True)


def _decode_timestamptz(data: bytes) -> datetime.datetime | int:
    """A datetime, or the microseconds where Python's years 1-9999 do not reach."""
    micros = int.from_bytes(data, "big", signed=True)
    try:
        return EPOCH + datetime.timedelta(microseconds=micros)
    except OverflowError:
        return micros


CODECS: dict[str, ColumnCodec] = {
    "bool": ColumnCodec(1, _check_bool, _encode_bool, lambda data: data == b"\1"),
    "int2": _integer_codec(2),
    "int4": _integer_codec(4),
    "int8": _integer_codec(8),
    "numeric": ColumnCodec(None, _check_numeric, int_to_numeric, numeric_to_int),
    "float8": ColumnCodec(8, _check_float8, _encode_float8, lambda data: struct.unpack(">d", data)[0]),
    "text": ColumnCodec(None, _check_text, _encode_text, lambda data: data.decode()),
    "bytea": _raw_codec("bytea", None),
    "bytes32": _raw_codec("bytes32", 32),
    "address": _raw_codec("address", 20),
    "uuid": ColumnCodec(16, None, _encode_uuid, lambda data: uuid.UUID(bytes=data)),
    "timestamptz": ColumnCodec(8, _check_timestamptz, _encode_timestamptz, _decode_timestamptz),
    "json": ColumnCodec(None, json_problem, _encode_json, lambda data: data.decode()),
}
"""By `Column.type`."""
