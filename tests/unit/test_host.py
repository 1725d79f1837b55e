"""The imports of `scapp_1`: what each returns and traps on, sentence by sentence of docs/reference/abi.md."""

from __future__ import annotations

import hashlib
import struct

import pytest

from scapp.channels.admission import Refusal
from scapp.channels.crypto import keccak256
from scapp.channels.deployment import Limits
from scapp.channels.entries import Kind, encode_entry
from scapp.runtime.kernel import BatchResult, Budget, Kernel
from scapp.runtime.module import check_module
from scapp.runtime.rows import encode_key, encode_row, join
from tests.support import wat
from tests.support.changes import committed
from tests.support.wat import BY_HOLDER, BY_PAID, SCORE, SEAT, message, op, scan_op

pytestmark = pytest.mark.usefixtures("each_kernel")
SCORES, SEATS = wat.MANIFEST.tables
BACKWARDS, INCLUSIVE = 1, 2


def put_score(player: str, points: int) -> bytes:
    return op(wat.PUT, encode_row(SCORES, [player, points]), SCORE)


def seat(room: int, number: int, holder: str | None, paid: int) -> bytes:
    return encode_row(SEATS, [room, number, holder, paid])


def put_seat(room: int, number: int, holder: str | None, paid: int) -> bytes:
    return op(wat.PUT, seat(room, number, holder, paid), SEAT)


def run(kernel: Kernel, *instructions: bytes, budget: Budget = Budget.ORDER) -> BatchResult:
    return kernel.run(1, [message(*instructions)], budget=budget)


def events(*instructions: bytes, limits: Limits | None = None) -> list[tuple[str, bytes]]:
    """Topic and data of what one accepted message emitted."""
    kernel = wat.opened(wat.scripted(limits))
    result = run(kernel, *instructions)
    assert result.accepted == (0,), result.refusals
    return [(event.topic, event.data) for event in committed(kernel).app_events()]


def refusal(*instructions: bytes, limits: Limits | None = None) -> Refusal:
    """Why one message was refused; and that it left nothing behind."""
    kernel = wat.opened(wat.scripted(limits))
    before = kernel.state_root()
    result = run(kernel, *instructions)
    assert result.accepted == ()
    assert result.state_root == before
    (only,) = result.refusals
    return only


def fault(*instructions: bytes, limits: Limits | None = None) -> str:
    found = refusal(*instructions, limits=limits)
    assert found.code == "fault", found
    assert " in function " in found.reason
    return found.reason


def scanned(*instructions: bytes) -> list[bytes]:
    return [data for topic, data in events(*instructions) if topic == "s"]


# -- get, put, delete -------------------------------------------------------------------------------------------------


def test_get_gives_the_row_as_it_was_put() -> None:
    key = encode_key(SCORES, ["ann"])
    row = encode_row(SCORES, ["ann", 5])
    assert events(put_score("ann", 5), op(wat.GET, key, SCORE)) == [("r", row)]
    assert events(op(wat.GET, key, SCORE)) == [("-", b"")]
    assert events(put_score("ann", 5), op(wat.DELETE, key, SCORE), op(wat.GET, key, SCORE)) == [("-", b"")]
    assert events(put_score("ann", 4), put_score("ann", 5), op(wat.GET, key, SCORE)) == [("r", row)]


DIRECT = """
(func (export "scapp_reduce") (param $at i32) (param i32) (result i32) (local $row i32)
  (if (i32.eqz (i32.load8_u (local.get $at))) (then (return (i32.const 0))))
  (local.set $row (i32.add (local.get $at) (i32.const 80)))
  BODY)
"""


def test_results_of_put_delete_get_and_next_as_the_guest_sees_them() -> None:
    row, key = encode_row(SCORES, ["a", 5]), encode_key(SCORES, ["a"])
    size, ksize = len(row), len(key)
    key_at = f"(i32.add (local.get $row) (i32.const {size}))"
    put = f"(call $put (i32.const 0) (local.get $row) (i32.const {size}))"
    delete = f"(call $delete (i32.const 0) {key_at} (i32.const {ksize}))"

    def get(capacity: int) -> str:
        return f"(call $get (i32.const 0) {key_at} (i32.const {ksize}) (i32.const 131072) (i32.const {capacity}))"

    def next_(capacity: int) -> str:
        return f"(call $next (i32.const 0) (i32.const 131072) (i32.const {capacity}))"

    untouched = "(i32.load (i32.const 131072))"
    scan = f"(call $scan {' '.join(['(i32.const 0)'] * 6)})"
    steps = [
        (delete, 0),
        (get(100), -1),
        (put, 0),
        (put, 1),
        (get(size - 1), size),
        (untouched, 0),
        (get(size), size),
        (scan, 0),
        (next_(size - 1), size),
        (next_(size), size),
        (next_(size), -1),
        (scan, 0),
        (delete, 1),
        (delete, 0),
    ]
    body = "".join(
        f"(if (i32.ne {call} (i32.const {answer})) (then (return (i32.const {number}))))"
        for number, (call, answer) in enumerate(steps, 1)
    )
    checked = check_module(
        wat.module(wat.IMPORTS, wat.MEMORY, wat.ALLOC, DIRECT.replace("BODY", body + "(i32.const 0)"))
    )
    result = wat.opened(checked).run(1, [message(row + key)], budget=Budget.ORDER)
    assert result.refusals == ()


@pytest.mark.parametrize("code", [wat.PUT, wat.DELETE, wat.GET])
def test_an_unknown_table_number_traps(code: int) -> None:
    assert "table 2; the manifest has 2, numbered from 0" in fault(op(code, join([b"x"]), 2))


def test_a_malformed_row_or_key_traps_with_table_and_column() -> None:
    assert "put: table score: 1 columns; allowed are 2" in fault(op(wat.PUT, join([b"a"]), SCORE))
    assert "put: table score: column points of 3 bytes" in fault(op(wat.PUT, join([b"a", b"abc"]), SCORE))
    assert "NULL in column player; it is NOT NULL" in fault(op(wat.PUT, join([None, bytes(8)]), SCORE))
    assert "key of table score: column player: text is not UTF-8" in fault(op(wat.GET, join([b"\xff"]), SCORE))
    assert "key of table seat: 1 columns; allowed are 2" in fault(op(wat.DELETE, join([bytes(4)]), SEAT))
    assert "at most 1968 are allowed" in fault(
        op(wat.PUT, encode_row(SCORES, ["a", 1])[:2] + b"\0\0\x07\xd0" + b"a" * 2000 + b"\0\0\0\x08" + bytes(8), SCORE)
    )
    assert "index seat_by_holder of table seat: key (holder) of 1969 encoded" in fault(
        op(wat.PUT, join([bytes(4), bytes(4), b"h" * 1966, bytes(8)]), SEAT)
    )


def test_pointers_and_lengths_outside_memory_trap() -> None:
    assert "pointer 262140 with length 8 is outside the memory of 262144 bytes" in fault(
        op(wat.PUT_AT, struct.pack("<II", 262_140, 8), SCORE)
    )
    assert "pointer 4294967295 with length 4294967295" in fault(
        op(wat.PUT_AT, struct.pack("<iI", -1, 2**32 - 1), SCORE)
    )
    assert "memory out of bounds" in fault(op(wat.STORE_OUTSIDE))


def test_totals_of_rows_and_bytes_are_limited() -> None:
    two = Limits(rows_max=2)
    events(put_score("a", 1), put_score("b", 1), put_score("a", 2), limits=two)
    assert "3 rows of" in fault(put_score("a", 1), put_score("b", 1), put_score("c", 1), limits=two)
    size = len(encode_row(SCORES, ["a", 1]))
    events(put_score("a", 1), limits=Limits(row_bytes_total_max=size))
    assert f"at most 1000000 rows of {size} bytes" in fault(put_score("ab", 1), limits=Limits(row_bytes_total_max=size))


# -- scan, next -------------------------------------------------------------------------------------------------------


PUTS = (
    put_seat(1, 1, "c", 5),
    put_seat(1, 2, None, 7),
    put_seat(2, 1, "a", 5),
    put_seat(-1, 9, "b", 6),
    put_seat(3, 0, None, 1),
)
ROWS = {
    number: seat(*values)
    for number, values in enumerate([(-1, 9, "b", 6), (1, 1, "c", 5), (1, 2, None, 7), (2, 1, "a", 5), (3, 0, None, 1)])
}


def bound(*values: int) -> bytes:
    return join([value.to_bytes(4, "big", signed=True) for value in values])


@pytest.mark.parametrize(
    ("lo", "hi", "flags", "expected"),
    [
        (b"", b"", 0, [0, 1, 2, 3, 4]),
        (b"", b"", BACKWARDS, [4, 3, 2, 1, 0]),
        (bound(), bound(), INCLUSIVE, [0, 1, 2, 3, 4]),
        (bound(1), b"", 0, [1, 2, 3, 4]),
        (bound(1, 2), b"", 0, [2, 3, 4]),
        (b"", bound(1), 0, [0]),
        (b"", bound(1), INCLUSIVE, [0, 1, 2]),
        (b"", bound(1, 2), 0, [0, 1]),
        (bound(1), bound(1), INCLUSIVE, [1, 2]),
        (bound(1), bound(1), 0, []),
        (bound(1), bound(3), BACKWARDS, [3, 2, 1]),
        (bound(2), bound(1), 0, []),
        (bound(2), bound(1), BACKWARDS, []),
        (b"", bound(-1), BACKWARDS | INCLUSIVE, [0]),
    ],
)
def test_scan_bounds_over_a_table(lo: bytes, hi: bytes, flags: int, expected: list[int]) -> None:
    assert scanned(*PUTS, scan_op(SEAT, lo, hi, flags)) == [ROWS[number] for number in expected]


@pytest.mark.parametrize(
    ("index", "lo", "hi", "flags", "expected"),
    [
        (BY_HOLDER, b"", b"", 0, [3, 0, 1, 2, 4]),  # NULL last, ties by primary key
        (BY_HOLDER, b"", b"", BACKWARDS, [4, 2, 1, 0, 3]),
        (BY_HOLDER, join([b"b"]), b"", 0, [0, 1, 2, 4]),
        (BY_HOLDER, join([None]), join([None]), INCLUSIVE, [2, 4]),
        (BY_HOLDER, b"", join([None]), 0, [3, 0, 1]),
        (BY_PAID, b"", b"", 0, [4, 1, 3, 0, 2]),
    ],
)
def test_scan_bounds_over_an_index(index: int, lo: bytes, hi: bytes, flags: int, expected: list[int]) -> None:
    assert scanned(*PUTS, scan_op(index, lo, hi, flags)) == [ROWS[number] for number in expected]


def test_an_index_follows_updates_and_deletes() -> None:
    gone = op(wat.DELETE, encode_key(SEATS, [2, 1]), SEAT)
    changed = put_seat(3, 0, "aa", 9)
    assert scanned(*PUTS, scan_op(BY_PAID), changed, gone, scan_op(BY_HOLDER))[5:] == [
        seat(3, 0, "aa", 9),
        ROWS[0],
        ROWS[1],
        ROWS[2],
    ]


def test_scan_traps_on_bad_numbers_flags_and_bounds() -> None:
    assert "scan: number 4; there are 2 tables and then 2 indexes" in fault(scan_op(4))
    assert "scan: flags 0x4; allowed are bit 0" in fault(scan_op(SEAT, flags=4))
    assert "key of table seat: 3 columns; allowed are at most 2" in fault(scan_op(SEAT, bound(1, 2, 3)))
    assert "index seat_by_paid of table seat: NULL in column paid" in fault(scan_op(BY_PAID, join([None])))
    assert "next: 0 is no open cursor; open are none" in fault(op(wat.NEXT))
    cursors = [op(wat.OPEN_CURSOR)] * 16
    assert events(*cursors) == []
    assert "16 cursors are open already" in fault(*cursors, op(wat.OPEN_CURSOR))


def test_a_cursor_at_its_end_frees_its_number_and_all_die_with_the_message() -> None:
    assert events(*[op(wat.OPEN_CURSOR)] * 15, *[scan_op(SCORE)] * 5) == []
    kernel = wat.opened(wat.scripted())
    result = kernel.run(1, [message(op(wat.OPEN_CURSOR)), message(op(wat.NEXT))], budget=Budget.ORDER)
    assert [(found.index, found.code) for found in result.refusals] == [(1, "fault")]


def test_a_cursor_sees_the_table_as_it_is_now() -> None:
    body = """
    (drop (call $scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
    (drop (call $put (i32.const 0) (local.get $row) (i32.const SIZE)))
    (call $emit (i32.const 600) (i32.const 1) (i32.const 131072)
      (call $next (i32.const 0) (i32.const 131072) (i32.const 1000)))
    (drop (call $put (i32.const 0) (i32.add (local.get $row) (i32.const SIZE)) (i32.const SIZE)))
    (call $emit (i32.const 600) (i32.const 1) (i32.const 131072)
      (call $next (i32.const 0) (i32.const 131072) (i32.const 1000)))
    (drop (call $delete (i32.const 0) (i32.add (local.get $row) (i32.const TAIL)) (i32.const KEY)))
    (return (i32.add (i32.const 1) (call $next (i32.const 0) (i32.const 131072) (i32.const 1000))))"""
    first, second, third = (encode_row(SCORES, [name, 1]) for name in "abc")
    key = encode_key(SCORES, ["c"])
    body = body.replace("SIZE", str(len(first))).replace("TAIL", str(2 * len(first))).replace("KEY", str(len(key)))
    parts = wat.IMPORTS, wat.MEMORY, wat.ALLOC, '(data (i32.const 600) "s")', DIRECT.replace("BODY", body)
    kernel = wat.opened(check_module(wat.module(*parts)))
    payload = encode_entry(Kind.MESSAGE, 0, 1, 0, first + second + key)
    result = kernel.run(1, [payload], budget=Budget.ORDER)
    assert result.refusals == ()
    assert [event.data for event in committed(kernel).app_events()] == [first, second]
    assert third not in kernel.rows("score")


# -- emit, set_outcome, reject, log, hashes ---------------------------------------------------------------------------


def test_emit_bounds_events_per_message_and_bytes() -> None:
    many = Limits(events_per_message_max=2, event_bytes_max=10)
    assert events(op(wat.EMIT, b"123456789"), limits=many) == [("e", b"123456789")]
    assert "event of 11 bytes; at most 10" in fault(op(wat.EMIT, b"1234567890"), limits=many)
    assert "more than 2 events in one message" in fault(*[op(wat.EMIT)] * 3, limits=many)


@pytest.mark.parametrize(
    ("topic", "length", "text"),
    [("\\ff", 1, "not UTF-8"), ("\\00", 1, "NUL"), ("", 0, "topic of 0 bytes"), ("a", 257, "topic of 257 bytes")],
)
def test_emit_takes_only_topics_postgresql_can_store(topic: str, length: int, text: str) -> None:
    body = f"(call $emit (i32.const 600) (i32.const {length}) (i32.const 0) (i32.const 0)) (i32.const 0)"
    parts = wat.IMPORTS, wat.MEMORY, wat.ALLOC, f'(data (i32.const 600) "{topic}")', DIRECT.replace("BODY", body)
    result = run(wat.opened(check_module(wat.module(*parts))))
    assert text in result.refusals[0].reason


def test_set_outcome_keeps_slots_and_sums_per_asset() -> None:
    kernel = wat.opened(wat.scripted())
    assert kernel.amounts() == (60, 40)
    assert run(kernel, op(wat.SET_OUTCOME, wat.amounts(100, 0))).amounts == (100, 0)
    assert kernel.amounts() == (60, 40)
    assert "add up to 101; they must to 100" in fault(op(wat.SET_OUTCOME, wat.amounts(60, 41)))
    assert "add up to" in fault(op(wat.SET_OUTCOME, wat.amounts(2**256 - 1, 101)))
    assert "set_outcome: 32 bytes; allowed are 64" in fault(op(wat.SET_OUTCOME, wat.amounts(100)))
    refused = run(kernel, op(wat.SET_OUTCOME, wat.amounts(0, 100)), op(wat.REJECT, b"no"))
    assert refused.amounts == (60, 40)


def test_set_outcome_in_open_traps() -> None:
    body = """(func (export "scapp_reduce") (param i32 i32) (result i32)
      (call $set_outcome (i32.const 0) (i32.const 64)) (i32.const 0))"""
    checked = check_module(wat.module(wat.IMPORTS, wat.MEMORY, wat.ALLOC, body))
    result = wat.fresh(checked).run(0, [wat.open_entry()], budget=Budget.ORDER)
    assert "set_outcome: not allowed in open" in result.refusals[0].reason


def test_reject_keeps_its_first_reason_and_undoes_everything() -> None:
    found = refusal(put_score("a", 1), op(wat.EMIT), op(wat.REJECT, b"first \xff\0"), op(wat.REJECT, b"second"))
    assert (found.code, found.reason) == ("rejected", "first ��")
    assert refusal(op(wat.RETURN, arg=7)).reason == "scapp_reduce returned 7"
    assert refusal(op(wat.REJECT, b"x" * 100), limits=Limits(log_bytes_max=10)).reason == "x" * 10


def test_log_lines_are_kept_whatever_happens_and_bounded() -> None:
    kernel = wat.opened(wat.scripted(Limits(log_bytes_max=3, logs_per_message_max=2)))
    lines = op(wat.LOG, b"hello", 2), op(wat.LOG, b"b", 0), op(wat.LOG, b"dropped")
    for ending in ((), (op(wat.TRAP),), (op(wat.REJECT, b"no"),)):
        result = run(kernel, *lines, *ending)
        assert [(line.level, line.text, line.entry_index) for line in result.logs] == [(2, "hel", 0), (0, "b", 0)]
    assert "log: level 4; allowed are 0 error" in fault(op(wat.LOG, b"x", 4))


def test_hash_imports_equal_the_known_functions() -> None:
    assert events(op(wat.HASH, b"abc")) == [("k", keccak256(b"abc")), ("h", hashlib.sha256(b"abc").digest())]
    assert events(op(wat.HASH, b""))[0] == ("k", keccak256(b""))


def test_the_work_of_imports_is_limited() -> None:
    assert "out of fuel" in fault(op(wat.BURN))


# -- when imports may be called ---------------------------------------------------------------------------------------


def test_imports_trap_during_scapp_alloc() -> None:
    alloc = """(func (export "scapp_alloc") (param i32) (result i32)
      (call $log (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 65536))"""
    checked = check_module(wat.module(wat.IMPORTS, wat.MEMORY, alloc, wat.ACCEPT))
    result = wat.fresh(checked).run(0, [wat.open_entry()], budget=Budget.ORDER)
    assert "an import was called outside scapp_reduce in function #" in result.refusals[0].reason


@pytest.mark.parametrize("pointer", [262_144, -1, 262_144 - 100])
def test_a_buffer_outside_memory_is_a_fault(pointer: int) -> None:
    alloc = f'(func (export "scapp_alloc") (param i32) (result i32) (i32.const {pointer}))'
    checked = check_module(wat.module(wat.MEMORY, alloc, wat.ACCEPT))
    result = wat.fresh(checked).run(0, [wat.open_entry()], budget=Budget.ORDER)
    assert result.refusals[0].code == "fault"
    assert "scapp_alloc returned pointer" in result.refusals[0].reason


def test_the_message_buffer_is_as_described() -> None:
    echo = DIRECT.replace("(local $row i32)", "").replace("(param i32)", "(param $size i32)")
    echo = echo.replace("(local.set $row (i32.add (local.get $at) (i32.const 80)))", "")
    body = "(call $emit (i32.const 600) (i32.const 1) (local.get $at) (local.get $size)) (i32.const 0)"
    parts = wat.IMPORTS, wat.MEMORY, wat.ALLOC, '(data (i32.const 600) "m")', echo.replace("BODY", body)
    kernel = wat.opened(check_module(wat.module(*parts)))
    entry = encode_entry(Kind.TICK, 1, 9, 1_700_000_000_123, b"payload")
    kernel.run(1, [entry], budget=Budget.ORDER)
    (event,) = committed(kernel).app_events()
    data = event.data
    assert data[0:4] == bytes([2, 1, 0, 0])
    assert data[4:8] == (7).to_bytes(4, "little")
    assert data[8:16] == (1).to_bytes(8, "little")
    assert data[16:24] == (1_700_000_000_123).to_bytes(8, "little")
    assert data[24:44] == wat.BOB
    assert data[44:76] == wat.CHANNEL
    assert data[76:80] == bytes(4)
    assert data[80:] == b"payload"
