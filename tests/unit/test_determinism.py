"""Reducers that would not give one root everywhere are caught and named; honest ones agree in every way."""

from __future__ import annotations

import struct

from scapp.channels.deployment import Limits
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
    assert ("one instance for all", 10) in found
    assert ("batches of 7", 7) in found
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
