"""A replay equals what it was derived from, goes on after any interruption, and takes the live rows' place whole."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from scapp.channels.errors import LocalError
from scapp.runtime import follow
from scapp.runtime.database.embedded import EmbeddedBackend
from scapp.runtime.database.pglite import PgliteBackend
from scapp.runtime.database.write import read_cursor
from scapp.runtime.progress import Meter
from scapp.runtime.replay import DIFFERENCES_MAX, Replay, ReplayStopped, schema_name
from scapp.runtime.schema import AppSchema
from scapp.runtime.verify import verify_channel
from scapp.runtime.worker_status import State
from tests.support.postgres import (
    SHOP,
    TAGS,
    Emit,
    ScriptedKernel,
    SignedLog,
    account,
    channel,
    delete,
    put,
    reset,
    rows_of,
    worker_for,
)

ONE, TWO = channel(1), channel(2)
LIVE = AppSchema("shop", SHOP)
NAME = schema_name(ONE.channel_id)
_CHANNEL = f"decode('{ONE.channel_id.hex()}', 'hex')"


@pytest.fixture
def log(embedded: EmbeddedBackend) -> SignedLog:
    """A log of several commits that the database is derived from."""
    log = SignedLog(ONE, TWO)
    log.append(ONE, [account(1, 1, "one"), put(TAGS, "gone", 1)], [account(2, 2), Emit("paid", b"2")])
    log.append(ONE, [put(TAGS, "x", 1), delete(TAGS, "gone", 1), Emit("tagged", b"")])
    log.append(TWO, [account(1, 77)])
    derive(embedded, log)
    return log


def derive(backend: EmbeddedBackend, log: SignedLog) -> None:
    worker = worker_for(log, backend)
    worker.run_once()
    worker.stop()


def replay(backend: Any, log: SignedLog, **options: Any) -> Replay:
    return Replay(backend, LIVE, ONE, log, lambda: ScriptedKernel(SHOP, ONE), **options)


def tamper(backend: EmbeddedBackend, *statements: str) -> None:
    with backend.connect() as connection:
        for statement in statements:
            connection.execute(statement.encode())


def is_right(backend: EmbeddedBackend, log: SignedLog) -> bool:
    report = verify_channel(backend, LIVE, ONE, log, lambda: ScriptedKernel(SHOP, ONE))
    assert report.problems == ()
    return report.ok and report.sequence == log.sequence(ONE)


def schemas(backend: EmbeddedBackend) -> list[str]:
    with backend.connect() as connection:
        return [name for (name,) in rows_of(connection, "SELECT nspname FROM pg_namespace WHERE nspname ~ '_replay_'")]


def test_a_replay_equals_the_live_rows(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """Rows, messages, events and cursor; the live rows stay, and the replay stands beside them."""
    meter = Meter()
    cursor, compared = replay(embedded, log, meter=meter).run(compare=True, swap=False)
    assert (cursor.sequence, cursor.turn) == (4, 2)
    assert compared is not None
    assert (compared.count, compared.differences) == (0, ())
    assert meter.read().stage == "comparing rows"
    assert schemas(embedded) == [NAME]
    with embedded.connect() as connection:
        assert rows_of(connection, f'SELECT balance FROM "{NAME}".account ORDER BY owner') == [(1,), (2,)]
        assert rows_of(connection, f'SELECT count(*) FROM "{NAME}".scapp_messages') == [(4,)]
    replay(embedded, log).drop()
    assert schemas(embedded) == []
    assert is_right(embedded, log)


TAMPERINGS = [
    ("UPDATE shop.account SET balance = 9 WHERE balance = 1", "is changed: balance is 9, not 1"),
    ("DELETE FROM shop.account WHERE balance = 2", "is missing; the log gives"),
    (f"INSERT INTO shop.tag VALUES ({_CHANNEL}, 'y', 2)", "shop.tag (name y, number 2) is extra"),
    ("UPDATE scapp.events SET data = 'z' WHERE sequence = 2", "scapp.events (sequence 2, index 0) is changed"),
    ("UPDATE scapp.messages SET turn = 2 WHERE sequence = 1", "scapp.messages (sequence 1) is changed: turn is 2"),
    ("DELETE FROM scapp.messages WHERE sequence = 3", "scapp.messages (sequence 3) is missing"),
    ("UPDATE scapp.cursors SET state_root = decode(repeat('00', 32), 'hex')", "scapp.cursors (channel_id 0x"),
    ("UPDATE scapp.cursors SET turn = 77, sequence = 900", "turn is 77, not 2"),
    (f"DELETE FROM scapp.cursors WHERE channel_id = {_CHANNEL}", "scapp.cursors (channel_id 0x"),
]


@pytest.mark.parametrize(("tampering", "named"), TAMPERINGS)
def test_a_swap_mends_what_somebody_changed(
    embedded: EmbeddedBackend, log: SignedLog, tampering: str, named: str
) -> None:
    """The comparison names it, the swap takes it away, another channel's rows stay, and deriving goes on."""
    tamper(embedded, tampering)
    _, compared = replay(embedded, log).run(compare=True, swap=True)
    assert compared is not None
    assert compared.count
    assert any(named in str(found) for found in compared.differences), compared.differences
    assert is_right(embedded, log)
    assert schemas(embedded) == []
    with embedded.connect() as connection:
        assert rows_of(connection, "SELECT count(*) FROM shop.account WHERE balance = 77") == [(1,)]
    log.append(ONE, [account(3, 3)])
    derive(embedded, log)
    assert is_right(embedded, log)


def test_a_running_worker_goes_on_from_the_swapped_rows(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """Also where it had halted: it looks at the new cursor."""
    tamper(embedded, "UPDATE scapp.cursors SET state_root = decode(repeat('00', 32), 'hex')")
    worker = worker_for(log, embedded)
    worker.run_once()
    assert worker.status()[ONE.channel_id].state is State.HALTED
    replay(embedded, log).run(compare=False, swap=True)
    log.append(ONE, [account(3, 3)])
    worker.run_once()
    assert worker.status()[ONE.channel_id].state is State.HALTED, "nobody told it"
    worker.look_again(ONE.channel_id)
    worker.run_once()
    worker.stop()
    assert worker.status()[ONE.channel_id].state is State.FOLLOWING
    assert is_right(embedded, log)


def test_a_replay_that_was_stopped_goes_on(embedded: EmbeddedBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each commit in turn; the second run writes only what is missing."""
    monkeypatch.setattr(follow, "EARLY_ENTRIES_MAX", 1_000)
    log = SignedLog(ONE)
    for number in range(3):
        log.append(ONE, *[[account(number * 1_000 + n, n)] for n in range(1_000)])
    derive(embedded, log)
    stopping = threading.Event()
    stopping.set()
    sequences = []
    for _ in range(2):
        with pytest.raises(ReplayStopped, match="goes on from here"):
            replay(embedded, log, stopping=stopping).run(compare=True, swap=True)
        with embedded.connect() as connection:
            cursor = read_cursor(connection, ONE.channel_id, f'"{NAME}".scapp_')
            assert cursor is not None
            sequences.append(cursor.sequence)
    assert 0 < sequences[0] < sequences[1] < log.sequence(ONE)
    cursor, compared = replay(embedded, log).run(compare=True, swap=True)
    assert compared is not None
    assert (compared.count, cursor.sequence) == (0, log.sequence(ONE))
    assert is_right(embedded, log)


def test_killed_in_the_middle_of_the_swap_nothing_is_swapped(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """The session is ended while the swap waits for a row that somebody holds; the next run swaps."""
    tamper(embedded, "UPDATE shop.account SET balance = 9 WHERE balance = 1")
    with embedded.connect() as holder, embedded.connect() as killer:
        with holder.transaction():
            holder.execute("SELECT FROM shop.account WHERE balance = 2 FOR UPDATE")
            failed: list[BaseException] = []

            def swap() -> None:
                try:
                    replay(embedded, log).run(compare=False, swap=True)
                except psycopg.OperationalError as error:
                    failed.append(error)

            thread = threading.Thread(target=swap)
            thread.start()
            waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ '^DELETE FROM'"
            while not (found := rows_of(killer, waiting)):
                pass
            killer.execute("SELECT pg_terminate_backend(%s)", [found[0][0]])
            thread.join()
        assert len(failed) == 1
        assert rows_of(killer, "SELECT balance FROM shop.account WHERE balance < 77 ORDER BY owner") == [(9,), (2,)]
    assert schemas(embedded) == [NAME]
    replay(embedded, log).run(compare=False, swap=True)
    assert is_right(embedded, log)


def test_a_log_that_cannot_be_derived_swaps_nothing(embedded: EmbeddedBackend, log: SignedLog) -> None:
    broken = Replay(embedded, LIVE, ONE, log, lambda: ScriptedKernel(SHOP, ONE, lie=2))
    with pytest.raises(ReplayStopped, match="corrupt: state root after turn 1"):
        broken.run(compare=True, swap=True)
    assert is_right(embedded, log)


def test_a_replay_does_not_run_ahead_of_the_live_rows(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """What is compared stands at one turn, though the log goes on."""
    log.append(ONE, [account(5, 5)])
    cursor, compared = replay(embedded, log).run(compare=True, swap=False)
    assert cursor.turn == 2
    assert compared is not None
    assert compared.count == 0


def test_many_differences_are_counted_and_the_first_named(embedded: EmbeddedBackend, log: SignedLog) -> None:
    tamper(embedded, f"INSERT INTO shop.tag SELECT {_CHANNEL}, 'n' || n, n FROM generate_series(1, 300) n")
    _, compared = replay(embedded, log).run(compare=True, swap=False)
    assert compared is not None
    assert (compared.count, len(compared.differences)) == (300, DIFFERENCES_MAX)


def test_a_backend_with_one_session_refuses(pglite_backend: PgliteBackend) -> None:
    reset(pglite_backend)
    with pytest.raises(LocalError, match="two sessions at once"):
        replay(pglite_backend, SignedLog(ONE)).run(compare=False, swap=False)
