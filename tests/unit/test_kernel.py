"""What every kernel does: atomic messages, undoable batches, clean runs, hostile reducers, and a model as oracle."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scapp.channels.deployment import Limits
from scapp.channels.entries import Kind, encode_entry
from scapp.runtime.clean_run import HIDDEN_STATE
from scapp.runtime.kernel import Budget, Kernel, KernelFault
from scapp.runtime.module import check_module
from scapp.runtime.proofs import verify_absence, verify_inclusion
from scapp.runtime.root import extend_event_root, row_path
from scapp.runtime.rows import encode_key, encode_row
from tests.support import wat
from tests.support.changes import committed
from tests.support.sparse_tree import naive_root
from tests.support.wat import SCORE, SEAT, message, op

pytestmark = pytest.mark.usefixtures("each_kernel")
SCORES, SEATS = wat.MANIFEST.tables


def put_score(player: str, points: int) -> bytes:
    return op(wat.PUT, encode_row(SCORES, [player, points]), SCORE)


def put_seat(room: int, number: int, holder: str | None) -> bytes:
    return op(wat.PUT, encode_row(SEATS, [room, number, holder, 1]), SEAT)


def scores(*pairs: tuple[str, int]) -> list[bytes]:
    return [encode_row(SCORES, pair) for pair in pairs]


@pytest.fixture
def kernel() -> Kernel:
    return wat.opened(wat.scripted())


# -- batches ----------------------------------------------------------------------------------------------------------


def test_a_run_can_be_interrupted_from_another_thread() -> None:
    """Before its next message; nothing of the batch stays."""
    kernel = wat.opened(wat.scripted())
    root = kernel.state_root()
    entries = [wat.message(wat.op(wat.LOOP), counter=number) for number in range(1_000)]
    timer = threading.Timer(0.1, kernel.interrupt)
    timer.start()
    with pytest.raises(KernelFault, match="interrupted"):
        kernel.run(1, entries, budget=Budget.ORDER)
    timer.join()
    assert kernel.state_root() == root


def test_commit_gives_the_net_change_in_key_order(kernel: Kernel) -> None:
    kernel.run(1, [message(put_score("b", 1), put_score("a", 1), put_score("c", 1))], budget=Budget.ORDER)
    changes = committed(kernel)
    assert list(changes.tables[0].rows()) == scores(("a", 1), ("b", 1), ("c", 1))
    gone = [op(wat.DELETE, encode_key(SCORES, [name]), SCORE) for name in "ac"]
    batch = [
        message(put_score("b", 2), put_score("d", 1)),
        message(put_score("b", 3), *gone),
        message(put_score("c", 1), op(wat.DELETE, encode_key(SCORES, ["d"]), SCORE)),
    ]
    result = kernel.run(2, batch, budget=Budget.ORDER)
    assert result.accepted == (0, 1, 2)
    (change,) = committed(kernel).tables
    assert change.table == "score"
    assert list(change.rows()) == scores(("b", 3))  # c came back as it was, d came and went
    assert list(change.deleted_keys()) == [encode_key(SCORES, ["a"])]
    assert list(kernel.rows("score")) == scores(("b", 3), ("c", 1))


def test_a_batch_is_invisible_until_committed_and_can_be_dropped(kernel: Kernel) -> None:
    kernel.run(1, [message(put_score("a", 1))], budget=Budget.ORDER)
    kernel.commit(0)
    before = kernel.state_root(), kernel.export_state()
    tried = kernel.run(
        2, [message(put_score("a", 2), put_score("b", 1), op(wat.SET_OUTCOME, wat.amounts(1, 99)))], budget=Budget.ORDER
    )
    assert tried.state_root != before[0]
    assert tried.amounts == (1, 99)
    assert (kernel.state_root(), kernel.export_state()) == before
    assert list(kernel.rows("score")) == scores(("a", 1))
    kernel.rollback()
    assert (kernel.state_root(), kernel.export_state()) == before
    with pytest.raises(KernelFault, match="commit without a batch"):
        kernel.commit(0)
    again = kernel.run(2, [message(put_score("a", 2))], budget=Budget.ORDER)
    assert kernel.run(2, [message(put_score("a", 2))], budget=Budget.ORDER) == again  # replaces the earlier one


def test_an_empty_batch_changes_nothing(kernel: Kernel) -> None:
    root = kernel.state_root()
    assert kernel.run(1, [], budget=Budget.ORDER).state_root == root
    assert committed(kernel).tables == ()


def test_events_carry_sequence_and_chain_into_the_root(kernel: Kernel) -> None:
    batch = [message(op(wat.EMIT, b"x"), op(wat.EMIT, b"y")), message(op(wat.TRAP)), message(op(wat.EMIT, b"z"))]
    kernel.run(1, batch, budget=Budget.ORDER)
    events = list(committed(kernel).app_events())
    assert [(e.sequence, e.index, e.topic, e.data) for e in events] == [
        (1, 0, "e", b"x"),
        (1, 1, "e", b"y"),
        (2, 0, "e", b"z"),
    ]
    root = bytes(32)
    for event in events:
        root = extend_event_root(root, event.sequence, event.topic.encode(), event.data)
    assert kernel.event_root() == root
    assert kernel.state_root() == naive_root({(0xFFFF, b""): root})


def test_ticks_run_the_reducer_and_close_does_not(kernel: Kernel) -> None:
    tick = encode_entry(Kind.TICK, 1, 0, 5, op(wat.EMIT, b"t"))
    close = encode_entry(Kind.CLOSE, 0, 0, 6, op(wat.TRAP))
    assert kernel.run(1, [tick, close], budget=Budget.ORDER).accepted == (0, 1)
    assert len(list(committed(kernel).app_events())) == 1


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (b"", "entry of 0 bytes"),
        (b"\x09" + bytes(17), "9 is not a valid Kind"),
        (encode_entry(Kind.MESSAGE, 2, 0, 0, b""), "author 2; the channel has 2 participants"),
        (encode_entry(Kind.OPEN, 0, 0, 0, b""), "OPEN at sequence 1"),
    ],
)
def test_what_is_no_entry_of_the_channel_is_refused(kernel: Kernel, entry: bytes, text: str) -> None:
    result = kernel.run(1, [entry, message(put_score("a", 1))], budget=Budget.ORDER)
    assert result.accepted == (1,)
    assert text in result.refusals[0].reason


# -- refusals and hostile reducers ------------------------------------------------------------------------------------


HOSTILE = {
    "endless loop": (op(wat.LOOP), "fault", "out of fuel in function step"),
    "deep recursion": (op(wat.RECURSE), "undecidable", "stack overflow in function deep"),
    "trap": (op(wat.TRAP), "fault", "unreachable in function step (module offset 0x"),
    "write outside memory": (op(wat.STORE_OUTSIDE), "fault", "memory out of bounds in function step"),
    "endless work of imports": (op(wat.BURN), "fault", "out of fuel"),
    "wrong outcome": (op(wat.SET_OUTCOME, wat.amounts(1, 2)), "fault", "add up to 3; they must to 100"),
    "too many cursors": (op(wat.OPEN_CURSOR) * 17, "fault", "16 cursors are open already"),
    "huge row": (op(wat.PUT_AT, b"\0\0\0\0\xff\xff\xff\x7f"), "fault", "outside the memory"),
    "unique violation": (
        put_seat(1, 1, "ann") + put_seat(1, 2, "ann"),
        "fault",
        "unique violation: index seat_by_holder of table seat",
    ),
    "rejection": (op(wat.REJECT, b"not your turn"), "rejected", "not your turn"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_message_is_contained(kernel: Kernel, name: str) -> None:
    script, code, text = HOSTILE[name]
    good = [message(put_score("a", 1)), message(put_score("b", 2))]
    kernel.run(1, good, budget=Budget.ORDER)
    kernel.commit(0)
    expected = kernel.run(3, [message(put_score("a", 3)), message(put_score("c", 4))], budget=Budget.ORDER)
    bad = message(put_score("a", 666), op(wat.DELETE, encode_key(SCORES, ["b"]), SCORE), op(wat.EMIT), script)
    result = kernel.run(3, [message(put_score("a", 3)), bad, message(put_score("c", 4))], budget=Budget.ORDER)
    assert result.accepted == (0, 2)
    (refused,) = result.refusals
    assert (refused.index, refused.code) == (1, code)
    assert text in refused.reason
    assert result.state_root == expected.state_root
    kernel.commit(0)
    assert list(kernel.rows("score")) == scores(("a", 3), ("b", 2), ("c", 4))


DEEP = """
import sys, threading
from scapp.runtime.kernel import Budget
from scapp.runtime.module import check_module
from tests.support import wat
body = '''(func $deep (param i32) (result i32) (call $log (i32.const 2) (i32.const 0) (i32.const 4))
  (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))
(func (export "scapp_reduce") (param $at i32) (param i32) (result i32)
  (if (i32.eqz (i32.load8_u (local.get $at))) (then (return (i32.const 0))))
  (drop (call $deep (i32.const 0))) (i32.const 0))'''
wat.Tested.kind = getattr(wat, sys.argv[1])
kernel = wat.opened(check_module(wat.module(wat.IMPORTS, wat.MEMORY, wat.ALLOC, body)))
def recurse():
    for budget in Budget:
        (refusal,) = kernel.run(1, [wat.message()], budget=budget).refusals
        print(refusal.code, refusal.reason)
threading.stack_size(2 << 20)
thread = threading.Thread(target=recurse)
thread.start()
thread.join()
print("alive")
"""


def test_recursion_that_calls_imports_to_the_end_of_the_stack_leaves_the_process_alive() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", DEEP, wat.Tested.kind.__name__]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    *ends, last = done.stdout.splitlines()
    assert (len(ends), last) == (3, "alive"), done.stderr
    assert all(end.startswith("undecidable stack overflow in function deep") for end in ends), ends


def test_a_memory_bomb_stops_at_the_signed_limit_everywhere() -> None:
    checked = wat.scripted(Limits(memory_bytes_max=8 * 65_536))
    for budget in Budget:
        kernel = wat.opened(checked)
        kernel.run(1, [message(op(wat.GROW))], budget=budget)
        (event,) = committed(kernel).app_events()
        assert event.data == (8).to_bytes(4, "little")


def test_memory_that_moved_while_growing_is_still_read_and_written() -> None:
    checked = wat.scripted(Limits(memory_bytes_max=64 << 20))
    kernel = wat.opened(checked)
    result = kernel.run(1, [message(op(wat.GROW), put_score("a", 1), op(wat.HASH, b"x"))], budget=Budget.ORDER)
    assert result.refusals == ()
    kernel.commit(0)
    assert list(kernel.rows("score")) == scores(("a", 1))


@pytest.mark.parametrize("bits", ["7ff8dead00000001", "fff8000000000000", "0000000000000000", "7ff0000000000000"])
def test_nan_bits_of_arithmetic_are_canonical(kernel: Kernel, bits: str) -> None:
    kernel.run(1, [message(op(wat.NAN, bytes.fromhex(bits)[::-1]))], budget=Budget.ORDER)
    (event,) = committed(kernel).app_events()
    assert event.data[::-1].hex() == "7ff8000000000000"


def test_wider_budgets_let_pass_what_was_ordered_and_their_end_is_undecidable(kernel: Kernel) -> None:
    limits = Limits(fuel_per_message=100_000)
    small = wat.opened(wat.scripted(limits))
    heavy = message(*[op(0)] * 2_000)  # instructions that do nothing: what imports cost differs between kernels
    assert small.run(1, [heavy], budget=Budget.ORDER).refusals[0].code == "fault"
    assert small.run(1, [heavy], budget=Budget.CHECK).accepted == (0,)
    for budget in (Budget.CHECK, Budget.DERIVE):
        for endless in (wat.LOOP, wat.BURN):
            assert small.run(1, [message(op(endless))], budget=budget).refusals[0].code == "undecidable"


def test_out_of_fuel_anywhere_in_a_message_leaves_all_or_nothing(tmp_path: Path) -> None:
    script = message(
        put_score("a", 1),
        op(wat.SET_OUTCOME, wat.amounts(1, 99)),
        op(wat.EMIT, b"e"),
        put_seat(1, 1, "x"),
        op(wat.HASH),
    )
    ends = set()
    for fuel in [*range(1, 300, 7), *range(300, 6_000, 150), *range(6_000, 60_000, 6_000)]:
        checked = check_module(wat.scripted_wasm(), Limits(fuel_per_message=fuel), cache_folder=tmp_path)
        kernel = wat.fresh(checked)
        kernel.run(0, [wat.open_entry()], budget=Budget.DERIVE)
        kernel.commit(0)
        before = kernel.state_root()
        result = kernel.run(1, [script], budget=Budget.ORDER)
        if result.accepted:
            ends.add((result.state_root, result.amounts))
        else:
            assert "out of fuel" in result.refusals[0].reason
            assert (result.state_root, result.amounts) == (before, (60, 40))
            ends.add((before, (60, 40)))
        kernel.close()
    assert len(ends) == 2


def test_unique_values_may_be_swapped_within_a_message(kernel: Kernel) -> None:
    batch = [
        message(put_seat(1, 1, "ann"), put_seat(1, 2, "bob")),
        message(put_seat(1, 1, "bob"), put_seat(1, 2, "ann")),
    ]
    assert kernel.run(1, batch, budget=Budget.ORDER).accepted == (0, 1)
    kernel.commit(0)
    late = [message(put_seat(2, 1, "ann")), message(put_seat(2, 1, None), put_seat(2, 2, None))]
    assert kernel.run(3, late, budget=Budget.ORDER).accepted == (1,)
    freed = message(op(wat.DELETE, encode_key(SEATS, [1, 2]), SEAT), put_seat(2, 1, "ann"))
    assert kernel.run(3, [freed], budget=Budget.ORDER).accepted == (0,)


# -- state outside tables ---------------------------------------------------------------------------------------------


def count_up_to(limit: int) -> bytes:
    return op(wat.COUNT_UP_TO, arg=limit)


def test_a_fresh_instance_starts_every_batch(kernel: Kernel) -> None:
    for first in (1, 2, 3):
        assert kernel.run(first, [message(count_up_to(1))], budget=Budget.ORDER).accepted == (0,)
        kernel.commit(0)


def test_hidden_state_changed_by_refused_messages_does_not_reach_what_is_signed(kernel: Kernel) -> None:
    counted = message(op(wat.EMIT_COUNT))
    spoilt = kernel.run(1, [message(op(wat.EMIT_COUNT), op(wat.REJECT, b"")), counted], budget=Budget.ORDER)
    assert spoilt.accepted == (1,)
    assert spoilt.state_root == kernel.run(1, [counted], budget=Budget.CHECK).state_root


def test_when_hidden_state_decides_one_message_is_admitted_and_others_come_again(kernel: Kernel) -> None:
    # The first pass traps at 1 and so gives message 2 a fresh instance; in one clean run the third increment fails.
    batch = [message(count_up_to(1)), message(op(wat.TRAP)), message(count_up_to(1)), message(put_score("a", 1))]
    result = kernel.run(1, batch, budget=Budget.ORDER)
    assert result.accepted == (0,)
    assert [(found.index, found.code) for found in result.refusals] == [
        (1, "fault"),
        (2, "undecidable"),
        (3, "undecidable"),
    ]
    assert result.refusals[1].reason == HIDDEN_STATE
    assert result.state_root == kernel.run(1, [batch[0]], budget=Budget.CHECK).state_root


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["count1", "count2", "trap", "reject", "emit", "put"]), max_size=8))
def test_whatever_is_admitted_is_what_a_countersigner_computes(kinds: list[str]) -> None:
    scripts = {
        "count1": count_up_to(1),
        "count2": count_up_to(2),
        "trap": op(wat.TRAP),
        "reject": op(wat.EMIT_COUNT) + op(wat.REJECT, b"no"),
        "emit": op(wat.EMIT_COUNT),
        "put": put_score("a", 1),
    }
    batch = [message(scripts[kind]) for kind in kinds]
    ours = wat.opened(wat.scripted())
    result = ours.run(1, batch, budget=Budget.ORDER)
    accepted = [batch[index] for index in result.accepted]
    theirs = wat.opened(wat.scripted()).run(1, accepted, budget=Budget.CHECK)
    assert theirs.refusals == ()
    assert (theirs.state_root, theirs.amounts) == (result.state_root, result.amounts)
    assert sorted([*result.accepted, *(refused.index for refused in result.refusals)]) == list(range(len(batch)))


# -- a model as oracle ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Step:
    """One message of the model: writes, and how it ends."""

    writes: list[tuple[str, str, int]]
    ending: str


STEPS = st.builds(
    Step,
    st.lists(
        st.tuples(st.sampled_from(["put", "delete", "seat"]), st.sampled_from("abcd"), st.integers(0, 3)), max_size=5
    ),
    st.sampled_from(["accept", "accept", "accept", "reject", "trap"]),
)


def script_of(step: Step) -> bytes:
    parts = []
    for kind, name, number in step.writes:
        if kind == "put":
            parts.append(put_score(name, number))
        elif kind == "delete":
            parts.append(op(wat.DELETE, encode_key(SCORES, [name]), SCORE))
        else:
            parts.append(put_seat(number, 0, name))
    parts.append({"accept": b"", "reject": op(wat.REJECT, b""), "trap": op(wat.TRAP)}[step.ending])
    return message(*parts)


def model(state: dict[str, dict[object, list[object]]], step: Step) -> dict[str, dict[object, list[object]]] | None:
    new = {table: dict(rows) for table, rows in state.items()}
    for kind, name, number in step.writes:
        if kind == "put":
            new["score"][name] = [name, number]
        elif kind == "delete":
            new["score"].pop(name, None)
        else:
            new["seat"][number] = [number, 0, name, 1]
    holders = [row[2] for row in new["seat"].values()]
    return new if step.ending == "accept" and len(holders) == len(set(holders)) else None  # type: ignore[arg-type]


@settings(max_examples=60)
@given(st.lists(st.lists(STEPS, max_size=4), max_size=4), st.lists(st.booleans(), min_size=4, max_size=4))
def test_rows_and_root_follow_the_model_over_any_split_and_any_rollback(
    batches: list[list[Step]], kept: list[bool]
) -> None:
    kernel = wat.opened(wat.scripted())
    state: dict[str, dict[object, list[object]]] = {"score": {}, "seat": {}}
    sequence = 1
    for batch, keep in zip(batches, kept, strict=False):
        result = kernel.run(sequence, [script_of(step) for step in batch], budget=Budget.ORDER)
        after, accepted = state, []
        for index, step in enumerate(batch):
            following = model(after, step)
            if following is not None:
                after = following
                accepted.append(index)
        assert result.accepted == tuple(accepted)
        if keep:
            kernel.commit(0)
            state, sequence = after, sequence + len(accepted)
        else:
            kernel.rollback()
        rows = {
            "score": [encode_row(SCORES, row) for _, row in sorted(state["score"].items())],  # type: ignore[type-var]
            "seat": [encode_row(SEATS, row) for _, row in sorted(state["seat"].items())],  # type: ignore[type-var]
        }
        assert {table: list(kernel.rows(table)) for table in rows} == rows
        checked = wat.scripted()
        leaves = {
            (position, codec.read_row(row)[0]): row
            for position, codec in enumerate(checked.tables)
            for row in rows[codec.table.name]
        }
        assert kernel.state_root() == naive_root({**leaves, (65_535, b""): bytes(32)})
        assert scans(kernel, sequence) == sorted(rows["seat"], key=lambda row: row[18:]) + rows["seat"]


def scans(kernel: Kernel, sequence: int) -> list[bytes]:
    """Rows of the seats by holder, then by what is paid."""
    before = kernel.export_state()
    kernel.run(sequence, [message(wat.scan_op(wat.BY_HOLDER), wat.scan_op(wat.BY_PAID))], budget=Budget.ORDER)
    found = [event.data for event in committed(kernel).app_events()]
    kernel.import_state(before)
    return found


# -- export, proofs, life ---------------------------------------------------------------------------------------------


def filled() -> Kernel:
    kernel = wat.opened(wat.scripted())
    batch = message(
        put_score("a", 1),
        put_score("b", 2),
        put_seat(1, 1, "x"),
        op(wat.EMIT, b"e"),
        op(wat.SET_OUTCOME, wat.amounts(7, 93)),
    )
    kernel.run(1, [batch], budget=Budget.ORDER)
    kernel.commit(0)
    return kernel


def test_an_export_can_be_imported_and_gone_on_from() -> None:
    kernel, other = filled(), wat.opened(wat.scripted())
    other.import_state(kernel.export_state())
    assert other.export_state() == kernel.export_state()
    assert (other.state_root(), other.amounts(), other.event_root()) == (
        kernel.state_root(),
        (7, 93),
        kernel.event_root(),
    )
    following = [message(put_score("a", 9), put_seat(1, 2, "x")), message(put_seat(1, 2, "y"))]
    assert other.run(2, following, budget=Budget.ORDER) == kernel.run(2, following, budget=Budget.ORDER)


def test_a_foreign_or_damaged_export_is_refused() -> None:
    kernel, data = wat.opened(wat.scripted()), filled().export_state()
    root = kernel.state_root()
    for broken in (b"", b"\xc1", data[:-5], b"\x91" * 2_000):
        with pytest.raises(ValueError, match="not an export"):
            kernel.import_state(broken)
    decoded = msgspec.msgpack.decode(data)
    for position, value in ((0, 2), (1, bytes(32)), (2, bytes(32)), (4, []), (5, [])):
        changed = [*decoded[:position], value, *decoded[position + 1 :]]
        with pytest.raises(ValueError, match="another channel, deployment or version"):
            kernel.import_state(msgspec.msgpack.encode(changed))
    for position, value in ((3, bytes(32)), (6, bytes(32)), (5, [[b"bad"], []]), (5, [scores(("a", 1), ("a", 1)), []])):
        changed = [*decoded[:position], value, *decoded[position + 1 :]]
        with pytest.raises(ValueError, match="does not hold together"):
            kernel.import_state(msgspec.msgpack.encode(changed))
    assert kernel.state_root() == root


def test_rows_and_absent_keys_can_be_proved_against_the_root() -> None:
    kernel = filled()
    codec = wat.scripted().tables[0]
    for name in "abcdefgh":
        key = codec.read_key(encode_key(SCORES, [name]))
        row, proof = kernel.prove(0, key)
        path = row_path(0, key)
        assert (row is not None) == (name in "ab")
        if row is None:
            assert verify_absence(kernel.state_root(), path, proof)
        else:
            assert verify_inclusion(kernel.state_root(), path, row, proof)


def test_the_deployment_has_to_be_that_of_the_channel() -> None:
    context = wat.context_of(wat.scripted(Limits(rows_max=5)))
    with pytest.raises(KernelFault, match="the channel runs deployment"):
        wat.fresh(wat.scripted(), context)


def test_an_unknown_table_is_named(kernel: Kernel) -> None:
    with pytest.raises(KeyError, match="table 'x'; the tables are score, seat"):
        kernel.rows("x")


def test_a_reducer_that_refuses_open_opens_nothing() -> None:
    reject = '(func (export "scapp_reduce") (param i32 i32) (result i32) (i32.const 1))'
    checked = check_module(wat.module(wat.MEMORY, wat.ALLOC, reject))
    result = wat.fresh(checked).run(0, [wat.open_entry()], budget=Budget.ORDER)
    assert result.refusals[0].reason == "scapp_reduce returned 1"
