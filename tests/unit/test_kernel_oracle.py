"""The native kernel against the plain-Python one: the same messages, valid and hostile, give the same everything."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scapp.channels.deployment import Limits
from scapp.channels.entries import Kind, encode_entry, extend_log_root
from scapp.reducers.manifest import Column
from scapp.runtime.changes import COPY_NEVER
from scapp.runtime.kernel import Budget, KernelFault
from scapp.runtime.native.layout import IMPORTS, TYPES
from scapp.runtime.row_types import TIMESTAMP_END, TIMESTAMP_MIN, int_to_numeric
from scapp.runtime.rows import TableCodec, join
from tests.support import raw_calls as raw
from tests.support import wat
from tests.support.kernel_pair import Pair

TABLES = raw.MANIFEST.tables
SMALL_LIMITS = Limits(
    rows_max=12,
    row_bytes_total_max=4_000,
    events_per_message_max=40,
    event_bytes_max=3_000,
    logs_per_message_max=3,
    log_bytes_max=40,
)

TEXT = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=4).map(str.encode),
    st.sampled_from([b"", b"a", b"aa", b"b", "é€😀".encode(), b"x" * 1_966, b"x" * 1_967, b"\0", b"a\0", b"\xc0\x80"]),
    st.sampled_from(
        [
            b"\xed\xa0\x80",
            b"\xed\x9f\xbf",
            b"\xf4\x90\x80\x80",
            b"\xf4\x8f\xbf\xbf",
            b"\xe0\x9f\xbf",
            b"\xf0\x8f\xbf\xbf",
        ]
    ),
    st.binary(max_size=4),
)
NUMERIC = st.one_of(
    st.integers(0, 2**256 - 1).map(int_to_numeric),
    st.sampled_from([0, 1, 9_999, 10_000, 10_001, 10**8, 2**64, 2**256 - 1]).map(int_to_numeric),
    st.builds(
        lambda weight, sign, scale, digits, cut: struct.pack(
            f">HhHH{len(digits)}H", len(digits), weight, sign, scale, *digits
        )[: cut or None],
        st.integers(-2, 21),
        st.sampled_from([0, 0, 0, 0x4000, 0xC000]),
        st.sampled_from([0, 0, 0, 1]),
        st.lists(st.sampled_from([0, 1, 9_999, 10_000, 65_535]), max_size=21),
        st.sampled_from([0, 0, 0, -1, -2]),
    ),
)
JSON = st.one_of(
    st.recursive(
        st.sampled_from(["null", "true", "0", "-1.5e+3", '"a"', '"\\u00e9"', '"\\ud83d\\ude00"', " {} ", "[]"]),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda items: f"[{' , '.join(items)}]"),
            st.lists(inner, max_size=2).map(lambda items: "{" + ",".join(f'"k" : {item}' for item in items) + "}"),
        ),
        max_leaves=5,
    ).map(str.encode),
    st.lists(
        st.sampled_from(
            [
                *'{}[],:"\\ 0123.eE+-tfn\0\t\n\x1f\x7f',
                "true",
                "null",
                "\\u0000",
                "\\ud800",
                "\\udc00",
                "\\uDBFF\\uDFFF",
                '"',
                "\\n",
            ]
        ),
        max_size=9,
    ).map(lambda parts: "".join(parts).encode()),
    st.sampled_from([b"[" * depth + b"1" + b"]" * depth for depth in (63, 64, 65)]),
    st.sampled_from([b'{"a":' * depth + b"[]" + b"}" * depth for depth in (62, 63, 64)]),
    st.binary(max_size=4),
)
FLOAT = st.one_of(
    st.floats().map(lambda value: struct.pack(">d", value)),
    st.sampled_from(
        ["7ff8000000000000", "fff8000000000000", "7ff0000000000001", "7ff0000000000000", "8" + "0" * 15]
    ).map(bytes.fromhex),
)


def _signed(width: int) -> st.SearchStrategy[bytes]:
    top = 1 << 8 * width - 1
    values = st.one_of(st.sampled_from([-top, -1, 0, 1, top - 1]), st.integers(-top, top - 1))
    return values.map(lambda value: value.to_bytes(width, "big", signed=True))


MICROS = st.one_of(
    st.sampled_from([TIMESTAMP_MIN - 1, TIMESTAMP_MIN, -1, 0, TIMESTAMP_END - 1, TIMESTAMP_END, 2**63 - 1, -(2**63)]),
    st.integers(-(2**63), 2**63 - 1),
)
VALUES: dict[str, st.SearchStrategy[bytes]] = {
    "bool": st.sampled_from([b"\0", b"\1", b"\0", b"\1", b"\2"]),
    "int2": _signed(2),
    "int4": _signed(4),
    "int8": _signed(8),
    "numeric": NUMERIC,
    "float8": FLOAT,
    "text": TEXT,
    "bytea": st.one_of(
        st.binary(max_size=4), st.sampled_from([b"\0", b"\0\0", b"\0\xff", b"\xff" * 5, b"\0" * 983, b"\0" * 984])
    ),
    "bytes32": st.sampled_from([bytes(32), b"\xff" * 32, bytes(31) + b"\1"]),
    "address": st.sampled_from([bytes(20), b"\xff" * 20]),
    "uuid": st.sampled_from([bytes(16), b"\xff" * 16]),
    "timestamptz": MICROS.map(lambda value: value.to_bytes(8, "big", signed=True)),
    "json": JSON,
}
# What tuples are made of where the test is about something else: few values, so that keys meet.
FEW: dict[str, st.SearchStrategy[bytes]] = {
    "int2": st.sampled_from([-1, 0, 1, 2]).map(lambda value: value.to_bytes(2, "big", signed=True)),
    "int4": st.sampled_from([-1, 0, 1]).map(lambda value: value.to_bytes(4, "big", signed=True)),
    "text": st.sampled_from([b"", b"a", b"aa", b"b"]),
    "numeric": st.sampled_from([0, 1, 10_000]).map(int_to_numeric),
}


def tuples(columns: tuple[Column, ...], values: dict[str, st.SearchStrategy[bytes]]) -> st.SearchStrategy[bytes]:
    def value(column: Column) -> st.SearchStrategy[bytes | None]:
        known = values[column.type]
        return st.one_of(st.none(), known, known) if column.nullable else known

    return st.tuples(*map(value, columns)).map(join)


def mangled(data: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Mostly as it is; else cut, grown, or with a byte changed."""

    def change(row: bytes, how: int, place: int, byte: int) -> bytes:
        at = place % (len(row) + 1)
        return (row, row, row, row[:at], row + bytes([byte]), row[:at] + bytes([byte]) + row[at + 1 :])[how]

    return st.builds(change, data, st.integers(0, 5), st.integers(0, 200), st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]))


def prefixes(columns: tuple[Column, ...], values: dict[str, st.SearchStrategy[bytes]]) -> st.SearchStrategy[bytes]:
    """Bounds: none, some or all of the columns."""
    choices = [tuples(columns[:count], values) for count in range(len(columns) + 1)]
    return st.one_of(st.just(b""), *choices)


def too_long(columns: tuple[Column, ...], values: dict[str, st.SearchStrategy[bytes]]) -> st.SearchStrategy[bytes]:
    """Bounds with a column too many."""
    return tuples((*columns, columns[0]), values)


def scanned(number: int) -> tuple[Column, ...]:
    """Columns that a scan's bounds name."""
    if number < len(TABLES):
        return TABLES[number].key_columns
    table, index = [(table, index) for table in TABLES for index in table.indexes][number - len(TABLES)]
    return tuple(next(column for column in table.columns if column.name == name) for name in index.columns)


INDEXES_OF_UNIQUE = range(raw.NUMBERS - 3, raw.NUMBERS)
FEW_TABLES = (raw.SMALL, raw.UNIQUE)
WORDS = st.sampled_from([0, 1, 15, 16, 32, 255, 256, 65_535, 65_536, raw.DATA, raw.MEMORY_BYTES - 1, raw.MEMORY_BYTES,
                         raw.MEMORY_BYTES + 1, 2**31 - 1, 2**31, 2**32 - 32, 2**32 - 1])  # fmt: skip


def _writes(table: int) -> st.SearchStrategy[bytes]:
    rows = tuples(TABLES[table].columns, FEW)
    keys = tuples(TABLES[table].key_columns, FEW)
    return st.one_of(
        rows.map(lambda row: raw.put(table, row)),
        rows.map(lambda row: raw.put(table, row)),
        keys.map(lambda key: raw.delete(table, key)),
        st.builds(raw.get, st.just(table), keys, st.sampled_from([raw.OUT_CAP, raw.OUT_CAP, 0, 20])),
    )


def _scans(number: int) -> st.SearchStrategy[bytes]:
    bounds = prefixes(scanned(number), FEW)
    return st.builds(raw.scan, st.just(number), bounds, bounds, st.integers(0, 3))


def _malformed(table: int) -> st.SearchStrategy[bytes]:
    rows = mangled(tuples(TABLES[table].columns, FEW))
    keys = mangled(tuples(TABLES[table].key_columns, FEW))
    return st.one_of(
        rows.map(lambda row: raw.put(table, row)),
        keys.map(lambda key: raw.get(table, key)),
        keys.map(lambda key: raw.delete(table, key)),
    )


STEPS = st.lists(
    st.builds(raw.step, st.just(0), st.sampled_from([raw.OUT_CAP, raw.OUT_CAP, raw.OUT_CAP, 10])), max_size=3
)
SCANS = st.one_of(*(_scans(number) for number in (*FEW_TABLES, *INDEXES_OF_UNIQUE)))
WRITES = st.one_of(*(_writes(table) for table in FEW_TABLES))
# Steps between other things: a cursor goes on in the table as it is then.
READS = st.builds(
    lambda scan, first, write, second: b"".join((scan, *first, write, *second)), SCANS, STEPS, WRITES, STEPS
)
EFFECTS = st.one_of(
    st.builds(raw.emit, st.sampled_from([b"t", "té".encode(), b"x" * 256]), st.binary(max_size=5)),
    st.sampled_from([(100, 0), (0, 100), (50, 50)]).map(lambda pair: raw.set_outcome(wat.amounts(*pair))),
    st.builds(raw.log, st.integers(0, 3), st.one_of(TEXT, st.binary(max_size=60))),
    st.builds(raw.digest, st.sampled_from(["keccak256", "sha256"]), st.binary(max_size=300)),
)
HOSTILE = st.one_of(
    st.builds(
        lambda name, words: raw.import_call(name, *words), st.sampled_from(IMPORTS[1:]), st.lists(WORDS, max_size=6)
    ),
    st.sampled_from([
        raw.raw(raw.TRAP),
        raw.raw(raw.RETURN, 5),
        raw.raw(raw.RETURN, -7),
        raw.raw(raw.RECURSE),
        raw.emit(b"", b""),
        raw.emit(b"y" * 257, b""),
        raw.emit(b"a\0", b""),
        raw.emit(b"\xff", b""),
        raw.emit(b"t", b"x" * 3_000),
        raw.set_outcome(wat.amounts(1, 2)),
        raw.set_outcome(wat.amounts(2**256 - 1, 2**256 - 1)),
        raw.set_outcome(b""),
        raw.log(4, b""),
        raw.scan(0, flags=4),
        raw.scan(raw.NUMBERS),
    ]),
    st.builds(raw.reject, st.one_of(TEXT, st.binary(max_size=60))),
    st.builds(raw.step, st.integers(0, 17), st.just(raw.OUT_CAP)),
    st.just(raw.scan(raw.SMALL) * 17),
    *(_malformed(table) for table in FEW_TABLES),
    *(
        st.builds(raw.scan, st.just(number), too_long(scanned(number), FEW))
        for number in INDEXES_OF_UNIQUE
    ),
)  # fmt: skip
USUAL = st.lists(st.one_of(WRITES, WRITES, READS, EFFECTS), max_size=12)
ENDED = st.builds(lambda body, end: [*body, end], USUAL, HOSTILE)
ENTRIES = st.one_of(
    *[st.builds(lambda parts: wat.message(*parts), st.one_of(USUAL, USUAL, USUAL, ENDED))] * 4,
    st.builds(lambda parts: encode_entry(Kind.TICK, 1, 0, 5, b"".join(parts)), USUAL),
    st.sampled_from(
        [b"", b"\x09" + bytes(17), encode_entry(Kind.MESSAGE, 2, 0, 0, b""), encode_entry(Kind.OPEN, 0, 0, 0, b"")]
    ),
)
BATCHES = st.lists(
    st.tuples(
        st.lists(ENTRIES, max_size=5),
        st.sampled_from(["commit", "commit", "commit", "rollback", "replace"]),
        st.sampled_from([None, None, 1, 3, COPY_NEVER]),
        st.sampled_from([False, False, False, True]),
    ),
    max_size=6,
)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    made = Pair(raw.checked())
    yield made
    made.close()


def _follow(pair: Pair, batches: list[tuple[list[bytes], str, int | None, bool]]) -> None:
    for entries, end, take, reload in batches:
        pair.run(entries)
        if end == "replace":
            continue
        getattr(pair, end)()
        pair.compare()
        if take is not None:
            pair.take(take)
        if reload:
            pair.reload()
            pair.compare()
    pair.rollback()
    pair.take(2)
    for table in FEW_TABLES:
        codec = TableCodec(TABLES[table])
        for row in pair.native.rows(TABLES[table].name):
            pair.prove(table, codec.read_row(row)[0])
    for number in range(6):
        pair.prove(raw.SMALL, bytes([0x80, number]))


@given(BATCHES)
@settings(max_examples=int(os.environ.get("SCAPP_ORACLE_EXAMPLES", "40")))
def test_both_kernels_do_the_same_whatever_the_messages_are(
    batches: list[tuple[list[bytes], str, int | None, bool]],
) -> None:
    """Decisions, reasons, rows, changes, events, logs, amounts, roots, proofs; over commits, rollbacks and reloads."""
    made = Pair(raw.checked())
    try:
        _follow(made, batches)
    finally:
        made.close()


@given(BATCHES)
@settings(max_examples=25)
def test_a_root_that_comes_after_any_number_of_commits_is_the_same(
    batches: list[tuple[list[bytes], str, int | None, bool]],
) -> None:
    """Changes may be taken between them, and messages before; a run that is refused something, or is rolled back, has
    its root at once or never."""
    made = Pair(raw.checked())
    owed = False
    try:
        for number, (entries, end, take, settle) in enumerate(batches):
            theirs = made.reference.run(made.sequence, entries, budget=Budget.DERIVE)
            if owed and theirs.refusals:
                assert made.native.late_root() == made.reference.state_root()
                owed = False
            ours = made.native.run(made.sequence, entries, budget=Budget.DERIVE, late=True)
            late = not theirs.refusals
            assert ours.state_root == (b"" if late else theirs.state_root)
            assert (ours.accepted, ours.amounts) == (theirs.accepted, theirs.amounts)
            made.accepted = len(ours.accepted)
            if end != "commit":
                made.rollback()
            else:
                made.commit()
                owed = owed or late
                if take is not None:
                    made.take(take)
            if owed and (settle or number % 3 == 2):
                assert made.native.late_root() == made.reference.state_root()
                owed = False
            if not owed:
                made.compare()
        if owed:
            assert made.native.late_root() == made.reference.state_root()
        _follow(made, batches)
    finally:
        made.close()


def _kept(number: int, text: bytes = b"x") -> bytes:
    return raw.put(raw.SMALL, join([number.to_bytes(2, "big"), text]))


def _gone(number: int) -> bytes:
    return raw.delete(raw.SMALL, join([number.to_bytes(2, "big")]))


def test_rows_that_come_and_go_before_their_root_leave_the_tree_that_they_would_have_made() -> None:
    """One that was there goes and comes back, longer; one is changed twice; one comes and goes, again and again."""
    made = Pair(raw.checked())
    made.run([wat.message(*(_kept(number) for number in range(40)))])
    made.commit()
    for steps in (
        [_gone(1), _kept(2, b"yy"), _kept(50), _gone(3)],
        [_kept(1, b"longer"), _kept(2, b"zz"), _gone(50)],
        [_gone(1), _kept(50, b"q"), _kept(4)],
        [_kept(1), _gone(50), _kept(51)],
    ):
        entries = [wat.message(*steps)]
        assert made.native.run(made.sequence, entries, budget=Budget.DERIVE, late=True).state_root == b""
        made.reference.run(made.sequence, entries, budget=Budget.DERIVE)
        made.accepted = 1
        made.commit()
        made.take(1)
    assert made.native.late_root() == made.reference.state_root()
    made.run([wat.message(*(_gone(number) for number in range(60)))])
    made.commit()
    made.compare()
    made.close()


def test_what_a_kernel_refuses_while_a_root_is_owed() -> None:
    made = Pair(raw.checked())
    native, entries = made.native, [wat.message(_kept(1))]
    with pytest.raises(KernelFault, match="no root is owed"):
        native.late_root()
    assert native.run(made.sequence, entries, budget=Budget.DERIVE, late=True).state_root == b""
    with pytest.raises(KernelFault, match="no root is owed"):
        native.late_root()
    native.commit(1)
    refused = [wat.message(raw.reject(b"no"))]
    for forbidden in (
        native.state_root,
        native.export_state,
        lambda: native.prove(raw.SMALL, b"\x80\1"),
        lambda: native.run(2, entries, budget=Budget.DERIVE),
        lambda: native.run(2, refused, budget=Budget.DERIVE, late=True),
    ):
        with pytest.raises(KernelFault, match="root comes first"):
            forbidden()
    assert native.run(2, entries, budget=Budget.DERIVE, late=True).state_root == b""
    native.rollback()
    assert native.late_root() == native.state_root()
    made.close()


def test_messages_are_the_rows_that_a_commit_hands_over() -> None:
    """Also before they are run; the commit then leaves them out."""
    made = Pair(raw.checked())
    made.take()
    entries = [
        encode_entry(Kind.MESSAGE, 1, counter, 2**63 - 1, bytes(counter % 300))
        for counter in (0, 1, 9_999, 10_000, 2**64 - 1)
    ]
    early = [kernel.messages(made.sequence, 7, entries) for kernel in (made.native, made.reference)]
    for kernel in (made.native, made.reference):
        kernel.run(made.sequence, entries, budget=Budget.DERIVE)
        kernel.commit(7)
        changes = kernel.take_changes(1).messages
        assert changes is not None
        early.append(changes.copy)
    assert len(set(early)) == 1
    made.accepted = 5
    made.sequence += 5
    for kernel in (made.native, made.reference):
        kernel.run(made.sequence, entries, budget=Budget.DERIVE)
        kernel.commit(7, messages=False)
        assert kernel.take_changes(1).messages is None
    assert made.native.messages(0, 0, [b"", b"\1"]) == b""  # no entries; running them says so
    made.close()


def test_what_is_held_for_the_next_take_grows_with_what_changed() -> None:
    made = Pair(raw.checked())
    made.take(1)
    before = made.native.held_bytes()
    made.run([wat.message(_kept(number, b"x" * 50)) for number in range(30)])
    made.commit()
    made.run([wat.message(_kept(number)) for number in range(30)])
    made.commit()
    assert before == 0
    assert made.native.held_bytes() > 30
    assert made.reference.held_bytes() > 30
    made.take(1)
    assert (made.native.held_bytes(), made.reference.held_bytes()) == (0, 0)
    made.close()


@given(BATCHES)
@settings(max_examples=15)
def test_both_kernels_stop_at_the_same_limits(batches: list[tuple[list[bytes], str, int | None, bool]]) -> None:
    """Rows and bytes of a channel, events and log lines of a message, bytes of each."""
    made = Pair(raw.checked(SMALL_LIMITS))
    try:
        _follow(made, batches)
    finally:
        made.close()


LOG_ENTRIES = st.tuples(
    st.lists(st.integers(0, 300), max_size=8),
    st.randoms(use_true_random=False),
).map(lambda drawn: tuple(drawn[1].randbytes(length) for length in drawn[0]))


@given(st.binary(min_size=32, max_size=32), LOG_ENTRIES)
@settings(max_examples=100)
def test_the_kernel_extends_a_log_root_and_then_runs_the_same_entries(
    pair: Pair, root: bytes, entries: tuple[bytes, ...]
) -> None:
    """Whether they take no block, one or several."""
    assert pair.native.log_root(root, entries) == extend_log_root(root, entries)
    if entries:
        pair.run(entries)
        pair.rollback()


@pytest.mark.parametrize("end", [raw.reject(b"no"), raw.raw(raw.TRAP), raw.raw(raw.RETURN, 1)])
def test_what_a_refused_message_took_of_the_limits_is_free_again(end: bytes) -> None:
    """In the same pass, before the clean run: rows and bytes count only for what was accepted."""
    made = Pair(raw.checked(SMALL_LIMITS))
    rows = [raw.put(raw.SMALL, join([number.to_bytes(2, "big"), b"x" * 200])) for number in range(12)]
    full = [wat.message(*rows), wat.message(raw.delete(raw.SMALL, join([b"\0\0"])), rows[0])]
    assert made.run([wat.message(*rows, end), *full]).accepted == (1, 2)
    made.close()


def test_versions_of_rows_that_go_are_the_same_whatever_comes_in_their_place() -> None:
    """A key that went before in its batch and comes and goes again; rows that take the memory of those that went."""
    made = Pair(raw.checked())
    keys = [join([number.to_bytes(2, "big")]) for number in range(100)]
    rows = [raw.put(raw.SMALL, join([number.to_bytes(2, "big"), b"note %02d" % number])) for number in range(100)]
    gone = [raw.delete(raw.SMALL, key) for key in keys]
    made.run([wat.message(*rows[:50])])
    made.commit()
    made.run([wat.message(gone[0]), wat.message(rows[0], gone[0]), wat.message(rows[0]), wat.message(gone[0])])
    made.commit()
    made.run([wat.message(*gone[1:50]), wat.message(*rows[50:])])
    made.commit()
    made.take(1)
    made.close()


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.no_cover
def test_both_kernels_take_the_same_values(pair: Pair, type_: str) -> None:
    """In a column; and where the type may be a key, in an index, whose order a scan shows."""
    place = TYPES.index(type_)

    @given(st.lists(st.one_of(VALUES[type_], VALUES[type_], mangled(VALUES[type_])), min_size=1, max_size=12))
    @settings(max_examples=30)
    def compare(values: list[bytes]) -> None:
        entries = []
        for number, value in enumerate(values):
            row = [bytes([number]), *[None] * len(TYPES)]
            row[1 + place] = value
            entries.append(wat.message(raw.put(raw.EVERY, join(row))))
        names = [index.name for index in TABLES[raw.EVERY].indexes]
        if f"every_{type_}" in names:
            scans = [raw.scan(len(TABLES) + names.index(f"every_{type_}")), *[raw.step(0)] * (len(values) + 1)]
            entries.append(wat.message(*scans))
            low, high = join([values[0]]), join([values[-1]])
            entries.append(
                wat.message(raw.scan(len(TABLES) + names.index(f"every_{type_}"), low, high, 3), raw.step(0))
            )
        pair.run(entries)
        pair.rollback()

    compare()


@given(st.lists(tuples(TABLES[raw.KEYED].columns, VALUES), min_size=1, max_size=3), st.data())
@settings(max_examples=20)
def test_keys_of_many_columns_are_the_same(pair: Pair, rows: list[bytes], data: st.DataObject) -> None:
    """Also as bounds of scans, and one column too few."""
    key = data.draw(st.sampled_from(rows))
    bound = data.draw(prefixes(TABLES[raw.KEYED].key_columns, VALUES))
    cut = data.draw(mangled(st.just(key)))
    assume(len(bound) < 20_000)
    entries = [wat.message(raw.put(raw.KEYED, row)) for row in rows]
    entries += [wat.message(raw.get(raw.KEYED, given)) for given in (key, cut)]
    entries += [wat.message(raw.scan(raw.KEYED, bound, b"", flags), *[raw.step(0)] * 4) for flags in (0, 1)]
    entries += [wat.message(raw.scan(raw.KEYED, b"", bound, flags), *[raw.step(0)] * 4) for flags in range(4)]
    pair.run(entries)
    pair.rollback()


@pytest.mark.parametrize("name", IMPORTS[1:])
def test_every_pointer_and_length_at_the_ends_of_the_address_space(pair: Pair, name: str) -> None:
    """Each pair of words at each place of the arguments."""
    edges = [0, 1, 2, 16, raw.DATA, raw.MEMORY_BYTES - 32, raw.MEMORY_BYTES, raw.MEMORY_BYTES + 1, 2**31, 2**32 - 1]
    usual = {"get": (0, raw.DATA, 8, raw.OUT, 64), "next": (0, raw.OUT, 64), "scan": (0, 0, 0, 0, 0, 0)}.get(name)
    usual = usual or {"emit": (raw.DATA, 1, raw.DATA, 1), "log": (1, raw.DATA, 1), "put": (0, raw.DATA, 8)}.get(name)
    usual = usual or {"delete": (0, raw.DATA, 8)}.get(name, (raw.DATA, 1, raw.OUT))
    start = [raw.put(0, join([b"\0\1", b"row"])), raw.scan(0)]
    entries = []
    for place in range(len(usual) - 1):
        for first in edges:
            for second in edges:
                words = [*usual[:place], first, second, *usual[place + 2 :]]
                code = IMPORTS.index(name)
                entries.append(wat.message(*start, raw.raw(code, *words, data=join([b"\0\1"])), raw.step(0)))
    for first_index in range(0, len(entries), 20):
        pair.run(entries[first_index : first_index + 20])
        pair.rollback()
