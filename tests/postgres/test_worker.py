"""The worker: follows, restarts, retries, and halts the right channel for the right reason."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import psycopg
import pytest

from scapp.channels.admission import AdmissionError, ChannelContext
from scapp.channels.types import Address
from scapp.reducers.manifest import Manifest
from scapp.runtime.api.derived import DerivedData
from scapp.runtime.api.errors import ApiError
from scapp.runtime.database.embedded import EmbeddedBackend
from scapp.runtime.database.port import DatabaseError
from scapp.runtime.database.rejections import Rejection
from scapp.runtime.database.write import read_cursor
from scapp.runtime.derive import DerivationHalted, Halt
from scapp.runtime.follow import Committed
from scapp.runtime.kernel import Kernel, KernelFault
from scapp.runtime.modules import Modules
from scapp.runtime.progress import Meters
from scapp.runtime.schema import AppSchema, prepare_database
from scapp.runtime.verify import verify_channel
from scapp.runtime.worker import Worker
from scapp.runtime.worker_status import State
from tests.support.postgres import (
    ACCOUNT,
    NODE,
    OTHER_NODE,
    SHOP,
    TAGS,
    Emit,
    Reject,
    ScriptedKernel,
    SignedLog,
    account,
    channel,
    delete,
    put,
    rows_of,
    worker_for,
)

ONE, TWO = channel(1), channel(2)


@pytest.fixture
def log() -> SignedLog:
    log = SignedLog(ONE, TWO)
    log.append(ONE, [account(1, 1)], [account(2, 2), Emit("hello", b"1")])
    log.append(TWO, [put(TAGS, "two", 2)])
    return log


def run(worker: Worker) -> Worker:
    worker.run_once()
    worker.stop()
    return worker


def balances(backend: EmbeddedBackend, context: ChannelContext = ONE) -> list[int]:
    with backend.connect() as connection:
        found = connection.execute(
            "SELECT balance FROM shop.account WHERE channel_id = %s ORDER BY owner", [bytes(context.channel_id)]
        )
        return [int(str(balance)) for (balance,) in found]


def agrees(backend: EmbeddedBackend, log: SignedLog, context: ChannelContext = ONE) -> bool:
    report = verify_channel(backend, AppSchema("shop", SHOP), context, log)
    assert report.problems == ()
    return report.ok and report.sequence == log.sequence(context)


def test_all_channels_are_followed(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """All channels are followed."""
    worker = run(worker_for(log, embedded))
    assert [status.state for status in worker.status().values()] == [State.FOLLOWING] * 2
    assert balances(embedded) == [1, 2]
    assert agrees(embedded, log, ONE)
    assert agrees(embedded, log, TWO)


def test_another_worker_goes_on_where_the_last_one_ended(embedded: EmbeddedBackend, log: SignedLog) -> None:
    run(worker_for(log, embedded))
    log.append(ONE, [delete(ACCOUNT, (1).to_bytes(20, "big")), account(2, 9)])
    told: list[Committed] = []
    worker = worker_for(log, embedded)
    worker.subscribe(told.append)
    run(worker)
    assert [(item.channel_id, item.first_sequence, item.end_sequence) for item in told] == [(ONE.channel_id, 3, 4)]
    assert balances(embedded) == [9]
    assert agrees(embedded, log)


def test_many_batches_become_few_commits_with_the_same_rows(embedded: EmbeddedBackend, log: SignedLog) -> None:
    for number in range(50):
        log.append(ONE, [account(number % 7, number)], [delete(ACCOUNT, (number % 5).to_bytes(20, "big"))])
    told: list[Committed] = []
    worker = worker_for(log, embedded)
    worker.subscribe(told.append)
    run(worker)
    assert len([item for item in told if item.channel_id == ONE.channel_id]) == 1
    assert agrees(embedded, log)


def test_a_bulk_of_rows_goes_through_copy(embedded: EmbeddedBackend, log: SignedLog) -> None:
    log.append(ONE, *([account(number, number, "x")] for number in range(3000)))
    run(worker_for(log, embedded))
    assert agrees(embedded, log)


def test_notify_wakes_the_thread_and_wait_for_sees_the_cursor(embedded: EmbeddedBackend, log: SignedLog) -> None:
    worker = worker_for(log, embedded, poll_s=None)
    worker.start()
    try:
        assert worker.wait_for(ONE.channel_id, 3, timeout=30)
        assert not worker.wait_for(ONE.channel_id, 4, timeout=0)
        log.append(ONE, [account(3, 3)])
        worker.notify()
        assert worker.wait_for(ONE.channel_id, 4, timeout=30)
    finally:
        worker.stop()


def test_who_asks_at_the_start_waits_for_what_the_log_holds(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """Schema and rows are there once `wait_started` returns; before the start it gives up after its time."""
    worker = worker_for(log, embedded, poll_s=None)
    worker.wait_started(0.0)
    assert worker.database().state == "starting"
    worker.start()
    try:
        worker.wait_started(30)
        assert worker.database().state == "up"
        assert agrees(embedded, log)
    finally:
        worker.stop()


def test_a_final_batch_without_entries_is_recorded(embedded: EmbeddedBackend, log: SignedLog) -> None:
    last = log.append(ONE, final=True)
    run(worker_for(log, embedded))
    run(worker_for(log, embedded))
    with embedded.connect() as connection:
        cursor = read_cursor(connection, ONE.channel_id)
    assert cursor is not None
    assert (cursor.turn, cursor.is_final, cursor.sequence) == (last.turn, True, 3)
    assert agrees(embedded, log)


def test_few_kernels_serve_many_channels(embedded: EmbeddedBackend) -> None:
    contexts = [channel(number) for number in range(6)]
    log = SignedLog(*contexts)
    worker = worker_for(log, embedded, kernels_max=2)
    for number in range(3):
        for context in contexts:
            log.append(context, [account(number, number)])
        worker.run_once()
    worker.stop()
    assert all(agrees(embedded, log, context) for context in contexts)


# -- corrupt, undecidable, blocked ------------------------------------------------------------------------------------


def halted(worker: Worker, context: ChannelContext = ONE) -> tuple[Halt | None, str]:
    status = worker.status()[context.channel_id]
    assert status.state is State.HALTED
    with pytest.raises(DerivationHalted):
        worker.wait_for(context.channel_id, 99, timeout=0)
    return status.halt, status.detail


def test_another_state_root_halts_before_anything_is_written(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """What was right before is written; nothing of the batch that differs is; the other channel goes on."""
    log.append(ONE, [account(3, 3)])
    worker = run(worker_for(log, embedded, lie=3))
    kind, detail = halted(worker)
    assert kind is Halt.CORRUPT
    assert f"signed 0x{log.batches_of[ONE.channel_id][-1].state_root.hex()}" in detail
    assert "state root after turn 2 (sequences 3 to 3): derived 0x" in detail
    assert balances(embedded) == [1, 2]
    assert worker.status()[TWO.channel_id].state is State.FOLLOWING


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"log_root": b"\7" * 32}, "log root after turn 1"),
        ({"amounts": (11, 2**256 - 12)}, "amounts after turn 1"),
        ({"first_sequence": 2}, "goes on at sequence 2, expected 1: entries missing"),
        ({"time_ms": 2**63}, "is beyond"),
    ],
)
def test_a_batch_that_contradicts_itself_halts(
    embedded: EmbeddedBackend, log: SignedLog, change: dict[str, object], text: str
) -> None:
    batches = log.batches_of[ONE.channel_id]
    batches[1] = msgspec.structs.replace(batches[1], **change)
    kind, detail = halted(run(worker_for(log, embedded)))
    assert kind is Halt.CORRUPT
    assert text in detail


def test_a_log_shorter_than_the_database_halts(embedded: EmbeddedBackend, log: SignedLog) -> None:
    run(worker_for(log, embedded))
    kind, detail = halted(run(worker_for(SignedLog(ONE, TWO), embedded)))
    assert kind is Halt.CORRUPT
    assert "the database is derived to turn 1, sequence 3" in detail
    assert balances(embedded) == [1, 2]


@pytest.mark.parametrize(("code", "kind"), [("undecidable", Halt.UNDECIDABLE), ("rejected", Halt.CORRUPT)])
def test_a_signed_entry_that_is_refused_here_halts(
    embedded: EmbeddedBackend, log: SignedLog, code: str, kind: Halt
) -> None:
    log.append(ONE, [Reject(code, "too deep")])
    found, detail = halted(run(worker_for(log, embedded)))
    assert found is kind
    assert f"entry 3 is under all signatures (turn 2), but here it was {code}: too deep" in detail


def test_a_dropped_table_halts_the_channels_that_meet_it(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """One that writes into it at once, and after a restart every one that needs its rows."""
    worker = worker_for(log, embedded)
    worker.run_once()
    with embedded.connect() as connection:
        connection.execute("DROP TABLE shop.account")
    log.append(ONE, [account(3, 3)])
    log.append(TWO, [put(TAGS, "more", 3)])
    run(worker)
    assert halted(worker)[0] is Halt.REFUSED
    assert agrees_sequence(embedded, TWO) == log.sequence(TWO)
    log.append(TWO, [put(TAGS, "and more", 3)])
    assert halted(run(worker_for(log, embedded)), TWO)[0] is Halt.REFUSED


def agrees_sequence(backend: EmbeddedBackend, context: ChannelContext) -> int:
    with backend.connect() as connection:
        cursor = read_cursor(connection, context.channel_id)
    assert cursor is not None
    return cursor.sequence


def test_a_module_that_cannot_run_halts_as_undecidable(embedded: EmbeddedBackend, log: SignedLog) -> None:
    class Broken(ScriptedKernel):
        def run(self, *arguments: object, **options: object) -> None:  # type: ignore[override]
            raise KernelFault("no memory left on this machine")

    worker = Worker(
        log, embedded, NODE, kernel_for=lambda context: Broken(SHOP, context), manifest_for=lambda deployment: SHOP
    )
    assert halted(run(worker))[0] is Halt.UNDECIDABLE


def test_an_app_that_is_not_here_blocks_until_it_is(embedded: EmbeddedBackend, log: SignedLog) -> None:
    known: list[bool] = []

    def kernel_for(context: ChannelContext) -> Kernel:
        if not known:
            raise AdmissionError("deployment 0x12 is not here: deploy it")
        return ScriptedKernel(SHOP, context)

    worker = Worker(log, embedded, NODE, kernel_for=kernel_for, manifest_for=lambda deployment: SHOP)
    worker.run_once()
    assert worker.status()[ONE.channel_id].state is State.BLOCKED
    assert "deploy it" in worker.status()[ONE.channel_id].detail
    known.append(True)
    run(worker)
    assert agrees(embedded, log)


# -- the database goes away -------------------------------------------------------------------------------------------


class Switched(EmbeddedBackend):
    """The shared server behind a switch that cuts connections."""

    def __init__(self, inner: EmbeddedBackend) -> None:
        self._inner = inner
        self.down = False
        self.refused = threading.Event()

    @property
    def dsn(self) -> str:
        return self._inner.dsn

    def start(self) -> None:
        if self.down:
            self.refused.set()
            raise DatabaseError("the disk is full")

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        if self.down:
            self.refused.set()
            raise psycopg.OperationalError("connection refused")
        return self._inner.connect()


@pytest.fixture
def switched(embedded: EmbeddedBackend) -> Switched:
    return Switched(embedded)


def test_a_database_that_is_down_at_start_is_waited_for(
    embedded: EmbeddedBackend, switched: Switched, log: SignedLog
) -> None:
    switched.down = True
    worker = worker_for(log, switched, poll_s=None)
    worker.start()
    try:
        assert switched.refused.wait(30)
        assert worker.database().state in ("starting", "down")
        switched.down = False
        assert worker.wait_for(ONE.channel_id, 3, timeout=30)
        assert worker.database().state == "up"
    finally:
        worker.stop()
    assert agrees(embedded, log)


def test_a_connection_lost_in_the_middle_costs_nothing(
    embedded: EmbeddedBackend, switched: Switched, log: SignedLog
) -> None:
    worker = worker_for(log, switched)
    worker.run_once()
    log.append(ONE, [account(3, 3)])
    with embedded.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND application_name = 'scapp'"
        )
    switched.down = True
    worker.run_once()
    status = worker.status()[ONE.channel_id]
    assert status.state is State.RETRYING
    assert worker.database().state == "down"
    worker.run_once()
    log.append(ONE, [account(4, 4)])
    switched.down = False
    run(worker)
    assert agrees(embedded, log)


def test_a_database_that_comes_back_empty_is_filled_again(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """What the worker knows of schemas is as old as its connection."""
    worker = worker_for(log, embedded)
    worker.run_once()
    with embedded.connect() as connection:
        connection.execute("DROP SCHEMA shop CASCADE")
    log.append(TWO, [put(TAGS, "more", 3)])
    worker.run_once()
    assert halted(worker, TWO)[0] is Halt.REFUSED
    with embedded.connect() as connection:
        connection.execute("DROP SCHEMA scapp CASCADE")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND application_name = 'scapp'"
        )
    log.append(ONE, [account(3, 3)])
    worker.run_once()
    assert worker.database().state == "down"
    assert "\n" not in worker.database().detail
    run(worker)
    assert agrees(embedded, log)
    assert agrees(embedded, log, TWO)


def test_an_answer_lost_after_the_commit_is_not_a_second_write(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """The batch is in the database, the worker does not know: its retry finds the cursor moved."""
    worker = worker_for(log, embedded)
    worker.run_once()
    follower = worker._followers[ONE.channel_id]
    before = follower.cursor
    log.append(ONE, [account(3, 3)])
    worker.run_once()
    assert follower.cursor is not None
    last = log.batches_of[ONE.channel_id][-1]
    # As if the last write's answer had never come: it is still to be written, from the cursor before it.
    follower.cursor = before
    follower._at = None
    follower.release()
    run(worker)
    assert follower.cursor is not None
    assert follower.cursor.sequence == last.end_sequence
    assert agrees(embedded, log)


def test_two_workers_on_one_database_end_with_the_right_rows(embedded: EmbeddedBackend, log: SignedLog) -> None:
    workers = [worker_for(log, embedded), worker_for(log, embedded)]
    for number in range(10):
        log.append(ONE, [account(number, number)])
        for worker in workers if number % 2 else workers[::-1]:
            worker.run_once()
    for worker in workers:
        assert worker.status()[ONE.channel_id].state is State.FOLLOWING
        worker.stop()
    assert agrees(embedded, log)


def test_another_nodes_database_is_refused(embedded: EmbeddedBackend, log: SignedLog, tmp_path: Path) -> None:
    """Its rows are not shown either."""
    run(worker_for(log, embedded))
    other = Worker(
        log,
        embedded,
        Address(OTHER_NODE),
        kernel_for=lambda context: ScriptedKernel(SHOP, context),
        manifest_for=lambda deployment: SHOP,
    )
    with pytest.raises(DatabaseError, match="belongs to node"):
        other.prepare()
    run(other)
    assert other.database().state == "foreign"
    assert "every node needs a database of its own" in other.database().detail
    with pytest.raises(ApiError, match="belongs to node") as refused:
        DerivedData(other, embedded, log, Modules(tmp_path, tmp_path), Meters()).query("SELECT 1", [], 1, 1.0)
    assert refused.value.code == "database_down"


def test_rejections_are_kept_and_bounded(embedded: EmbeddedBackend, log: SignedLog) -> None:
    worker = worker_for(log, embedded)
    for number in range(1_000):
        worker.record_rejection(Rejection(ONE.channel_id, 1, 2**64 - 1, "rejected", f"no \0 \ud800 {number}"))
    worker.run_once()
    for number in range(5):
        worker.record_rejection(Rejection(ONE.channel_id, 0, number, "fault", "trap"))
    run(worker)
    with embedded.connect() as connection:
        assert rows_of(connection, "SELECT count(*), max(counter)::text FROM scapp.rejections") == [
            (1_000, str(2**64 - 1))
        ]
        assert rows_of(connection, "SELECT reason FROM scapp.rejections ORDER BY id LIMIT 1") == [("no � ? 5",)]


def test_refusals_that_cannot_be_recorded_do_not_hold_up_the_rows(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """Somebody dropped their table: the channels go on."""
    worker = worker_for(log, embedded)
    worker.run_once()
    with embedded.connect() as connection:
        connection.execute("DROP TABLE scapp.rejections")
    worker.record_rejection(Rejection(ONE.channel_id, 0, 1, "rejected", "no"))
    worker.run_once()
    log.append(ONE, [account(3, 3)])
    run(worker)
    assert worker.database().state == "up"
    assert agrees(embedded, log)


class Failing(SignedLog):
    """A log whose list of channels cannot be read for a while."""

    failures = 2

    def contexts(self) -> list[ChannelContext]:
        self.failures -= 1
        if self.failures >= 0:
            raise RuntimeError("no list of channels")
        return list(super().contexts())


def test_an_unexpected_error_outside_channels_is_shown_and_retried(
    embedded: EmbeddedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread lives on, and says what it met."""
    log = Failing(ONE)
    log.append(ONE, [account(1, 1)])
    worker = worker_for(log, embedded)
    worker.run_once()
    assert worker.database().state == "down"
    assert "no list of channels" in worker.database().detail
    assert "Traceback" in caplog.text
    worker.start()
    try:
        assert worker.wait_for(ONE.channel_id, 2, timeout=20)
    finally:
        worker.stop()
    assert agrees(embedded, log)


class Weak(Switched):
    """The shared server, connected to as a role that may only read."""

    role = "SET ROLE scapp_reader"

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        connection = super().connect()
        connection.execute(self.role.encode())
        return connection


def test_a_role_without_rights_is_waited_for(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """Missing rights are named in the status, and granting them is enough."""
    prepare_database(embedded, NODE)
    weak = Weak(embedded)
    worker = worker_for(log, weak)
    worker.run_once()
    assert worker.database().state == "down"
    assert "permission denied" in worker.database().detail
    weak.role = "RESET ROLE"
    run(worker)
    assert worker.database().state == "up"
    assert agrees(embedded, log)


# -- channels that are over and stay on the disk ----------------------------------------------------------------------


def test_a_channel_on_the_disk_is_derived_to_its_end_and_forgotten(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """Nothing of it is kept in memory then, and the next start asks for none that is in the database."""
    log.on_disk = {ONE.channel_id}
    worker = run(worker_for(log, embedded))
    assert agrees(embedded, log)
    assert (worker.has_all_of(ONE.channel_id), worker.status_of(ONE.channel_id)) == (True, None)
    assert list(worker.status()) == [TWO.channel_id]
    assert worker.wait_for(ONE.channel_id, 3, timeout=0)
    assert log.asked == [ONE.channel_id]
    again = run(worker_for(log, embedded))
    assert (again.has_all_of(ONE.channel_id), log.asked) == (True, [ONE.channel_id])
    with embedded.connect() as connection:
        connection.execute("DELETE FROM scapp.cursors WHERE channel_id = %s", [bytes(ONE.channel_id)])
        connection.execute("DELETE FROM shop.account WHERE channel_id = %s", [bytes(ONE.channel_id)])
        connection.execute("DELETE FROM scapp.messages WHERE channel_id = %s", [bytes(ONE.channel_id)])
        connection.execute("DELETE FROM scapp.events WHERE channel_id = %s", [bytes(ONE.channel_id)])
    run(worker_for(log, embedded))
    assert log.asked == [ONE.channel_id] * 2
    assert agrees(embedded, log)


def test_a_channel_that_goes_to_the_disk_is_followed_to_its_end(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """Also when it comes back for a while, and goes again."""
    worker = worker_for(log, embedded)
    worker.run_once()
    log.append(ONE, [account(3, 3)])
    log.on_disk = {ONE.channel_id}
    worker.run_once()
    assert balances(embedded) == [1, 2, 3]
    assert (worker.status_of(ONE.channel_id), worker.has_all_of(ONE.channel_id)) == (None, True)
    log.on_disk = set()
    worker.run_once()
    assert worker.status_of(ONE.channel_id) is not None
    log.on_disk = {ONE.channel_id}
    run(worker)
    assert worker.status_of(ONE.channel_id) is None
    assert agrees(embedded, log)


def test_a_channel_on_the_disk_whose_app_is_missing_says_so_until_it_is_there(
    embedded: EmbeddedBackend, log: SignedLog
) -> None:
    log.on_disk = {ONE.channel_id}
    missing = True

    def manifest_for(deployment: object) -> Manifest:
        if missing:
            raise AdmissionError("not deployed")
        return SHOP

    worker = Worker(
        log, embedded, NODE, kernel_for=lambda context: ScriptedKernel(SHOP, context), manifest_for=manifest_for
    )
    for _ in range(2):
        worker.run_once()
    status = worker.status_of(ONE.channel_id)
    assert status is not None
    assert (status.state, status.detail, worker.has_all_of(ONE.channel_id)) == (State.BLOCKED, "not deployed", False)
    assert log.asked == [ONE.channel_id]
    missing = False
    run(worker)
    assert (worker.status_of(ONE.channel_id), worker.has_all_of(ONE.channel_id)) == (None, True)
    assert agrees(embedded, log)
