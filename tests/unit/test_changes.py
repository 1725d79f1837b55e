"""What a kernel hands to the database: net changes over any number of commits, as arrays or as COPY streams."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scapp.channels.entries import Kind, encode_entry
from scapp.runtime.arrays import array, array_fields, bytes_field, int8_field
from scapp.runtime.changes import COPY_NEVER, EVENTS, MESSAGES, AppEvent, BatchChanges
from scapp.runtime.kernel import Budget, Kernel, KernelFault
from scapp.runtime.net_changes import event_row, message_row, table_change
from scapp.runtime.rows import decode_row, encode_key, encode_row
from tests.support import wat
from tests.support.wat import SCORE, message, op

pytestmark = pytest.mark.usefixtures("each_kernel")
SCORES = wat.MANIFEST.tables[0]
CHANNEL = wat.CHANNEL


def put(player: str, points: int) -> bytes:
    return op(wat.PUT, encode_row(SCORES, [player, points]), SCORE)


def delete(player: str) -> bytes:
    return op(wat.DELETE, encode_key(SCORES, [player]), SCORE)


@pytest.fixture
def kernel() -> Kernel:
    opened = wat.opened(wat.scripted())
    opened.take_changes(COPY_NEVER)
    return opened


def commit(kernel: Kernel, first: int, *entries: bytes, turn: int = 7) -> None:
    assert kernel.run(first, entries, budget=Budget.DERIVE).refusals == ()
    kernel.commit(turn)


def test_several_commits_give_one_take(kernel: Kernel) -> None:
    """Per key the last change counts, and what ends as it began is no change."""
    commit(kernel, 1, message(put("a", 1), put("b", 1), put("gone", 1)))
    kernel.take_changes(COPY_NEVER)
    commit(kernel, 2, message(put("a", 2), put("b", 2), put("new", 1)))
    commit(kernel, 3, message(put("b", 1), delete("gone"), put("came", 1)))
    commit(kernel, 4, message(delete("came")))
    (change,) = kernel.take_changes(COPY_NEVER).tables
    assert [decode_row(SCORES, row) for row in change.rows()] == [("a", 2), ("new", 1)]
    assert list(change.deleted_keys()) == [encode_key(SCORES, ["gone"])]
    assert (change.upserts, change.deletes) == (2, 1)
    assert kernel.take_changes(COPY_NEVER) == BatchChanges()


def test_arrays_are_postgresql_s_binary_form(kernel: Kernel) -> None:
    """Dimensions, NULL flag, type, count, lower bound; then each value with its length."""
    commit(kernel, 1, message(put("a", 1), put("b", 2)))
    (change,) = kernel.take_changes(COPY_NEVER).tables
    names, points = change.upsert_arrays
    assert names == struct.pack(">iiIii", 1, 1, 25, 2, 1) + b"\0\0\0\1a\0\0\0\1b"
    assert points == struct.pack(">iiIii", 1, 1, 20, 2, 1) + int8_field(1) + int8_field(2)
    assert (change.delete_arrays, change.copy) == ((), b"")


def test_a_copy_stream_has_the_channel_first(kernel: Kernel) -> None:
    commit(kernel, 1, message(put("a", 1)))
    (change,) = kernel.take_changes(1).tables
    assert change.copy == b"\0\3" + bytes_field(CHANNEL) + bytes_field(b"a") + int8_field(1)
    assert (change.upserts, change.upsert_arrays) == (1, ())
    assert list(change.rows()) == [encode_row(SCORES, ["a", 1])]


@pytest.mark.parametrize(
    ("script", "copied"),
    [
        ([put("c", 1), put("d", 1)], True),
        ([put("c", 1)], False),  # too few
        ([put("c", 1), put("a", 9)], False),  # one was there
        ([put("c", 1), put("d", 1), delete("a")], False),
        ([delete("a"), put("a", 5), put("c", 1)], False),  # it was there before
        ([put("c", 1), put("d", 1), delete("a"), put("a", 1)], True),  # and is again what it was
    ],
)
def test_only_what_only_inserts_is_copied(kernel: Kernel, script: list[bytes], copied: bool) -> None:
    commit(kernel, 1, message(put("a", 1)))
    kernel.take_changes(COPY_NEVER)
    commit(kernel, 2, message(*script))
    changes = kernel.take_changes(2)
    assert bool(changes.tables[0].copy) is copied
    assert bool(changes.tables[0].upsert_arrays) is not copied


def test_messages_carry_sequence_turn_and_header(kernel: Kernel) -> None:
    """Also those that change nothing; a counter may use all 64 bits."""
    high = encode_entry(Kind.MESSAGE, 1, 2**64 - 1, 9_000, b"")
    close = encode_entry(Kind.CLOSE, 0, 0, 9_001, b"x")
    commit(kernel, 1, high, turn=4)
    commit(kernel, 2, close, turn=6)
    for copy_rows_min in (COPY_NEVER, 1):
        if copy_rows_min == 1:
            commit(kernel, 1, high, turn=4)
            commit(kernel, 2, close, turn=6)
        messages = kernel.take_changes(copy_rows_min).messages
        assert messages is not None
        assert bool(messages.copy) is (copy_rows_min == 1)
        assert [decode_row(MESSAGES, row) for row in messages.rows()] == [
            (1, 4, 1, 1, 2**64 - 1, 9_000, b""),
            (2, 6, 3, 0, 0, 9_001, b"x"),
        ]


def test_refused_entries_are_no_messages(kernel: Kernel) -> None:
    batch = [message(op(wat.REJECT, b"no")), message(op(wat.EMIT, b"y"), counter=5)]
    kernel.run(1, batch, budget=Budget.ORDER)
    kernel.commit(1)
    changes = kernel.take_changes(COPY_NEVER)
    assert changes.messages is not None
    assert [decode_row(MESSAGES, row)[0:5:4] for row in changes.messages.rows()] == [(1, 5)]
    assert list(changes.app_events()) == [AppEvent(1, 0, "e", b"y")]


def test_what_is_rolled_back_is_no_change(kernel: Kernel) -> None:
    kernel.run(1, [message(put("a", 1), op(wat.EMIT, b"x"))], budget=Budget.ORDER)
    with pytest.raises(KernelFault, match="commit or roll back the last run first"):
        kernel.take_changes(COPY_NEVER)
    kernel.rollback()
    assert kernel.take_changes(COPY_NEVER) == BatchChanges()


def test_a_kernel_that_does_not_track_gives_none() -> None:
    checked = wat.scripted()
    kernel = wat.fresh(checked, track=False)
    kernel.run(0, [wat.open_entry()], budget=Budget.ORDER)
    kernel.commit(0)
    with pytest.raises(KernelFault, match="does not track"):
        kernel.take_changes(COPY_NEVER)


def test_an_import_is_no_change(kernel: Kernel) -> None:
    commit(kernel, 1, message(put("a", 1)))
    kernel.import_state(kernel.export_state())
    assert kernel.take_changes(COPY_NEVER) == BatchChanges()
    commit(kernel, 2, message(put("a", 2)))
    (change,) = kernel.take_changes(COPY_NEVER).tables
    assert (change.upserts, change.deletes) == (1, 0)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
ROWS = st.lists(st.tuples(TEXTS, st.integers(-(2**63), 2**63 - 1)))


@settings(max_examples=50)
@given(ROWS)
def test_both_forms_give_the_rows_back(values: list[tuple[str, int]]) -> None:
    rows = [encode_row(SCORES, row) for row in values]
    for copy_rows_min in (1, COPY_NEVER):
        change = table_change(CHANNEL, SCORES, rows, copy_rows_min=copy_rows_min, insert_only=True)
        assert list(change.rows()) == rows


def test_nulls_and_empty_values_are_told_apart() -> None:
    seats = wat.MANIFEST.tables[1]
    rows = [encode_row(seats, [1, 2, None, 3]), encode_row(seats, [1, 3, "", 3])]
    for copy_rows_min in (1, COPY_NEVER):
        change = table_change(CHANNEL, seats, rows, copy_rows_min=copy_rows_min, insert_only=True)
        assert list(change.rows()) == rows


def test_an_empty_array_has_no_fields() -> None:
    assert list(array_fields(array("text", []))) == []


def test_sizes_count_the_buffers(kernel: Kernel) -> None:
    """What bounds memory on the way to the database."""
    commit(kernel, 1, message(put("a" * 1_000, 1), op(wat.EMIT, b"x" * 1_000)))
    assert 4_000 < kernel.take_changes(COPY_NEVER).size < 5_000  # both are in the message as well
    assert BatchChanges().size == 0


def test_rows_of_the_log_tables_are_rows_like_any_other() -> None:
    """The columns' types are those of the values."""
    entry = encode_entry(Kind.TICK, 255, 10_000, 2**63 - 1, bytes(5))
    assert decode_row(MESSAGES, message_row(2**40, 3, entry)) == (2**40, 3, 2, 255, 10_000, 2**63 - 1, bytes(5))
    assert decode_row(EVENTS, event_row(AppEvent(9, 1, "täg", b""))) == (9, 1, "täg", b"")
