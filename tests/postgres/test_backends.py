"""The suite every backend passes: settings, schemas, the exactly-once write path, every value of every type.

What a backend lacks is a capability it declares; the tests that skip for it are counted at the end.
"""

from __future__ import annotations

import inspect
import math
import struct
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
import pytest

from scapp.channels.types import ZERO_HASH
from scapp.reducers.manifest import Table
from scapp.runtime.changes import COPY_NEVER, EVENTS, MESSAGES, AppEvent, BatchChanges, TableChange
from scapp.runtime.database.connecting import check_server, probe_capabilities
from scapp.runtime.database.port import READER, Backend, Capability, DatabaseError
from scapp.runtime.database.write import Commit, Cursor, read_cursor, write
from scapp.runtime.net_changes import event_row, message_row, table_change
from scapp.runtime.row_types import TIMESTAMP_END, TIMESTAMP_MIN
from scapp.runtime.rows import encode_key, encode_row, join
from scapp.runtime.schema import AppSchema, ensure_deployment, prepare_database, register_channel
from scapp.runtime.stored import read_events, read_rows
from scapp.runtime.verify import verify_channel
from scapp.runtime.worker_status import State
from tests.support.postgres import (
    ACCOUNT,
    DEPLOYMENT,
    EVERYTHING,
    KEYWORDS,
    NODE,
    OTHER_NODE,
    SHOP,
    TAGS,
    Emit,
    SignedLog,
    account,
    channel,
    delete,
    put,
    rows_of,
    worker_for,
)

CHANNEL = channel()
START = Cursor(0, -1, ZERO_HASH, ZERO_HASH, (10, 2**256 - 11), 0, False, 0)
F = TypeVar("F", bound=Callable[..., Any])


def needs(capability: Capability) -> Callable[[F], F]:
    """Skip the test on backends that do not declare the capability."""

    def mark(function: F) -> F:
        function.needs = capability  # type: ignore[attr-defined]
        return function

    return mark


def ready(backend: Backend) -> AppSchema:
    """The schemas, and CHANNEL with its cursor at the start."""
    prepare_database(backend, NODE)
    schema = ensure_deployment(backend, DEPLOYMENT, SHOP)
    with backend.connect() as connection:
        register_channel(connection, CHANNEL)
    return schema


def commit_of(
    schema: AppSchema, *tables: TableChange, expected: Cursor = START, events: int = 0, copied: bool = False
) -> Commit:
    """A write that moves the cursor by one entry and changes these tables; messages and events as COPY streams, or
    in arrays."""
    sequence = expected.sequence + 1
    new = Cursor(sequence, sequence, bytes([sequence]) * 32, bytes([sequence]) * 32, (2**256 - 1, 0), 5, False, 7)
    emitted = [event_row(AppEvent(expected.sequence, index, "topic \u2713", bytes(index))) for index in range(events)]
    entry = message_row(expected.sequence, new.turn, struct.pack(">BBQQ", 1, 0, 2**64 - 1, 5) + b"payload")
    changes = BatchChanges(
        tables, inserts(MESSAGES, entry, copied=copied), inserts(EVENTS, *emitted, copied=copied) if events else None
    )
    return Commit(CHANNEL.channel_id, schema.name, schema.manifest, expected, new, changes)


def inserts(table: Table, *rows: bytes, copied: bool) -> TableChange:
    rows_min = 1 if copied else COPY_NEVER
    return table_change(CHANNEL.channel_id, table, rows, copy_rows_min=rows_min, insert_only=True)


def change(name: str, upserts: Sequence[bytes] = (), deletes: Sequence[bytes] = ()) -> TableChange:
    return table_change(CHANNEL.channel_id, table_of(name), upserts, deletes, copy_rows_min=COPY_NEVER)


def upserts(name: str, *rows: bytes) -> TableChange:
    return change(name, rows)


def table_of(name: str) -> Table:
    return next(table for table in SHOP.tables if table.name == name)


def stored(backend: Backend, schema: AppSchema, table: str) -> list[bytes]:
    with backend.connect() as connection:
        return list(read_rows(connection, schema.name, table_of(table), CHANNEL.channel_id))


# -- what a backend says of itself ------------------------------------------------------------------------------------


def test_the_declared_capabilities_are_the_true_ones(backend: Backend) -> None:
    """COPY_IN is not tried where it is not declared: PGlite does not survive the attempt."""
    asked = set(Capability) - {Capability.COPY_IN}
    assert probe_capabilities(backend.dsn) & asked == backend.capabilities & asked


def test_a_connection_is_utf8_in_autocommit_with_our_durability(backend: Backend) -> None:
    with backend.connect() as connection:
        check_server(connection)
        assert connection.autocommit
        ((synchronous,),) = rows_of(connection, "SHOW synchronous_commit")
        assert synchronous == "off" or backend.name != "embedded"


def test_another_node_is_refused(backend: Backend) -> None:
    """The message names both nodes; the right one may come again."""
    prepare_database(backend, NODE)
    prepare_database(backend, NODE)
    with pytest.raises(DatabaseError, match=f"belongs to node 0x{NODE.hex()}, and this is 0x{OTHER_NODE.hex()}"):
        prepare_database(backend, OTHER_NODE)


def test_a_newer_schema_is_refused(backend: Backend) -> None:
    prepare_database(backend, NODE)
    with backend.connect() as connection:
        connection.execute("INSERT INTO scapp.schema_version (version) VALUES (999)")
    with pytest.raises(DatabaseError, match="version 999, this scapp knows up to"):
        prepare_database(backend, NODE)


# -- the write path ---------------------------------------------------------------------------------------------------


def test_a_batch_moves_cursor_rows_messages_and_events_together(backend: Backend) -> None:
    schema = ready(backend)
    row = encode_row(ACCOUNT, [NODE, 2**256 - 1, "\u00fc\U0001f600"])
    commit = commit_of(schema, upserts("account", row), events=2)
    with backend.connect() as connection:
        assert write(connection, commit, notify=False)
        assert read_cursor(connection, CHANNEL.channel_id) == commit.new
        assert list(read_events(connection, CHANNEL.channel_id)) == list(commit.changes.app_events())
        message = rows_of(
            connection, "SELECT sequence, turn, kind, author, counter::text, time_ms, payload FROM scapp.messages"
        )
        assert message == [(0, 1, 1, 0, str(2**64 - 1), 5, b"payload")]
    assert stored(backend, schema, "account") == [row]


def test_a_repeated_batch_changes_nothing(backend: Backend) -> None:
    schema = ready(backend)
    commit = commit_of(schema, upserts("account", encode_row(ACCOUNT, [NODE, 1, None])), events=1)
    with backend.connect() as connection:
        assert write(connection, commit, notify=False)
        connection.execute("UPDATE shop.account SET balance = 7")
        assert not write(connection, commit, notify=False)
        assert rows_of(connection, "SELECT balance::text FROM shop.account") == [("7",)]
        assert rows_of(connection, "SELECT count(*) FROM scapp.messages") == [(1,)]


@pytest.mark.parametrize("field", ["sequence", "log_root", "turn"])
def test_a_stale_cursor_changes_nothing(backend: Backend, field: str) -> None:
    schema = ready(backend)
    wrong = {"sequence": 5, "log_root": b"\1" * 32, "turn": 3}
    values = {name: getattr(START, name) for name in START.__struct_fields__} | {field: wrong[field]}
    commit = commit_of(
        schema, upserts("account", encode_row(ACCOUNT, [NODE, 1, None])), expected=Cursor(**values), events=1
    )
    with backend.connect() as connection:
        assert not write(connection, commit, notify=False)
        assert read_cursor(connection, CHANNEL.channel_id) == START
        assert rows_of(connection, "SELECT count(*) FROM scapp.messages") == [(0,)]
    assert stored(backend, schema, "account") == []


def test_upserts_replace_and_deletes_remove(backend: Backend) -> None:
    schema = ready(backend)
    owners = [bytes([number]) * 20 for number in range(4)]
    first = commit_of(schema, upserts("account", *(encode_row(ACCOUNT, [owner, 1, "old"]) for owner in owners)))
    kept = encode_row(ACCOUNT, [owners[0], 1, "old"])
    changed = [encode_row(ACCOUNT, [owners[1], 9, None]), encode_row(ACCOUNT, [b"\xff" * 20, 3, "new"])]
    gone = tuple(encode_key(ACCOUNT, [owner]) for owner in owners[2:])
    second = commit_of(schema, change("account", changed, gone), expected=first.new)
    with backend.connect() as connection:
        assert write(connection, first, notify=False)
        assert write(connection, second, notify=False)
    assert stored(backend, schema, "account") == [kept, *changed]


def test_a_batch_of_a_thousand_rows_is_one_statement(backend: Backend) -> None:
    schema = ready(backend)
    rows = [encode_row(ACCOUNT, [number.to_bytes(20, "big"), number, f"note {number}"]) for number in range(1000)]
    with backend.connect() as connection:
        assert write(connection, commit_of(schema, upserts("account", *rows)), notify=False)
    assert stored(backend, schema, "account") == rows


def test_names_that_are_sql_keywords(backend: Backend) -> None:
    schema = ready(backend)
    rows = [encode_row(KEYWORDS, ["table", number, True]) for number in (-5, 3)]
    first = commit_of(schema, upserts("select", *rows), upserts("tag", encode_row(TAGS, ["from", 1])))
    second = commit_of(
        schema,
        change("select", [encode_row(KEYWORDS, ["table", 3, False])], [encode_key(KEYWORDS, ["table", -5])]),
        upserts("tag", encode_row(TAGS, ["from", 1])),
        expected=first.new,
    )
    with backend.connect() as connection:
        assert write(connection, first, notify=False)
        assert write(connection, second, notify=False)
        assert rows_of(connection, 'SELECT "user", "order", "group" FROM shop."select"') == [("table", 3, False)]


def test_rows_swapping_a_unique_value_are_no_error(backend: Backend) -> None:
    """Uniqueness is the kernel's; a batch's net change may pass through states that break it."""
    schema = ready(backend)
    alice, bob = b"\1" * 20, b"\2" * 20
    first = commit_of(
        schema, upserts("account", encode_row(ACCOUNT, [alice, 1, None]), encode_row(ACCOUNT, [bob, 2, None]))
    )
    swapped = [encode_row(ACCOUNT, [alice, 2, None]), encode_row(ACCOUNT, [bob, 1, None])]
    second = commit_of(schema, upserts("account", *swapped), expected=first.new)
    with backend.connect() as connection:
        assert write(connection, first, notify=False)
        assert write(connection, second, notify=False)
    assert stored(backend, schema, "account") == swapped


# -- every value, byte for byte ---------------------------------------------------------------------------------------

_BOUNDARIES: dict[str, list[Any]] = {
    "a_bool": [True, False],
    "an_int2": [-(2**15), -1, 0, 2**15 - 1],
    "an_int4": [-(2**31), -1, 0, 2**31 - 1],
    "an_int8": [-(2**63), -1, 0, 2**63 - 1],
    "a_numeric": [0, 1, 9_999, 10_000, 10**76, 2**64, 2**128 - 1, 2**256 - 1],
    "a_float8": [0.0, -0.0, math.inf, -math.inf, math.nan, sys.float_info.min, sys.float_info.max, 5e-324, 0.1],
    "a_text": ["", " ", "\t\n\r\\", "'\"$1%s", "\u00e4\u0301\u4e2d\U0001f600\U0010ffff", "\x01\x7f", "x" * 10_000],
    "a_bytea": [b"", b"\0", b"\\x00", bytes(range(256)), b"\xff" * 10_000],
    "a_bytes32": [bytes(32), b"\xff" * 32],
    "an_address": [bytes(20), b"\xff" * 20],
    "a_uuid": [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)],
    "a_json": [
        "{}",
        "null",
        '"\\u0001 \\ud83d\\ude00"',
        ' { "b" : 1.0, "a":[ ] , "b":2} ',
        "[1e400,-0]",
        "[" * 60 + "]" * 60,
    ],
}


def boundary_rows() -> list[bytes]:
    """One row per boundary value, the others NULL; and one row of NULLs."""
    names = [column.name for column in EVERYTHING.columns]
    rows, number = [encode_row(EVERYTHING, {"id": -(2**63)})], 0
    for column, values in _BOUNDARIES.items():
        for value in values:
            rows.append(encode_row(EVERYTHING, {"id": number, column: value}))
            number += 1
    for instant in (TIMESTAMP_MIN, -1, 0, TIMESTAMP_END - 1):
        fields: list[bytes | None] = [None] * len(names)
        fields[0], fields[names.index("a_time")] = struct.pack(">q", number), struct.pack(">q", instant)
        rows.append(join(fields))
        number += 1
    return rows


def test_every_boundary_value_comes_back_byte_for_byte(backend: Backend) -> None:
    schema, rows = ready(backend), boundary_rows()
    with backend.connect() as connection:
        assert write(connection, commit_of(schema, upserts("everything", *rows)), notify=False)
    assert stored(backend, schema, "everything") == rows


@needs(Capability.COPY_IN)
def test_every_boundary_value_comes_back_byte_for_byte_through_copy(backend: Backend) -> None:
    schema, rows = ready(backend), boundary_rows()
    commit = commit_of(schema, inserts(EVERYTHING, *rows, copied=True), events=3, copied=True)
    with backend.connect() as connection:
        assert write(connection, commit, notify=True)
        assert not write(connection, commit, notify=True)
        assert read_cursor(connection, CHANNEL.channel_id) == commit.new
        assert list(read_events(connection, CHANNEL.channel_id)) == list(commit.changes.app_events())
    assert stored(backend, schema, "everything") == rows


def test_text_is_sorted_by_its_bytes(backend: Backend) -> None:
    schema = ready(backend)
    names = ["Z", "a", "B", "", "\u00e4", "aa", "\U0001f600", "\uffff"]
    rows = [encode_row(TAGS, [name, 0]) for name in names]
    with backend.connect() as connection:
        assert write(connection, commit_of(schema, upserts("tag", *rows)), notify=False)
        found = [name for (name,) in rows_of(connection, "SELECT name FROM shop.tag ORDER BY name")]
    assert found == sorted(names, key=str.encode)


# -- what only some can do --------------------------------------------------------------------------------------------


@needs(Capability.CONCURRENT_SESSIONS)
def test_of_two_writers_at_once_one_wins_whole(backend: Backend) -> None:
    schema = ready(backend)
    contenders = [
        commit_of(schema, upserts("account", encode_row(ACCOUNT, [bytes([n]) * 20, n, None]))) for n in (1, 2)
    ]
    barrier, results = threading.Barrier(2), {}

    def contend(number: int) -> None:
        with backend.connect() as connection:
            barrier.wait()
            results[number] = write(connection, contenders[number], notify=False)

    threads = [threading.Thread(target=contend, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner = 0 if results[0] else 1
    assert sorted(results.values()) == [False, True]
    assert stored(backend, schema, "account") == list(contenders[winner].changes.tables[0].rows())


@needs(Capability.CONCURRENT_SESSIONS)
def test_a_writer_that_waited_for_another_finds_its_cursor_stale(backend: Backend) -> None:
    schema = ready(backend)
    mine = commit_of(schema, upserts("account", encode_row(ACCOUNT, [b"\1" * 20, 1, None])))
    with backend.connect() as first, backend.connect() as second:
        with first.transaction():
            assert write(first, mine, notify=False)
            result: list[bool] = []
            late = threading.Thread(target=lambda: result.append(write(second, mine, notify=False)))
            late.start()
            with backend.connect() as observer:  # until the second waits for the first's row lock
                while not rows_of(observer, "SELECT FROM pg_locks WHERE NOT granted"):
                    pass
        late.join()
    assert result == [False]
    assert len(stored(backend, schema, "account")) == 1


@needs(Capability.NOTIFY_ACROSS)
def test_a_commit_is_announced_with_its_cursor(backend: Backend) -> None:
    schema = ready(backend)
    with backend.connect() as listener, backend.connect() as connection:
        listener.execute("LISTEN scapp_cursor")
        commit = commit_of(schema)
        assert write(connection, commit, notify=True)
        assert not write(connection, commit, notify=True)
        heard = [note.payload for note in listener.notifies(timeout=5, stop_after=1)]
    assert heard == [f"{CHANNEL.channel_id.hex()} 1"]


@needs(Capability.ROLES)
@pytest.mark.parametrize(
    "attempt",
    [
        "UPDATE shop.account SET balance = 0",
        "DELETE FROM scapp.messages",
        "INSERT INTO scapp.node (address) VALUES (decode(repeat('00', 20), 'hex'))",
        "CREATE TABLE public.mine (a int)",
        "CREATE SCHEMA mine",
        "DROP TABLE shop.account",
        "TRUNCATE scapp.events",
        "ALTER TABLE shop.account ADD COLUMN a int",
    ],
)
def test_the_reader_cannot_write(backend: Backend, attempt: str) -> None:
    """Not even after it has made its session writable again."""
    ready(backend)
    with backend.connect_reader() as connection:
        assert rows_of(connection, "SELECT count(*) FROM shop.account") == [(0,)]
        assert rows_of(connection, "SELECT current_user") == [(READER,)]
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
            connection.execute(attempt.encode())


@needs(Capability.TIMEOUTS)
def test_a_statement_can_be_ended_in_time(backend: Backend) -> None:
    with backend.connect() as connection:
        connection.execute("SET statement_timeout = 50")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(60)")


def test_a_signed_log_becomes_rows_that_verify(backend: Backend) -> None:
    """The whole way on every backend: worker, tables, and the comparison with what was signed."""
    log = SignedLog(CHANNEL)
    log.append(CHANNEL, [account(1, 5), put(TAGS, "x", 1), Emit("paid", b"\x00")], [account(1, 6, "later")])
    log.append(CHANNEL, [delete(TAGS, "x", 1), account(2, 7)])
    worker = worker_for(log, backend)
    worker.run_once()
    worker.stop()
    assert worker.status()[CHANNEL.channel_id].state is State.FOLLOWING
    report = verify_channel(backend, AppSchema("shop", SHOP), CHANNEL, log)
    assert report.problems == ()
    assert (report.ok, report.sequence, report.rows) == (True, 4, 2)
    assert stored(backend, AppSchema("shop", SHOP), "account") == [account(1, 6, "later").row, account(2, 7).row]


_SKIPPED_ON_PGLITE = {
    "test_every_boundary_value_comes_back_byte_for_byte_through_copy": "copy-in",
    "test_of_two_writers_at_once_one_wins_whole": "concurrent-sessions",
    "test_a_writer_that_waited_for_another_finds_its_cursor_stale": "concurrent-sessions",
    "test_a_commit_is_announced_with_its_cursor": "notify-across",
    "test_the_reader_cannot_write": "roles",
    "test_a_statement_can_be_ended_in_time": "timeouts",
}


@pytest.mark.parametrize(("name", "skipped"), [("embedded", {}), ("server", {}), ("pglite", _SKIPPED_ON_PGLITE)])
def test_each_backend_skips_exactly_these_tests(
    name: str, skipped: dict[str, str], request: pytest.FixtureRequest
) -> None:
    backend: Backend = request.getfixturevalue(f"{name}_backend")
    tests = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    marked = {test: function.needs.value for test, function in tests if hasattr(function, "needs")}
    assert {test: need for test, need in marked.items() if need not in backend.capabilities} == skipped
