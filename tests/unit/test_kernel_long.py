"""Long lives of the native kernel: many batches, instances and Stores, large tables that shrink and grow again, and
snapshots with anything in them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scapp.channels.deployment import Limits
from scapp.runtime.changes import COPY_NEVER
from scapp.runtime.kernel import Budget, KernelFault
from scapp.runtime.native.kernel import NativeKernel
from scapp.runtime.native.layout import IMPORTS
from scapp.runtime.row_types import int_to_numeric
from scapp.runtime.rows import TableCodec, join
from tests.support import raw_calls as raw
from tests.support import wat
from tests.support.kernel_pair import Pair
from tests.support.sparse_tree import naive_root

ROOMY = Limits(fuel_per_message=10**10)
UNIQUE = TableCodec(raw.MANIFEST.tables[raw.UNIQUE])
PUT, DELETE = IMPORTS.index("put"), IMPORTS.index("delete")


def row_of(number: int, version: int) -> bytes:
    """A row with entries in three indexes; `version` changes two of them and the length."""
    holder = f"{version}/{number}".encode() if version % 3 else None
    room = number % 7
    return join([room.to_bytes(4, "big"), str(number).encode(), holder, None, int_to_numeric(version * 7 + number % 5)])


def key_of(number: int) -> bytes:
    return join([(number % 7).to_bytes(4, "big"), str(number).encode()])


class Model:
    """Rows by encoded key beside a kernel."""

    def __init__(self, kernel: NativeKernel, *, late: bool = False) -> None:
        self.kernel = kernel
        self.late = late  # roots come when they are checked
        self.rows: dict[int, bytes] = {}
        assert kernel.run(0, [wat.open_entry()], budget=Budget.ORDER).accepted == (0,)
        kernel.commit(0)
        self.sequence = 1

    def apply(self, puts: Sequence[tuple[int, int]], deletes: Sequence[int]) -> None:
        """One batch of messages of a hundred writes each."""
        instructions = [
            raw.raw(DELETE, raw.UNIQUE, raw.DATA, len(key), data=key, say=False) for key in map(key_of, deletes)
        ]
        rows = {number: row_of(number, version) for number, version in puts}
        instructions += [raw.raw(PUT, raw.UNIQUE, raw.DATA, len(row), data=row, say=False) for row in rows.values()]
        entries = [wat.message(*instructions[start : start + 100]) for start in range(0, len(instructions), 100)]
        result = self.kernel.run(self.sequence, entries, budget=Budget.DERIVE, late=self.late)
        assert result.refusals == ()
        assert bool(result.state_root) is not self.late
        self.kernel.commit(0)
        self.sequence += len(entries)
        for number in deletes:
            self.rows.pop(number, None)
        self.rows |= rows

    def check(self) -> None:
        if self.late:
            self.kernel.late_root()
        expected = {UNIQUE.read_row(row)[0]: row for row in self.rows.values()}
        assert list(self.kernel.rows("unique")) == [expected[key] for key in sorted(expected)]
        leaves = {(raw.UNIQUE, key): row for key, row in expected.items()}
        assert self.kernel.state_root() == naive_root({**leaves, (65_535, b""): bytes(32)})

    def check_indexes(self) -> None:
        """What a scan gives, of each index in both directions, is what sorting gives; by digest where it is long."""
        for place, index in enumerate(UNIQUE.indexes):
            number = raw.NUMBERS - len(UNIQUE.indexes) + place
            ordered = sorted(
                (index.entry(values)[0] + key, row)
                for row in self.rows.values()
                for key, values in [UNIQUE.read_row(row)]
            )
            for flags, wanted in ((0, ordered), (1, ordered[::-1])):
                script = [raw.scan(number, flags=flags), *[raw.step(0)] * 60]
                self.kernel.run(self.sequence, [wat.message(*script)], budget=Budget.DERIVE)
                self.kernel.commit(0)
                self.sequence += 1
                given = [
                    event.data for event in self.kernel.take_changes(COPY_NEVER).app_events() if event.topic == "="
                ]
                assert given == [row for _, row in wanted[:60]]


def _grow_and_shrink(rows: int, rounds: int, seed: int, *, late: bool) -> None:
    chance = random.Random(seed)
    kernel = NativeKernel(raw.checked(ROOMY), wat.context_of(raw.checked(ROOMY)))
    model = Model(kernel, late=late)
    for turn in range(rounds):
        version = turn + 1
        target = rows if turn % 2 == 0 else rows // 50
        missing = [number for number in range(rows) if number not in model.rows]
        if target == rows:
            for start in range(0, len(missing), 5_000):
                model.apply([(number, version) for number in missing[start : start + 5_000]], [])
        else:
            present = sorted(model.rows) if turn % 4 == 1 else chance.sample(sorted(model.rows), len(model.rows))
            gone = present[: len(present) - target]
            for start in range(0, len(gone), 5_000):
                model.apply([], gone[start : start + 5_000])
        known = sorted(model.rows)
        model.apply([(number, version + 1) for number in chance.sample(known, min(300, len(known)))], [])
        kernel.take_changes(COPY_NEVER)
        model.check()
    kernel.close()


@pytest.mark.parametrize("late", [False, True])
def test_tables_grow_and_shrink_and_grow_again(late: bool) -> None:
    """Rows, their order and the root are a dict's, through splits and joins of the trees."""
    _grow_and_shrink(1_500, 4, seed=1, late=late)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_hundred_thousand_rows_grow_and_shrink(seed: int) -> None:
    """As above with 100,000 rows."""
    _grow_and_shrink(100_000, 6, seed, late=seed == 2)


def _mixed(batches: int) -> tuple[int, int]:
    """Small batches with all kinds of writes; kernel memory after a tenth of them, and at the end."""
    chance = random.Random(3)
    kernel = NativeKernel(raw.checked(ROOMY), wat.context_of(raw.checked(ROOMY)))
    model = Model(kernel)
    early = 0
    for batch in range(batches):
        numbers = chance.sample(range(400), 20)
        model.apply([(number, batch) for number in numbers[:14]], numbers[14:])
        if batch % 7 == 0:
            kernel.take_changes(chance.choice([1, COPY_NEVER]))
        if batch % 50 == 0:
            model.check()
        if batch == batches // 10:
            early = len(kernel._assembly.view())
    kernel.take_changes(1)
    model.check()
    size = len(kernel._assembly.view())
    kernel.close()
    return early, size


def test_hundreds_of_batches_take_no_more_memory() -> None:
    """More reducers than one Store holds: the kernel moves to another one, and nothing of it is lost."""
    early, late = _mixed(300)
    assert late <= early + 4 * 65_536


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_ten_thousand_batches_take_no_more_memory() -> None:
    """As above for longer."""
    early, late = _mixed(10_000)
    assert late <= early + 4 * 65_536


def test_indexes_stay_in_order_over_commits() -> None:
    kernel = NativeKernel(raw.checked(ROOMY), wat.context_of(raw.checked(ROOMY)))
    model = Model(kernel)
    chance = random.Random(5)
    for batch in range(12):
        numbers = chance.sample(range(300), 120)
        model.apply([(number, batch) for number in numbers[:90]], numbers[90:])
        kernel.take_changes(1)
        model.check_indexes()
    kernel.close()


@pytest.mark.parametrize("track", [False, True])
def test_runs_of_neighbours_that_come_and_go_stay_in_order(track: bool) -> None:
    """The leaf that took the last row is tried first for the next one, also after rows around it went."""
    kernel = NativeKernel(raw.checked(ROOMY), wat.context_of(raw.checked(ROOMY)), track=track)
    kernel.run(0, [wat.open_entry()], budget=Budget.ORDER)
    kernel.commit(0)
    chance = random.Random(11)
    rows: dict[int, bytes] = {}
    for sequence in range(1, 241):
        near = chance.randrange(300)
        run = range(near, near + chance.randrange(60))
        if chance.random() < 0.5:
            made = {number: join([number.to_bytes(2, "big"), b"x" * chance.randrange(3)]) for number in run}
            script = [raw.raw(PUT, raw.SMALL, raw.DATA, len(row), data=row, say=False) for row in made.values()]
            rows |= made
        else:
            keys = [join([number.to_bytes(2, "big")]) for number in run]
            script = [raw.raw(DELETE, raw.SMALL, raw.DATA, len(key), data=key, say=False) for key in keys]
            for number in run:
                rows.pop(number, None)
        assert kernel.run(sequence, [wat.message(*script)], budget=Budget.DERIVE).refusals == ()
        kernel.commit(0)
        assert list(kernel.rows("small")) == [rows[number] for number in sorted(rows)]
    kernel.close()


# -- snapshots --------------------------------------------------------------------------------------------------------


def _export() -> bytes:
    pair = Pair(raw.checked())
    rows = [raw.put(raw.UNIQUE, row_of(number, 1)) for number in range(5)]
    pair.run([wat.message(raw.put(raw.SMALL, join([b"\0\1", b"x"])), *rows, raw.emit(b"t", b"x"))])
    pair.commit()
    found = pair.native.export_state()
    pair.close()
    return found


EXPORT = _export()
ANY = st.one_of(
    st.binary(max_size=40),
    st.integers(-(2**63), 2**64 - 1),
    st.none(),
    st.lists(st.binary(max_size=40), max_size=4),
    st.text(max_size=3),
)


def _change(data: bytes, place: int, value: object, how: str) -> bytes:
    if how == "cut":
        return data[: place % len(data)]
    if how == "byte":
        at = place % len(data)
        return data[:at] + bytes([data[at] ^ 1 << place % 8]) + data[at + 1 :]
    decoded = msgspec.msgpack.decode(data)
    if how == "field":
        decoded[place % len(decoded)] = value
    elif how == "row":
        decoded[5][place % 4].append(value)
    else:
        decoded[5][3 if how == "twice" else 0] += decoded[5][3]
    return msgspec.msgpack.encode(decoded)


@given(st.integers(0, 2**20), ANY, st.sampled_from(["cut", "byte", "byte", "field", "row", "twice", "foreign"]))
@settings(max_examples=30)
def test_a_snapshot_with_anything_in_it_is_refused_by_both(place: int, value: object, how: str) -> None:
    """Or taken by both as the same state; afterwards the kernel works."""
    data = _change(EXPORT, place, value, how)
    pair = Pair(raw.checked())
    ends = []
    for kernel in (pair.native, pair.reference):
        try:
            kernel.import_state(data)
            ends.append("")
        except ValueError as error:
            ends.append(str(error))
    assert ends[0] == ends[1]
    if not ends[0] or "does not hold together" not in ends[0]:
        pair.compare()
    pair.native.import_state(EXPORT)
    pair.reference.import_state(EXPORT)
    pair.compare()
    pair.close()


def test_a_fault_names_what_cannot_go_on() -> None:
    kernel = NativeKernel(raw.checked(), wat.context_of(raw.checked()))
    with pytest.raises(KernelFault, match="commit without a batch"):
        kernel.commit(0)
    kernel.close()


def test_used_reducers_count_as_large_as_they_have_become() -> None:
    """A Store gives nothing back of them: every other one being small does not let more large ones stay."""
    kernel = NativeKernel(raw.checked(ROOMY), wat.context_of(raw.checked(ROOMY)))
    kernel.run(0, [wat.open_entry()], budget=Budget.ORDER)
    kernel.commit(0)
    pages, most = 128, 0
    for sequence in range(1, 41):
        grow = raw.raw(raw.GROW, pages if sequence % 2 else 0, say=False)
        assert kernel.run(sequence, [wat.message(grow)], budget=Budget.ORDER).accepted == (0,)
        kernel.commit(0)
        if sequence == 2:
            assert kernel.memory_bytes() > pages * 65_536
        most = max(most, kernel.memory_bytes())
    assert most < 10 * pages * 65_536
    kernel.close()
