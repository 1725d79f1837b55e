"""Every import of `scapp_1` through the SDK, from a compiled reducer: rows, scans, hashes, limits, rejections."""

from __future__ import annotations

import hashlib
import math
import re
import struct
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scapp.channels.crypto import keccak256
from scapp.channels.entries import Kind
from scapp.game import commitment
from scapp.reducers.toolchain import EXPORTS, STACK_BYTES
from tests.support.reducer_driver import ALICE, BOB, CAST, CHANNEL, NOW_MS, Driver, Refused, slot_for

GOLDEN = Path(__file__).parents[1] / "golden"
MODULES = {
    "zig": (GOLDEN / "conformance.wasm").read_bytes(),
    "c": (GOLDEN / "conformance-c.wasm").read_bytes(),
    "rust": (GOLDEN / "conformance-rust.wasm").read_bytes(),
    "assemblyscript": (GOLDEN / "conformance-assemblyscript.wasm").read_bytes(),
}
OVERFLOW = {"rust": r"panicked at 'attempt to add with overflow', conformance\.rs:\d+:\d+"}
EVERY = {
    "id": 1,
    "flag": True,
    "small": -(2**15),
    "medium": 2**31 - 1,
    "amount": str(2**256 - 1),
    "word": 2**64 - 1,
    "ratio": -0.5,
    "title": "Zażółć",
    "blob": b"\0\xff",
    "hash": b"\2" * 32,
    "owner": BOB,
    "uid": b"\3" * 16,
    "at": NOW_MS,
    "doc": '{"a":[1,2]}',
    "colour": "green",
    "note": None,
}


class Language:
    """The SDK under test; each test below runs once for each."""

    name = "zig"


@pytest.fixture(params=MODULES, autouse=True, scope="module")
def language(request: pytest.FixtureRequest) -> str:
    Language.name = request.param
    return str(request.param)


def driver(**options: Any) -> Driver:
    return Driver(MODULES[Language.name], **options)


def found(target: Driver) -> str:
    """What the last probe noted."""
    return str(target.rows("result")[-1]["text"])


def row_of(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "amount": int(message["amount"]), "doc": {"a": [1, 2]}}


def test_a_row_of_every_type_is_written_and_read_back() -> None:
    target = driver()
    target.send(0, {"every": EVERY})
    target.send(0, {"copy": {"from": 1, "to": 2}})
    assert found(target) == "replaced false"
    target.send(0, {"copy": [1, 2]})
    assert found(target) == "replaced true"
    assert target.rows("every") == [row_of(EVERY), {**row_of(EVERY), "id": 2}]
    for expected in ("existed true", "existed false"):
        target.send(0, {"remove": [1]})
        assert found(target) == expected
    assert [row["id"] for row in target.rows("every")] == [2]


@given(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**256 - 1) | st.integers(0, 70).map(lambda n: 10**n),
    st.floats(),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=600),
    st.binary(max_size=2000),
)
def test_values_survive_the_way_through_the_reducer(
    id_: int, amount: int, ratio: float, title: str, blob: bytes
) -> None:
    """Written, read by `get`, decoded, encoded again: equal values; NaN in its one form."""
    target = driver()
    title = title[:400]
    message = {**EVERY, "id": id_, "amount": str(amount), "ratio": ratio, "title": title, "blob": blob, "note": None}
    target.send(0, {"every": message})
    other = 0 if id_ else 1
    target.send(0, {"copy": [id_, other]})
    rows = {row["id"]: row for row in target.rows("every")}
    for row in rows.values():
        assert struct.pack(">d", row["ratio"]) == struct.pack(">d", math.nan if math.isnan(ratio) else ratio)
        assert (row["amount"], row["title"], row["blob"]) == (amount, title, blob)
    assert set(rows) == {id_, other}
    target.close()


def test_scans_follow_key_order_in_both_directions() -> None:
    """Table and index, prefix, bounds inclusive and not, backwards."""
    target = driver()
    pairs = [[1, "b", 30], [1, "aa", 10], [-2, "z", 20], [3, "", 20]]
    target.send(0, {"put_pairs": {"pairs": pairs}})
    probes = {
        "scan_pairs": [
            ({}, "-2z=20 1aa=10 1b=30 3=20 "),
            ({"backwards": True}, "3=20 1b=30 1aa=10 -2z=20 "),
            ({"left": 1}, "1aa=10 1b=30 "),
            ({"left": 1, "backwards": True}, "1b=30 1aa=10 "),
            ({"from": 1}, "1aa=10 1b=30 3=20 "),
            ({"from": -2, "to": 1}, "-2z=20 "),
            ({"from": -2, "to": 1, "inclusive": True}, "-2z=20 1aa=10 1b=30 "),
            ({"left": 9}, ""),
        ],
        "scan_values": [([10, 30], "1aa=10 -2z=20 3=20 "), ([15, 99, True], "1b=30 3=20 -2z=20 ")],
    }
    for name, cases in probes.items():
        for body, expected in cases:
            target.send(0, {name: body})
            assert found(target) == expected


def test_a_scan_sees_the_messages_own_deletes() -> None:
    target = driver()
    target.send(0, {"put_pairs": [[[left, "x", 0] for left in range(5)]]})
    target.send(0, "scan_while_deleting")
    assert target.rows("pair") == []


def test_more_than_sixteen_open_cursors_trap() -> None:
    """A finished scan frees its cursor, so any number of scans that run to their end is fine."""
    target = driver()
    for _ in range(20):
        target.send(0, {"scan_pairs": {}})
    with pytest.raises(Refused) as refused:
        target.send(0, {"raw": {"import": "next", "table": 7, "ptr": 0, "len": 0}})
    assert refused.value.code == "fault"


def test_hashes_and_commitments_are_the_standard_ones() -> None:
    target = driver()
    data = bytes(range(200))
    target.send(0, {"hash_both": {"data": data}})
    assert found(target) == f"0x{keccak256(data).hex()} 0x{hashlib.sha256(data).hexdigest()}"
    target.send(1, {"hide": {"salt": b"\7" * 32, "round": 5, "value": b"\x0b"}})
    assert found(target) == "0x" + commitment(b"\7" * 32, CHANNEL, BOB, 5, 11).hex()


def test_events_and_logs_come_out_as_they_went_in() -> None:
    target = driver()
    assert target.send(0, {"announce": {"topic": "news", "data": b"\xc1"}}) == [("news", b"\xc1")]
    values = {"a": -(2**40), "b": str(2**100), "c": None, "d": "x" * 300}
    expected = {**values, "list": [values["a"], values["d"]]}
    assert target.send(0, {"announce_values": values}) == [("values", expected)]
    for number, level in enumerate(("err", "warn", "info", "debug")):
        target.send(0, {"speak": {"level": level, "text": f"line {number}"}})
        assert [(line.level, line.text) for line in target.logs] == [(number, f"line {number}")]


def test_amounts_are_set_and_wrong_ones_trap() -> None:
    target = driver(slots=[slot_for(ALICE, 2**255), slot_for(BOB, 5)])
    target.send(0, {"pay": {"amounts": [0, str(2**255 + 5)]}})
    assert target.amounts == [0, 2**255 + 5]
    for wrong in ([1], [1, 1], []):
        with pytest.raises(Refused) as refused:
            target.send(0, {"pay": {"amounts": wrong}})
        assert refused.value.code == "fault"
    assert target.amounts == [0, 2**255 + 5]


def test_the_header_reaches_the_reducer() -> None:
    target = driver(params={"greeting": "hi"})
    assert found(target) == "hi 2 participants 0 slots"
    target.now_ms += 5
    target.send(1, "context")
    assert found(target) == f"message 1 0x{BOB.hex()} 0x{CHANNEL.hex()} 1 {NOW_MS + 5}"
    target.tick(0)
    assert found(target) == f"tick 0 0x{ALICE.hex()} 0x{CHANNEL.hex()} 2 {NOW_MS + 5}"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"foo": {}}, "unknown message 'foo': known are every, copy"),
        ("foo", "unknown message 'foo'"),
        ("move", "message 'move' needs a body"),
        ({"move": {"x": 1}}, "field 'y' missing"),
        ({"move": None}, "field 'x' missing"),
        ({"move": [1]}, "field 'y' missing"),
        ({"move": [1, 2, 3]}, "the body has 3 values for 2 fields"),
        ({"move": {"x": 1, "y": 2, "z": 3}}, "unknown field 'z': known are x, y"),
        ({"move": {"x": 2**31, "y": 2}}, "field 'x' is out of range: -2147483648 to 2147483647"),
        ({"move": {"x": 1.5, "y": 2}}, "field 'x' must be a whole number, not a fraction"),
        ({"move": {"x": "1", "y": 2}}, "field 'x' must be a whole number, not text"),
        ({"move": 3}, "the body must be a map or an array, not a whole number"),
        ({"move": [1, 2], "copy": [1, 2]}, "a message is a map of one name to a body, not of 2"),
        ({}, "a message is a map of one name to a body, not of 0"),
        ([1], "a message is a map of one name to a body, not an array"),
        ({1: 2}, "a message's name is text, not a whole number"),
        ({"context": [1]}, "message 'context' has no fields, not 1"),
        ({"every": {**EVERY, "owner": b"\1"}}, "field 'owner' has 1 bytes, 20 are needed"),
        ({"every": {**EVERY, "owner": "0xzz"}}, "field 'owner' is text, but not 0x and pairs of hexadecimal digits"),
        ({"every": {**EVERY, "colour": "pink"}}, "field 'colour' is 'pink': allowed are red, green, blue"),
        ({"every": {**EVERY, "amount": str(2**256)}}, r"field 'amount' is not a whole number from 0 to 2\^256-1"),
        ({"every": {**EVERY, "amount": -1}}, r"field 'amount' is out of range: 0 to 2\^256-1"),
        ({"every": {**EVERY, "flag": 1}}, "field 'flag' must be true or false, not a whole number"),
    ],
)
def test_payloads_that_do_not_fit_are_rejected_with_a_reason(payload: Any, reason: str) -> None:
    target = driver()
    root = target.kernel.state_root()
    with pytest.raises(Refused, match=reason) as refused:
        target.send(0, payload)
    assert refused.value.code == "rejected"
    assert target.kernel.state_root() == root


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", r"payload is not valid MessagePack \(at byte 0 of 0\)"),
        (b"\xc1", "not valid MessagePack"),
        (b"\x81\xa4move\x92\x01", "not valid MessagePack"),
        (b"\x81\xa4move\x92\x01\x02\x03", "1 bytes after the payload's value"),
        (b"\x81\xa4move\x82\xa1x\x01\xa1x\x01", "field 'x' is given twice"),
        (b"\x81\xa9put_pairs\x91\xdd\xff\xff\xff\xff", "field 'pairs' ends before its 4294967295 items"),
        (b"\x81\xa5speak\x92\xa3err\xa2\xc3\x28", "field 'text' is not valid UTF-8"),
        (b"\x81\xa4move\x92\xc9\xff\xff\xff\xff", "not valid MessagePack"),
    ],
)
def test_broken_payloads_are_rejected_with_a_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        driver().raw(Kind.MESSAGE, 0, payload)
    assert refused.value.code == "rejected"


@settings(max_examples=max(150, settings.default.max_examples))
@given(st.binary(max_size=60) | st.builds(lambda x: msgpack.packb({"every": x}), st.dictionaries(st.text(), st.none())))
def test_no_payload_makes_the_decoder_trap(payload: bytes) -> None:
    assert _code_of(payload) in ("accepted", "rejected")


def _code_of(payload: bytes) -> str:
    try:
        _SHARED[Language.name].raw(Kind.MESSAGE, 0, payload)
    except Refused as refused:
        return refused.code
    return "accepted"


def test_rejecting_counts_even_when_the_reducer_returns_success() -> None:
    with pytest.raises(Refused, match="changed my mind"):
        driver().send(0, {"refuse_but_accept": {"reason": "changed my mind"}})
    with pytest.raises(Refused, match="greeting is empty"):
        driver(params={"greeting": ""})


def test_an_overflow_traps_and_says_so_in_the_log() -> None:
    target = driver()
    target.send(0, {"overflow": {"by": 0}})
    with pytest.raises(Refused) as refused:
        target.send(0, {"overflow": {"by": 1}})
    assert refused.value.code == "fault"
    (line,) = target.logs
    assert re.fullmatch(OVERFLOW.get(Language.name, "integer overflow"), line.text)


def test_deep_recursion_and_hunger_are_contained() -> None:
    """The guest's own stack ends in a trap, not in its data; memory ends at the deployment's limit."""
    target = driver()
    target.send(0, {"recurse": {"depth": 200}})
    assert found(target) == "200"
    hungry: list[Any] = [{"devour": {"bytes": 2**24}}]
    if Language.name != "assemblyscript":  # which keeps nothing on a stack in memory
        hungry.append({"recurse": {"depth": STACK_BYTES // 64 * 2}})
    for message in hungry:
        with pytest.raises(Refused) as refused:
            target.send(0, message)
        assert refused.value.code == "fault"
    target.send(0, {"devour": {"bytes": 2**23}})
    target.send(0, {"recurse": {"depth": 200}})


@pytest.mark.parametrize("probe", ["get", "put", "delete", "scan", "next", "emit", "set_outcome", "keccak256"])
def test_bad_pointers_and_numbers_trap(probe: str) -> None:
    target = driver()
    root = target.kernel.state_root()
    for table, ptr, length in ((0, 2**32 - 16, 64), (99, 64, 8)):
        if table == 99 and probe in ("emit", "keccak256"):
            continue  # these take no number
        with pytest.raises(Refused) as refused:
            target.send(0, {"raw": {"import": probe, "table": table, "ptr": ptr, "len": length}})
        assert refused.value.code == "fault"
    assert target.kernel.state_root() == root


def test_a_unique_index_is_kept() -> None:
    target = driver()
    target.send(0, {"every": {**EVERY, "note": "n"}})
    with pytest.raises(Refused, match="unique violation: index every_by_note of table every"):
        target.send(0, {"every": {**EVERY, "id": 2, "note": "n"}})


def test_the_module_imports_and_exports_what_the_abi_names() -> None:
    from wasmtime import Engine, Module

    module = Module(Engine(), MODULES[Language.name])
    assert {item.name for item in module.imports} == {
        "get", "put", "delete", "scan", "next", "emit", "set_outcome", "reject", "log", "keccak256", "sha256",
    }  # fmt: skip
    linker = {"__data_end", "__heap_base"} if Language.name == "rust" else set()
    assert {item.name for item in module.exports} == {"memory", *EXPORTS} | linker


_SHARED = {name: Driver(wasm, CAST[:2]) for name, wasm in MODULES.items()}
