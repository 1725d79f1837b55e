"""Reducers that would not give one root everywhere are caught and named; honest ones agree in every way."""

from __future__ import annotations

import struct

import pytest

from scapp.channels.deployment import Limits
from scapp.runtime import determinism
from scapp.runtime.determinism import differences
from scapp.runtime.module import check_module
from scapp.runtime.rows import encode_row
from tests.support import wat
from tests.support.wat import SCORE, message, op

SCORES = wat.MANIFEST.tables[0]


def put(player: str, points: int) -> bytes:
    return op(wat.PUT, encode_row(SCORES, [player, points]), SCORE)


def ways(*messages: bytes) -> list[tuple[str, int]]:
    checked = wat.scripted(Limits())
    found = differences(checked, wat.context_of(checked), [wat.open_entry(), *messages])
    return [(difference.way, difference.sequence) for difference in found]


def test_an_honest_reducer_gives_one_root_in_every_way() -> None:
    messages = [message(put(f"p{number % 5}", number), op(wat.EMIT, b"e"), counter=number) for number in range(23)]
    assert ways(*messages) == []


def test_nan_bits_are_the_same_everywhere() -> None:
    """0/0 and a NaN with a payload, stored by the guest as it got them."""
    zero, payload = struct.pack("<d", 0.0), bytes.fromhex("01000000addef87f")
    assert ways(message(op(wat.NAN, zero)), message(op(wat.NAN, payload))) == []


def test_state_outside_the_tables_is_named() -> None:
    """A counter in a global: it is in the event, so every way with several messages to an instance differs."""
    found = ways(*(message(op(wat.EMIT_COUNT), counter=number) for number in range(9)))
    assert ("one instance for all", 3) in found
    assert ("batches of 7", 3) in found
    assert "the portable interpreter" not in [way for way, _ in found]


def test_a_message_that_only_a_fresh_instance_accepts_is_named_with_its_reason() -> None:
    once = message(op(wat.COUNT_UP_TO, arg=1))
    checked = wat.scripted(Limits())
    found = differences(checked, wat.context_of(checked), [wat.open_entry(), once, once])
    assert {difference.way for difference in found} >= {"one instance for all", "batches of 7"}
    assert all("keeps something outside its tables" in difference.hint for difference in found)


def test_reading_memory_that_was_not_written_is_named() -> None:
    """The leftovers of the message before are there in one instance and not in another."""
    body = """
    (func (export "scapp_reduce") (param i32 i32) (result i32)
      (call $emit (i32.const 0) (i32.const 1) (i32.const 70000) (i32.const 8))
      (i64.store (i32.const 70000) (i64.load (i32.add (local.get 0) (i32.const 8))))
      (i32.const 0))"""
    text = '(data (i32.const 0) "t")'
    checked = check_module(wat.module(wat.IMPORTS, wat.MEMORY, wat.ALLOC, text, body))
    entries = [wat.open_entry(), *(message(b"", counter=number) for number in range(3))]
    found = differences(checked, wat.context_of(checked), entries)
    assert "one instance for all" in [difference.way for difference in found]


BODY_OF_COUNT = """
    (global $count (mut i32) (i32.const 0))
    (data (i32.const 70000) "\\00\\02\\00\\00\\00\\01p\\00\\00\\00\\08")
    (data (i32.const 71000) "\\00\\01\\00\\00\\00\\01p")
    (func (export "scapp_reduce") (param $at i32) (param $size i32) (result i32)
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      {body}
      (i32.const 0))"""


def counting(body: str, *payloads: bytes) -> list[tuple[str, int, str]]:
    """Differences of a reducer that counts its messages in a global and does `body` with it."""
    checked = check_module(wat.module(wat.IMPORTS, wat.MEMORY, wat.ALLOC, BODY_OF_COUNT.format(body=body)))
    entries = [wat.open_entry(), *(message(payload, counter=n) for n, payload in enumerate(payloads))]
    return [(each.way, each.sequence, each.detail) for each in differences(checked, wat.context_of(checked), entries)]


def test_hidden_state_that_is_gone_again_before_the_end_is_named() -> None:
    """The count goes into a row, which the last message deletes: whoever looks at the end only sees one root."""
    body = """
      (i32.store8 (i32.const 70018) (global.get $count))
      (if (i32.gt_u (local.get $size) (i32.const 80))
        (then (drop (call $delete (i32.const 0) (i32.const 71000) (i32.const 7))))
        (else (drop (call $put (i32.const 0) (i32.const 70000) (i32.const 19)))))"""
    found = counting(body, b"", b"", b"gone")
    assert {(way, sequence) for way, sequence, _ in found} == {("one instance for all", 2), ("batches of 7", 2)}


def test_an_outcome_out_of_hidden_state_is_named() -> None:
    """Amounts are signed beside the root, not under it."""
    body = """
      (i32.store8 (i32.const 72031) (global.get $count))
      (i32.store8 (i32.const 72063) (i32.sub (i32.const 100) (global.get $count)))
      (if (i32.load8_u (local.get $at)) (then (call $set_outcome (i32.const 72000) (i32.const 64))))"""
    found = counting(body, b"", b"")
    assert found[0] == ("one instance for all", 2, "outcome [2, 98], expected [1, 99]")


def test_a_long_log_is_looked_at_in_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefixes of a long log grow with its square, so only some are run, and all of it always is."""
    monkeypatch.setattr(determinism, "PREFIX_ENTRIES", 30)
    messages = [message(op(wat.EMIT_COUNT), counter=number) for number in range(19)]
    assert {("one instance for all", 7), ("batches of 7", 3)} <= set(ways(*messages))  # prefixes of 7, 14, 20
