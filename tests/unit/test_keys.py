"""Key encodings: the golden vectors, and that bytewise order is the order of values."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.reducers.manifest import Column
from scapp.runtime.keys import KEY_BYTES_MAX, KeyCodec, after_prefix
from scapp.runtime.row_types import CODECS

VECTORS = json.loads((Path(__file__).parents[1] / "golden" / "keys-vectors.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["types"], ids=lambda vector: vector["type"])
def test_encodings_equal_the_vectors_of_each_type(vector: dict[str, Any]) -> None:
    codec = KeyCodec([Column("c", vector["type"])])
    check = CODECS[vector["type"]].check
    keys = []
    for item in vector["ascending"]:
        value = bytes.fromhex(item["binary"])
        assert check is None or check(value) is None
        keys.append(codec.encode([value]))
        assert keys[-1].hex() == item["key"]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


def test_vectors_of_nullable_index_columns() -> None:
    keys = []
    for item in VECTORS["composite"]:
        columns = [Column(f"c{i}", **column) for i, column in enumerate(item["columns"])]
        values = [None if value is None else bytes.fromhex(value) for value in item["values"]]
        keys.append(KeyCodec(columns).encode(values))
        assert keys[-1].hex() == item["key"]
    assert keys == sorted(keys)


VALUES: dict[str, Any] = {
    "bool": st.booleans(),
    "int2": st.integers(-(2**15), 2**15 - 1),
    "int4": st.integers(-(2**31), 2**31 - 1),
    "int8": st.integers(-(2**63), 2**63 - 1),
    "numeric": st.integers(0, 2**256 - 1) | st.integers(0, 10**9),
    "text": st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    "bytea": st.binary(max_size=8) | st.lists(st.sampled_from([0, 1, 255]), max_size=6).map(bytes),
    "bytes32": st.binary(min_size=32, max_size=32),
    "address": st.binary(min_size=20, max_size=20),
    "uuid": st.uuids(),
    "timestamptz": st.datetimes(timezones=st.just(datetime.UTC)),
}
ORDER: dict[str, Any] = {"text": str.encode, "uuid": lambda value: value.bytes}  # COLLATE "C" compares UTF-8 bytes


@given(st.data())
def test_byte_order_is_value_order(data: st.DataObject) -> None:
    types = data.draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=3))
    nullable = data.draw(st.booleans())
    columns = [Column(f"c{i}", type_, nullable=nullable) for i, type_ in enumerate(types)]  # type: ignore[arg-type]

    def draw_row() -> tuple[bytes, list[tuple[bool, Any]]]:
        encoded, order = [], []
        for type_ in types:
            value = data.draw(VALUES[type_] | st.none() if nullable else VALUES[type_])
            encoded.append(None if value is None else CODECS[type_].encode(value))
            sort = ORDER.get(type_, lambda same: same)
            order.append((value is None, 0 if value is None else sort(value)))  # NULL sorts last
        return KeyCodec(columns).encode(encoded), order

    (first, first_order), (second, second_order) = draw_row(), draw_row()
    assert (first < second) == (first_order < second_order)
    assert (first == second) == (first_order == second_order)


@given(st.binary(max_size=4), st.binary(max_size=4))
def test_after_prefix_is_the_first_key_beyond_a_prefix(prefix: bytes, key: bytes) -> None:
    beyond = after_prefix(prefix)
    within = key.startswith(prefix) or key < prefix
    assert within == (beyond is None or key < beyond)


def test_a_key_too_long_for_postgresql_is_refused() -> None:
    codec = KeyCodec([Column("name", "bytea")])
    assert len(codec.encode([b"x" * (KEY_BYTES_MAX - 2)])) == KEY_BYTES_MAX
    with pytest.raises(
        ValueError, match=r"key \(name\) of 1969 encoded bytes; at most 1968 .*2000 with the channel id"
    ):
        codec.encode([b"x" * (KEY_BYTES_MAX - 1)])
