"""COPY tuples: every malformed row is refused with table, column and what is allowed; good ones survive unchanged."""

from __future__ import annotations

import datetime
import json
import struct
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.reducers.manifest import Column, Table
from scapp.runtime.json_text import DEPTH_MAX, json_problem
from scapp.runtime.row_types import NUMERIC_MAX, TIMESTAMP_END, TIMESTAMP_MIN, int_to_numeric, numeric_to_int
from scapp.runtime.rows import ROW_BYTES_MAX, RowError, TableCodec, decode_row, encode_key, encode_row, join

ALL = Table(
    "everything",
    (
        Column("a", "int2"),
        Column("b", "bool"),
        Column("c", "int4"),
        Column("d", "int8"),
        Column("e", "numeric", default="7"),
        Column("f", "float8"),
        Column("g", "text"),
        Column("h", "bytea"),
        Column("i", "bytes32"),
        Column("j", "address"),
        Column("k", "uuid"),
        Column("l", "timestamptz"),
        Column("m", "json"),
        Column("n", "text", nullable=True),
    ),
    key=2,
)
UTC = datetime.UTC

ROWS = st.tuples(
    st.integers(-(2**15), 2**15 - 1),
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, NUMERIC_MAX) | st.integers(0, 10**9).map(lambda n: n * 10_000),
    st.floats(allow_nan=False),
    st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.binary(),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=20, max_size=20),
    st.uuids(),
    st.datetimes(timezones=st.just(UTC)),
    st.just('{"x": [1, 2.5e3, "\\u00e9", null]}'),
    st.none() | st.just("z"),
)


@given(ROWS)
def test_values_survive_a_round_trip(values: tuple[Any, ...]) -> None:
    assert decode_row(ALL, encode_row(ALL, values)) == values


@given(st.integers(0, NUMERIC_MAX))
def test_numeric_is_what_numeric_send_gives(number: int) -> None:
    data = int_to_numeric(number)
    digits = []
    rest = number
    while rest:
        rest, digit = divmod(rest, 10_000)
        digits.append(digit)
    weight = max(len(digits) - 1, 0)
    while digits and digits[0] == 0:
        digits.pop(0)
    assert data == struct.pack(f">HhHH{len(digits)}H", len(digits), weight, 0, 0, *reversed(digits))
    assert numeric_to_int(data) == number


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "the header alone is 8"),
        (struct.pack(">HhHH", 0, 1, 0, 0), "weight 1"),
        (struct.pack(">HhHHH", 1, 0, 0x4000, 0, 1), "sign 0x4000"),
        (struct.pack(">HhHH", 0, 0, 0xC000, 0), "sign 0xc000"),
        (struct.pack(">HhHHH", 1, 0, 0, 2, 1), "scale 2"),
        (struct.pack(">HhHHH", 1, -1, 0, 0, 5), "canonical"),
        (struct.pack(">HhHHHH", 2, 1, 0, 0, 0, 5), "canonical"),
        (struct.pack(">HhHHHH", 2, 1, 0, 0, 5, 0), "canonical"),
        (struct.pack(">HhHHH", 1, 0, 0, 0, 10_000), "canonical"),
        (struct.pack(">HhHHH", 1, 20, 0, 0, 1), "canonical"),
        (struct.pack(">HhHHH", 1, 19, 0, 0, 12), "2\\^256-1"),
        (struct.pack(">HhHH", 1, 0, 0, 0), "1 digits"),
        (struct.pack(">HhHH21H", 21, 20, 0, 0, *[1] * 21), "at most 20"),
    ],
)
def test_other_numeric_forms_are_refused(data: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        numeric_to_int(data)


def row_with(name: str, value: bytes | None) -> bytes:
    names = [column.name for column in ALL.columns]
    values = TableCodec(ALL).row.split(
        encode_row(ALL, (1, True, 1, 1, 1, 1.0, "g", b"h", bytes(32), bytes(20), uuid.UUID(int=1), 0, "1", None))
    )
    values[names.index(name)] = value
    return join(values)


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("a", b"\0", "column a of 1 bytes; its type has 2"),
        ("a", None, "NULL in column a; it is NOT NULL"),
        ("b", b"\2", "bool 02; allowed are 00 and 01"),
        ("e", b"\0" * 7, "numeric of 7 bytes"),
        ("f", bytes.fromhex("fff8000000000000"), "only NaN allowed is 7ff8000000000000"),
        ("f", bytes.fromhex("7ff0000000000001"), "NaN"),
        ("g", b"a\0b", "NUL"),
        ("g", b"\xc3(", "not UTF-8 at byte 0"),
        ("g", b"\xed\xa0\x80", "not UTF-8"),
        ("i", bytes(31), "column i of 31 bytes"),
        ("l", (2**63 - 1).to_bytes(8, "big"), "timestamptz 9223372036854775807"),
        ("l", (-(2**63)).to_bytes(8, "big", signed=True), "timestamptz"),
        ("l", TIMESTAMP_END.to_bytes(8, "big"), "timestamptz"),
        ("l", (TIMESTAMP_MIN - 1).to_bytes(8, "big", signed=True), "timestamptz"),
        ("m", b"{", "json"),
    ],
)
def test_a_bad_value_is_refused_by_column(column: str, value: bytes | None, text: str) -> None:
    with pytest.raises(RowError, match=text):
        TableCodec(ALL).read_row(row_with(column, value))


@pytest.mark.parametrize("value", ["7ff8000000000000", "8000000000000000", "7ff0000000000000", "0000000000000001"])
def test_float_edges_are_kept_bit_by_bit(value: str) -> None:
    TableCodec(ALL).read_row(row_with("f", bytes.fromhex(value)))


def test_timestamps_at_both_edges_are_kept() -> None:
    for micros in (TIMESTAMP_MIN, TIMESTAMP_END - 1):
        TableCodec(ALL).read_row(row_with("l", micros.to_bytes(8, "big", signed=True)))


SMALL = Table("small", (Column("k", "text"), Column("v", "bytea")), key=1)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "the column count alone is 2"),
        (b"\0\1", "1 columns; allowed are 2"),
        (b"\0\3" + bytes(30), "3 columns"),
        (b"\0\2\0\0", "ends before column k"),
        (b"\0\2" + b"\0\0\0\x09" + b"ab", "column k of 9 bytes; only 2 are left"),
        (b"\0\2" + b"\x80\0\0\0" + b"ab", "length -2147483648 in column k"),
        (join([b"a", b"b"]) + b"x", "1 bytes after the last column"),
        (join([b"a", bytes(ROW_BYTES_MAX)]), "at most 1048576"),
        (join([b"a" * 1967, b""]), "at most 1968"),
    ],
)
def test_a_broken_tuple_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(RowError, match=text):
        TableCodec(SMALL).read_row(data)


def test_the_largest_key_and_row_are_accepted() -> None:
    key, _ = TableCodec(SMALL).read_row(join([b"a" * 1966, b""]))
    assert len(key) == 1968
    overhead = len(join([b"a", b""]))
    TableCodec(SMALL).read_row(join([b"a", bytes(ROW_BYTES_MAX - overhead)]))


@given(st.binary(max_size=64))
def test_arbitrary_bytes_never_do_more_than_be_refused(data: bytes) -> None:
    try:
        key, values = TableCodec(SMALL).read_row(data)
    except RowError:
        return
    assert join(values) == data
    assert TableCodec(SMALL).key_tuple(data) == join(values[:1])
    assert TableCodec(SMALL).read_key(join(values[:1])) == key


def test_encoding_from_names_fills_defaults_and_names_strangers() -> None:
    table = Table("t", (Column("k", "int4"), Column("n", "numeric", default="12")), key=1)
    assert decode_row(table, encode_row(table, {"k": 1})) == (1, 12)
    assert encode_key(table, [1]) == join([b"\0\0\0\1"])
    with pytest.raises(RowError, match="no column 'z'; it has k, n"):
        encode_row(table, {"k": 1, "z": 2})
    with pytest.raises(RowError, match="column k: 'x' is no int4"):
        encode_row(table, ["x", 1])
    with pytest.raises(RowError, match="3 values; the columns are 2"):
        encode_row(table, [1, 2, 3])


JSON_GOOD = [
    "0",
    "-0",
    "1.5E-7",
    "1e999",
    '""',
    "[]",
    "{}",
    ' {"a" : [ ] , "b":{}} ',
    '"\\ud83d\\ude00"',
    '"\\\\u0000"',
    "true",
]
JSON_BAD = [
    "",
    " ",
    "NaN",
    "Infinity",
    "01",
    "1.",
    ".5",
    "+1",
    "'a'",
    "[1,]",
    "{,}",
    '{"a"}',
    '{"a":}',
    "{1:2}",
    "[1 2]",
    "]",
    "[}",
    '"\\x"',
    '"\n"',
    '"\\u0000"',
    '"\\ud83d"',
    '"\\ude00"',
    '"\\ud83dx\\ude00"',
    "nul",
    "1 1",
    "\ufeff1",
]


@pytest.mark.parametrize("text", JSON_GOOD)
def test_json_text_is_accepted_as_it_stands(text: str) -> None:
    assert json_problem(text.encode()) is None


@pytest.mark.parametrize("text", JSON_BAD)
def test_other_text_is_no_json(text: str) -> None:
    assert json_problem(text.encode()) is not None


def test_json_depth_is_limited_without_recursion() -> None:
    assert json_problem(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX) is None
    assert "deeper than 64" in str(json_problem(b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1)))
    assert json_problem(b'{"a":' * 100_000) is not None


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="abc"), inner, max_size=3),
        max_leaves=10,
    )
)
def test_whatever_a_json_writer_gives_is_accepted(value: Any) -> None:
    assert json_problem(json.dumps(value).encode()) is None
    assert json_problem(json.dumps(value, ensure_ascii=False, indent=2).encode()) is None


@given(st.text(alphabet='[]{}",:0123456789.eE+-truefalsn \\u', max_size=20))
def test_acceptance_agrees_with_a_json_reader(text: str) -> None:
    def no_constant(name: str) -> None:
        raise ValueError(name)

    accepted = json_problem(text.encode()) is None
    try:
        json.loads(text, parse_constant=no_constant)
        readable = True
    except ValueError:
        readable = False
    assert accepted == readable or ("\\u" in text and readable)
