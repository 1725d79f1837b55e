"""Tables with history: `AS OF` gives what the table was after each message, whatever happened on the way there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import psycopg
import pytest

from scapp.reducers.manifest import Manifest
from scapp.runtime import follow
from scapp.runtime.database.embedded import EmbeddedBackend
from scapp.runtime.database.port import Backend
from scapp.runtime.kernel import Budget, Kernel
from scapp.runtime.native.kernel import NativeKernel
from scapp.runtime.queries import run_query
from scapp.runtime.reference import ReferenceKernel
from scapp.runtime.replay import Replay, schema_name
from scapp.runtime.schema import AppSchema, deployment_ddl
from scapp.runtime.verify import VerifyReport, verify_channel
from scapp.runtime.worker import Worker
from scapp.runtime.worker_status import State
from tests.support import wat
from tests.support.past import MANIFEST, NOW, ONE, SCORE, SEAT, SEATS, Life, checked, delete, kernel, put
from tests.support.postgres import NODE, SignedLog, rows_of
from tests.support.wat import message, op

SCHEMA = AppSchema("past", MANIFEST)
Makers = pytest.mark.parametrize("make", [NativeKernel, ReferenceKernel])
_CHANNEL = f"decode('{ONE.channel_id.hex()}', 'hex')"


def worker_for(log: SignedLog, backend: Backend, make: Callable[..., Kernel] = NativeKernel) -> Worker:
    return Worker(
        log, backend, NODE, kernel_for=lambda context: make(checked(), context), manifest_for=lambda _: MANIFEST
    )


def derive(log: SignedLog, backend: Backend, make: Callable[..., Kernel] = NativeKernel) -> None:
    worker = worker_for(log, backend, make)
    worker.run_once()
    worker.stop()
    assert [status.state for status in worker.status().values()] == [State.FOLLOWING], worker.status()


def verify(backend: Backend, log: SignedLog) -> VerifyReport:
    return verify_channel(backend, SCHEMA, ONE, log, lambda: kernel(ONE))


def execute(backend: Backend, *statements: str) -> None:
    with backend.connect() as connection:
        for statement in statements:
            connection.execute(statement.encode())


def rows(backend: Backend, query: str) -> list[tuple[Any, ...]]:
    with backend.connect() as connection:
        return rows_of(connection, query)


def check(life: Life, backend: Backend) -> None:
    """What the functions give of each sequence is what the model has."""
    for sequence in range(len(life.model)):
        for table in (SCORE, SEAT):
            names = ", ".join(column.name for column in table.columns)
            found = rows(backend, f"SELECT {names} FROM past.scapp_as_of_{table.name}({_CHANNEL}, {sequence})")
            wanted = sorted(life.model[sequence][table.name].values(), key=str)
            assert sorted(found, key=str) == wanted, (table.name, sequence)


@Makers
@pytest.mark.parametrize("seed", range(3))
def test_as_of_any_sequence_is_what_the_table_was_then(
    embedded: EmbeddedBackend, make: Callable[..., Kernel], seed: int
) -> None:
    """Over batches and commits of any size, and workers that start where the last one ended."""
    life = Life(seed)
    for _ in range(4):
        for _ in range(life.random.randrange(1, 5)):
            life.batch(life.random.randrange(9))
        derive(life.log, embedded, make)
    check(life, embedded)
    assert rows(embedded, "SELECT count(*) FROM past.scapp_history_score")[0][0] > 5
    assert verify(embedded, life.log).problems == ()


def test_every_backend_answers_as_of_any_sequence(backend: Backend) -> None:
    life = Life(7)
    life.batch(20)
    derive(life.log, backend)
    check(life, backend)
    assert verify(backend, life.log).problems == ()
    answer = run_query(backend, f"SELECT player, points FROM past.scapp_as_of_score({_CHANNEL}, $1) ORDER BY 1", [20])
    assert [tuple(row) for row in answer.rows] == sorted(life.model[20]["score"].values())


def test_a_version_is_given_once_for_each_message_that_changes_the_row(embedded: EmbeddedBackend) -> None:
    """Not for what ends as it was before the message; a key that is gone has a version that says so."""
    log = SignedLog(ONE, make_kernel=kernel)
    log.sign(ONE, [message(put(SCORE, "a", 1), put(SCORE, "a", 2), put(SCORE, "b", 5)), message(put(SCORE, "a", 2))])
    log.sign(ONE, [message(delete(SCORE, "a"), put(SCORE, "a", 2)), message(put(SCORE, "c", 1), delete(SCORE, "c"))])
    log.sign(ONE, [message(delete(SCORE, "a")), message(put(SCORE, "a", None)), message(put(NOW, "a", 1))])
    derive(log, embedded)
    found = "SELECT scapp_sequence, player, scapp_present, points FROM past.scapp_history_score ORDER BY 1, 2"
    assert rows(embedded, found) == [(1, "a", True, 2), (1, "b", True, 5), (5, "a", False, None), (6, "a", True, None)]
    assert rows(embedded, "SELECT to_regclass('past.scapp_history_now'), to_regproc('past.scapp_as_of_now')") == [
        (None, None)
    ]


def test_refused_messages_leave_no_version() -> None:
    """Neither a rejected nor a trapped one, nor one in a batch that was rolled back; both kernels."""
    batch = [
        message(put(SCORE, "a", 1)),
        message(put(SCORE, "a", 2), op(wat.REJECT, b"no")),
        message(put(SCORE, "a", 3), op(wat.TRAP)),
        message(put(SCORE, "a", 4), op(wat.LOOP)),
        message(put(SCORE, "a", 5)),
    ]
    taken = []
    for made in (NativeKernel(checked(), ONE), ReferenceKernel(checked(), ONE)):
        made.run(0, [wat.open_entry()], budget=Budget.DERIVE)
        made.commit(0)
        made.run(1, [message(put(SCORE, "x", 1))], budget=Budget.DERIVE)
        made.rollback()
        assert made.run(1, batch, budget=Budget.DERIVE).accepted == (0, 4)
        made.commit(1)
        (change,) = made.take_changes(1).history
        assert (change.table, change.upserts, bool(change.copy)) == ("scapp_history_score", 2, True)
        assert made.take_changes(1).history == ()
        taken.append(change)
        made.close()
    assert taken[0] == taken[1]


def test_a_kernel_that_does_not_track_keeps_no_versions() -> None:
    """Admission's: what it commits takes no memory for history."""
    made = NativeKernel(checked(), ONE, track=False)
    made.run(0, [wat.open_entry()], budget=Budget.DERIVE)
    made.commit(0)
    before = made.memory_bytes()
    for number in range(200):
        made.run(1 + number, [message(*(put(SCORE, f"p{n}", number) for n in range(100)))], budget=Budget.DERIVE)
        made.commit(1 + number)
    assert made.memory_bytes() < before + 2 * 2**20
    made.close()


def test_a_bulk_of_versions_goes_through_copy_and_a_look_back_through_the_index(embedded: EmbeddedBackend) -> None:
    log = SignedLog(ONE, make_kernel=kernel)
    log.sign(ONE, [message(put(SCORE, f"p{number % 50}", number)) for number in range(3_000)])
    derive(log, embedded)
    look = f"SELECT points FROM past.scapp_as_of_score({_CHANNEL}, 1205) WHERE player = 'p3'"
    assert rows(embedded, look) == [(1_203,)]
    assert len(rows(embedded, f"SELECT FROM past.scapp_as_of_score({_CHANNEL}, 3000)")) == 50
    execute(embedded, "ANALYZE past.scapp_history_score")
    text = "\n".join(line for (line,) in rows(embedded, f"EXPLAIN {look}"))
    assert "scapp_versions_score" in text, text
    assert "player = 'p3'" in text.partition("Index Cond")[2], text
    assert "scapp_sequence <=" in text.partition("Index Cond")[2], text
    assert verify(embedded, log).ok


def test_a_write_whose_answer_is_lost_gives_no_version_twice(
    embedded: EmbeddedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection goes down after the commit; the next round finds the cursor moved."""
    life = Life(11)
    life.batch(10)
    derive(life.log, embedded)
    life.batch(10)
    written = follow.write

    def once(connection: Any, commit: Any, *, notify: bool, **confirmed: Any) -> bool:
        monkeypatch.undo()
        written(connection, commit, notify=notify, **confirmed)
        connection.close()
        raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(follow, "write", once)
    worker = worker_for(life.log, embedded)
    worker.run_once()
    assert worker.database().state == "down"
    worker.run_once()
    worker.stop()
    check(life, embedded)
    assert verify(embedded, life.log).problems == ()


@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        (
            "UPDATE past.scapp_history_score SET points = 9 WHERE scapp_sequence = 1",
            "past.scapp_history_score (player a, scapp_sequence 1) is changed: points is 9, not 1",
        ),
        (
            "DELETE FROM past.scapp_history_score WHERE scapp_sequence = 2",
            "past.scapp_history_score (player b, scapp_sequence 2) is missing; the log gives player b, "
            "scapp_sequence 2, scapp_present True, points 2",
        ),
        (
            f"INSERT INTO past.scapp_history_score VALUES ({_CHANNEL}, 'é', 1, true, 3)",
            "past.scapp_history_score (player é, scapp_sequence 1) is extra: player é, scapp_sequence 1, "
            "scapp_present True, points 3",
        ),
        (
            f"INSERT INTO past.scapp_history_score VALUES ({_CHANNEL}, 'z', 99, false, NULL)",
            "past.scapp_history_score (player z, scapp_sequence 99) is extra: player z, scapp_sequence 99, "
            "scapp_present False, points NULL",
        ),
        (
            "UPDATE past.scapp_history_score SET scapp_present = true WHERE scapp_sequence = 3",
            "past.scapp_history_score (player a, scapp_sequence 3) is changed: scapp_present is True, not False",
        ),
        (
            f"UPDATE past.scapp_history_{SEATS} SET number = 1.5",
            None,  # a key that no reducer writes: extra, and the right one missing
        ),
    ],
)
def test_verify_and_replay_name_a_changed_version_and_a_swap_mends_it(
    embedded: EmbeddedBackend, tampering: str, problem: str | None
) -> None:
    """The rows of the tables themselves are right, and so is their root."""
    log = SignedLog(ONE, make_kernel=kernel)
    log.sign(ONE, [message(put(SCORE, "a", 1)), message(put(SCORE, "b", 2), put(SEAT, 1, 2, 3, wat.ALICE))])
    log.sign(ONE, [message(delete(SCORE, "a"))])
    derive(log, embedded)
    assert verify(embedded, log).ok
    execute(embedded, tampering)
    report = verify(embedded, log)
    assert report.found_root == report.expected_root
    if problem is None:
        assert sorted(found.kind for found in report.differences) == ["extra", "missing"]
    else:
        assert report.problems == (problem,)
    replay = Replay(embedded, SCHEMA, ONE, log, lambda: kernel(ONE))
    _, compared = replay.run(compare=True, swap=True)
    assert compared is not None
    assert sorted(map(str, compared.differences)) == sorted(map(str, report.differences))
    assert verify(embedded, log).ok
    assert rows(embedded, f"SELECT points FROM past.scapp_as_of_score({_CHANNEL}, 2) ORDER BY 1") == [(1,), (2,)]


def test_what_a_replay_derives_can_be_asked_in_its_schema(embedded: EmbeddedBackend) -> None:
    life = Life(3)
    life.batch(12)
    derive(life.log, embedded)
    Replay(embedded, SCHEMA, ONE, life.log, lambda: kernel(ONE)).run(compare=False, swap=False)
    name = schema_name(ONE.channel_id)
    for sequence in (3, 12):
        query = "SELECT * FROM {}.scapp_as_of_score(" + f"{_CHANNEL}, {sequence}) ORDER BY player"
        assert rows(embedded, query.format(name)) == rows(embedded, query.format("past"))


def test_a_schema_that_is_renamed_keeps_its_functions(embedded: EmbeddedBackend) -> None:
    """Which is how a projection's new version takes over."""
    life = Life(5)
    life.batch(12)
    derive(life.log, embedded)
    execute(embedded, "ALTER SCHEMA past RENAME TO elsewhere", "CREATE SCHEMA past")
    found = rows(embedded, f"SELECT player, points FROM elsewhere.scapp_as_of_score({_CHANNEL}, 12) ORDER BY player")
    assert found == sorted(life.model[12]["score"].values())


def test_names_of_ours_do_not_meet(embedded: EmbeddedBackend) -> None:
    """Tables called as a history, an event table or a constraint of ours would be, all in one schema."""
    names = ("score", "history_score", "key_score", "versions_score", "as_of_score", "messages", "events", "cursors")
    tables = tuple(msgspec.structs.replace(SCORE, name=name) for name in names)
    life = Life(1)
    life.batch(1)
    derive(life.log, embedded)  # the schema scapp
    with embedded.connect() as connection:
        for statement in deployment_ddl("names", Manifest("names", "1", tables)):
            connection.execute(statement.encode())
        for table in ("cursors", "messages", "events"):
            connection.execute(f"CREATE TABLE names.scapp_{table} (LIKE scapp.{table} INCLUDING ALL)".encode())
