"""Rows of which a commit replaces many at once: a join with the table, and room for it in the table's pages."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec
import pytest

from scapp.channels.types import ZERO_HASH
from scapp.reducers.manifest import Table
from scapp.runtime import follow
from scapp.runtime.changes import COPY_NEVER, BatchChanges, TableChange
from scapp.runtime.database import replacing
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.port import Backend, Capability
from scapp.runtime.database.replacing import ROWS_MIN, SHARE_MIN, replaces_many
from scapp.runtime.database.write import Commit, Cursor, write
from scapp.runtime.net_changes import table_change
from scapp.runtime.rows import encode_key, encode_row
from scapp.runtime.schema import AppSchema, ensure_deployment, prepare_database, register_channel
from scapp.runtime.stored import read_rows
from scapp.runtime.verify import verify_channel
from tests.postgres.test_backends import boundary_rows, needs
from tests.support.postgres import (
    ACCOUNT,
    DEPLOYMENT,
    EVERYTHING,
    NODE,
    SHOP,
    TAGS,
    Operation,
    ScriptedKernel,
    SignedLog,
    account,
    channel,
    delete,
    rows_of,
    worker_for,
)

ONE, TWO = channel(1), channel(2)
START = Cursor(0, -1, ZERO_HASH, ZERO_HASH, (10, 2**256 - 11), 0, False, 0)
COUNT = ROWS_MIN + 50


def accounts(balance: int, numbers: Sequence[int] = range(COUNT)) -> list[bytes]:
    return [encode_row(ACCOUNT, [number.to_bytes(20, "big"), balance + number, None]) for number in numbers]


def ready(backend: Backend) -> AppSchema:
    prepare_database(backend, NODE)
    schema = ensure_deployment(backend, DEPLOYMENT, SHOP)
    with backend.connect() as connection:
        for context in (ONE, TWO):
            register_channel(connection, context)
    return schema


def changed(table: Table, rows: Sequence[bytes], deletes: Sequence[bytes] = (), *, among: int = 0) -> TableChange:
    return table_change(ONE.channel_id, table, rows, deletes, copy_rows_min=COPY_NEVER, replaced_among=among)


def commit(
    schema: AppSchema, change: TableChange, expected: Cursor = START, *, channel_id: bytes = ONE.channel_id
) -> Commit:
    """One step on from `expected`."""
    turn = expected.turn + 1
    new = msgspec.structs.replace(expected, turn=turn, sequence=expected.sequence + 1, log_root=bytes([turn + 1]) * 32)
    return Commit(channel_id, schema.name, SHOP, expected, new, BatchChanges((change,)))


def stored(connection: Connection, schema: AppSchema, table: Table, channel_id: bytes = ONE.channel_id) -> list[bytes]:
    return list(read_rows(connection, schema.name, table, channel_id))


def options(connection: Connection) -> object:
    ((found,),) = rows_of(connection, "SELECT reloptions FROM pg_class WHERE oid = 'shop.account'::regclass")
    return found


def test_a_join_takes_a_good_part_of_rows_that_were_mostly_there() -> None:
    many = changed(ACCOUNT, accounts(0), among=SHARE_MIN * COUNT)
    assert replaces_many(ACCOUNT, many)
    assert not replaces_many(ACCOUNT, changed(ACCOUNT, accounts(0)))
    assert not replaces_many(ACCOUNT, changed(ACCOUNT, accounts(0), among=SHARE_MIN * COUNT + 1))
    assert not replaces_many(ACCOUNT, changed(ACCOUNT, accounts(0, range(ROWS_MIN - 1)), among=COUNT))
    assert not replaces_many(TAGS, msgspec.structs.replace(many, table="tag"))


def test_rows_are_replaced_and_deleted_in_one_commit_and_no_others(backend: Backend) -> None:
    schema = ready(backend)
    first = commit(schema, changed(ACCOUNT, accounts(0)))
    gone, left = range(10), range(10, COUNT - 10)
    second = commit(
        schema,
        changed(
            ACCOUNT, accounts(7, left), [encode_key(ACCOUNT, [n.to_bytes(20, "big")]) for n in gone], among=COUNT - 10
        ),
        first.new,
    )
    with backend.connect() as connection:
        assert write(connection, first, notify=False)
        assert write(connection, commit(schema, changed(ACCOUNT, accounts(1)), channel_id=TWO.channel_id), notify=False)
        assert write(connection, second, notify=True)
        assert stored(connection, schema, ACCOUNT) == accounts(7, left) + accounts(0, range(COUNT - 10, COUNT))
        assert stored(connection, schema, ACCOUNT, TWO.channel_id) == accounts(1)
        assert rows_of(connection, "SHOW enable_nestloop") == [("on",)]


def test_every_value_can_be_replaced(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacing, "ROWS_MIN", 1)
    schema, rows = ready(backend), boundary_rows()
    ids = [row[6:14] for row in rows]  # behind the column count and the length
    shifted = [row[:6] + id_ + row[14:] for id_, row in zip(ids[1:] + ids[:1], rows, strict=True)]
    shifted.sort(key=lambda row: int.from_bytes(row[6:14], "big", signed=True))
    first = commit(schema, changed(EVERYTHING, rows))
    with backend.connect() as connection:
        assert write(connection, first, notify=False)
        assert write(connection, commit(schema, changed(EVERYTHING, shifted, among=len(rows)), first.new), notify=False)
        assert stored(connection, schema, EVERYTHING) == shifted


def test_a_stale_cursor_changes_nothing(backend: Backend) -> None:
    schema = ready(backend)
    first = commit(schema, changed(ACCOUNT, accounts(0)))
    with backend.connect() as connection:
        assert write(connection, first, notify=False)
        assert not write(connection, commit(schema, changed(ACCOUNT, accounts(9), among=COUNT)), notify=False)
        assert stored(connection, schema, ACCOUNT) == accounts(0)
        assert options(connection) is None


def test_rows_that_are_new_come_with_those_that_are_replaced(backend: Backend) -> None:
    schema = ready(backend)
    first = commit(schema, changed(ACCOUNT, accounts(0)))
    second = commit(schema, changed(ACCOUNT, accounts(5, range(20, COUNT + 20)), among=COUNT + 20), first.new)
    with backend.connect() as connection:
        assert write(connection, first, notify=False)
        assert write(connection, commit(schema, changed(ACCOUNT, accounts(1)), channel_id=TWO.channel_id), notify=False)
        assert write(connection, second, notify=False)
        assert stored(connection, schema, ACCOUNT) == accounts(0, range(20)) + accounts(5, range(20, COUNT + 20))
        assert stored(connection, schema, ACCOUNT, TWO.channel_id) == accounts(1)


def test_a_row_that_somebody_took_away_is_there_again(backend: Backend) -> None:
    schema = ready(backend)
    first = commit(schema, changed(ACCOUNT, accounts(0)))
    with backend.connect() as connection:
        assert write(connection, first, notify=False)
        connection.execute("DELETE FROM shop.account WHERE balance < 3")
        assert write(connection, commit(schema, changed(ACCOUNT, accounts(9), among=COUNT), first.new), notify=False)
        assert stored(connection, schema, ACCOUNT) == accounts(9)


@needs(Capability.CONCURRENT_SESSIONS)
def test_a_row_that_somebody_puts_there_meanwhile_is_replaced(backend: Backend) -> None:
    """`MERGE` alone would fail on it, and the channel be given up as one that the database refuses."""
    schema = ready(backend)
    first = commit(schema, changed(ACCOUNT, accounts(0)))
    second = commit(schema, changed(ACCOUNT, accounts(5, range(1, COUNT + 1)), among=COUNT + 1), first.new)
    with backend.connect() as connection, backend.connect() as other, backend.connect() as observer:
        assert write(connection, first, notify=False)
        result: list[bool] = []
        writer = threading.Thread(target=lambda: result.append(write(connection, second, notify=False)))
        with other.transaction():
            owner = COUNT.to_bytes(20, "big")
            values = [bytes(ONE.channel_id), owner]
            other.execute("INSERT INTO shop.account (channel_id, owner, balance) VALUES (%s, %s, 1)", values)
            writer.start()
            while not rows_of(observer, "SELECT FROM pg_locks WHERE NOT granted"):
                pass
        writer.join()
        assert result == [True]
        assert stored(connection, schema, ACCOUNT) == accounts(0, range(1)) + accounts(5, range(1, COUNT + 1))


def test_a_table_gets_room_for_it_unless_somebody_set_how_it_is_stored(backend: Backend) -> None:
    schema = ready(backend)
    first = commit(schema, changed(ACCOUNT, accounts(0)))
    second = commit(schema, changed(ACCOUNT, accounts(1), among=COUNT), first.new)
    third = commit(schema, changed(ACCOUNT, accounts(2), among=COUNT), second.new)
    with backend.connect() as connection:
        assert write(connection, first, notify=False)
        assert options(connection) is None
        assert write(connection, second, notify=False)
        assert options(connection) == ["fillfactor=50"]
        connection.execute("ALTER TABLE shop.account SET (fillfactor = 80)")
        assert write(connection, third, notify=False)
        assert options(connection) == ["fillfactor=80"]
        assert stored(connection, schema, ACCOUNT) == accounts(2)


@pytest.mark.parametrize("early", [False, True])
def test_a_worker_replaces_what_its_kernel_says_was_there(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    """Rows that are replaced, that come, go and come again, with new ones among them."""
    monkeypatch.setattr(replacing, "ROWS_MIN", 2)
    monkeypatch.setattr(follow, "EARLY_ENTRIES_MIN", 1 if early else 1_000)
    replaced: list[int] = []
    replace = replacing.replace

    def counted(connection: Connection, channel_id: bytes, target: str, table: Table, change: TableChange) -> None:
        replaced.append(change.upserts)
        replace(connection, channel_id, target, table, change)

    monkeypatch.setattr(replacing, "replace", counted)
    log = SignedLog(ONE)
    worker = worker_for(log, backend)
    steps: list[list[Operation]] = [
        [account(number, number) for number in range(20)],
        [account(number, 100 + number) for number in range(15)],
        [delete(ACCOUNT, (3).to_bytes(20, "big")), *(account(number, 200 + number) for number in range(4, 9))],
        [account(number, 300 + number) for number in range(8)],
        [account(number, 400 + number) for number in range(20)],
        [account(number, 500 + number) for number in range(17, 24)],  # most of them are new
    ]
    for operations in steps:
        log.append(ONE, operations)
        worker.run_once()
    worker.stop()
    assert replaced == [15, 5, 8, 20]  # one of the eight was deleted before
    report = verify_channel(backend, AppSchema("shop", SHOP), ONE, log, lambda: ScriptedKernel(SHOP, ONE))
    assert report.problems == ()
    assert report.sequence == log.sequence(ONE)
