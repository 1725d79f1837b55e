"""Rows, payloads and screens for people: values that must not be lost or misread on the way to JSON."""

from __future__ import annotations

import io
import json
import struct
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.game import GameView
from scapp.reducers.manifest import Column
from scapp.runtime.api.errors import ApiError
from scapp.runtime.api.payloads import decode_payload, encode_payload, from_json, to_json
from scapp.runtime.cli.demo_screen import LiveScreen, NodeLine
from scapp.runtime.row_json import row_as_json


def row(*values: bytes | None) -> bytes:
    """A COPY BINARY tuple."""
    parts = [struct.pack(">i", -1) if v is None else struct.pack(">i", len(v)) + v for v in values]
    return struct.pack(">H", len(values)) + b"".join(parts)


def numeric(value: int) -> bytes:
    """`numeric_send` of a non-negative integer."""
    digits = []
    while value:
        value, digit = divmod(value, 10_000)
        digits.append(digit)
    weight = len(digits) - 1 if digits else 0
    while digits and digits[0] == 0:
        digits.pop(0)
    digits.reverse()
    return struct.pack(">HhHH", len(digits), weight, 0, 0) + b"".join(struct.pack(">H", d) for d in digits)


@pytest.mark.parametrize(
    ("kind", "data", "shown"),
    [
        ("bool", b"\x01", True),
        ("bool", b"\x00", False),
        ("int2", b"\xff\xfe", -2),
        ("int4", struct.pack(">i", -(2**31)), -(2**31)),
        ("int8", struct.pack(">q", 2**63 - 1), 2**63 - 1),
        ("float8", struct.pack(">d", 1.5), 1.5),
        ("float8", struct.pack(">d", float("nan")), "NaN"),
        ("float8", struct.pack(">d", float("-inf")), "-Infinity"),
        ("text", "é✓".encode(), "é✓"),
        ("bytea", b"\x00\xff", "0x00ff"),
        ("address", b"\xab" * 20, "0x" + "ab" * 20),
        ("uuid", uuid.UUID(int=5).bytes, "00000000-0000-0000-0000-000000000005"),
        ("timestamptz", struct.pack(">q", 0), "2000-01-01T00:00:00Z"),
        ("timestamptz", struct.pack(">q", 1), "2000-01-01T00:00:00.000001Z"),
        ("timestamptz", struct.pack(">q", 9_223_371_331_199_999_999), "2000-01-01T00:00:00Z+9223371331199999999us"),
        ("json", b'{"a": [1, null]}', {"a": [1, None]}),
    ],
)
def test_every_column_type_has_a_json_form(kind: Any, data: bytes, shown: Any) -> None:
    """And NULL is null in each of them."""
    columns = (Column("c", kind),)
    assert row_as_json(columns, row(data)) == {"c": shown}
    assert row_as_json(columns, row(None)) == {"c": None}


@given(st.one_of(st.integers(0, 2**256 - 1), st.integers(0, 64).map(lambda n: 10_000**n % 2**256)))
def test_numerics_keep_every_digit(value: int) -> None:
    """Up to 256 bits, with zero groups inside and at the end."""
    assert row_as_json((Column("n", "numeric"),), row(numeric(value))) == {"n": str(value)}


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (struct.pack(">HhHHHH", 2, 0, 0, 2, 1, 5000), "1.5"),
        (struct.pack(">HhHHHH", 2, 0, 0x4000, 2, 1, 5000), "-1.5"),
        (struct.pack(">HhHHH", 1, -1, 0, 4, 7), "0.0007"),
        (struct.pack(">HhHH", 0, 0, 0xC000, 0), "NaN"),
        (struct.pack(">HhHH", 0, 0, 0xF000, 0), "-Infinity"),
    ],
)
def test_numerics_that_no_reducer_writes_are_shown_as_they_are(data: bytes, shown: str) -> None:
    """A row that somebody changed by hand is shown with what stands there."""
    assert row_as_json((Column("n", "numeric"),), row(data)) == {"n": shown}


def test_a_key_has_the_leading_columns_only() -> None:
    """And a tuple that does not fit the table is an error, not a shifted row."""
    columns = (Column("a", "int2"), Column("b", "text"))
    assert row_as_json(columns, row(b"\x00\x01")) == {"a": 1}
    with pytest.raises(ValueError, match="3 columns"):
        row_as_json(columns, row(b"\x00\x01", b"x", b"y"))
    with pytest.raises(ValueError, match="after the last"):
        row_as_json(columns, row(b"\x00\x01") + b"x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_messagepack_through_json_and_back(value: Any) -> None:
    """What an app's payload holds survives being shown and sent again, bytes included."""
    payload = msgspec.msgpack.encode(value)
    shown = json.loads(json.dumps(decode_payload(payload, "msgpack")))
    assert encode_payload(shown, "msgpack") == payload
    assert from_json(to_json(value)) == value


def test_payloads_that_do_not_follow_their_encoding() -> None:
    """Shown as null; JSON for the json encoding stays as it is; keys and extensions of MessagePack are named."""
    assert decode_payload(b"\xc1", "msgpack") is None
    assert decode_payload(b"{", "json") is None
    assert decode_payload(b"\x01", "raw") is None
    assert decode_payload(encode_payload({"$hex": 1}, "json"), "json") == {"$hex": 1}
    assert to_json({b"\x01": 1, 2: msgspec.msgpack.Ext(5, b"\xff")}) == {"0x01": 1, "2": {"$ext": 5, "$hex": "0xff"}}
    with pytest.raises(ApiError, match="'raw'"):
        encode_payload(1, "raw")


def test_the_live_screen_shows_nodes_and_the_game() -> None:
    """Every fact that changes is on it."""
    from rich.console import Console

    live = LiveScreen()
    live.note("the bots play")
    live.move("bob hides a card")
    view = GameView.from_rows(
        "0x" + "11" * 32,
        game=[{"phase": "reveal", "round": 1, "prize": 3, "pot": 3, "cards": 3, "deadline": None}],
        players=[
            {
                "seat": seat,
                "address": "0x" + "22" * 20,
                "score": 7 + seat,
                "hand": [1, 2],
                "status": "playing",
                "rank": None,
            }
            for seat in range(2)
        ],
        rounds=[{"round": 1, "prize": 3, "pot": 3, "result": "open", "winner": None}],
        bids=[{"round": 1, "seat": 1, "commitment": "0x" + "33" * 32, "card": None}],
    )
    nodes = [NodeLine(name="alice", turn=4, entries=5, derived=3, root="0x" + "44" * 32)]
    live.show(nodes, view, ["alice", "bob"])
    out = io.StringIO()
    Console(file=out, width=120).print(live._render())
    for words in ("the bots play", "bob hides a card", "alice", "0x4444", "round 1 of 1: reveal, pot 3", "hidden", "8"):
        assert words in out.getvalue()
