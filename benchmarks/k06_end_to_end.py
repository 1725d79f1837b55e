"""K6: 1000 messages from the log on disk to committed rows, against a bare COPY of the rows that come out, plus commit.

In it: opening the RocksDB log, folding the channel out of it, reading and checking the supported batches, a fresh
kernel, the reducer over every message, roots, and the transaction with all rows and the cursor. Not in it: the server,
a connection to it, the compiled module, and the app's empty tables, which both sides find made. A worker that has to
connect and to look whether the database is its own takes longer by what stands below the line.

K6m: a million messages re-derived from memory in one run; value = messages per second. Resident memory at a tenth of
the way and at the end is taken as well: of messages that add a row of history each, which the kernel keeps like any
row, as bytes for each row; and of messages that only change rows, where it must stay what it was.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks._ledger_channel import channel_in, opened, write_channel
from benchmarks._server import folder, server
from benchmarks._transfers import TransferLog, clean, draw, maker, module, worker_over
from benchmarks.runner import Measure, Part, Result
from benchmarks.timing import ROUNDS_MIN

MESSAGES = 1_000
MILLION = 1_000_000


class _LaterSource:
    """An EntrySource with nothing in it until `inner` is set."""

    inner: Any = None

    def contexts(self) -> list[Any]:
        return [] if self.inner is None else self.inner.contexts()

    def archived(self) -> dict[bytes, Any]:
        return {}

    def archive_version(self) -> int:
        return 0

    def batches(self, channel_id: bytes, position: int = 0) -> Iterator[Any]:
        yield from self.inner.batches(channel_id, position)


def _derive(log_folder: Path, backend: Any, signer: Any, *, connected: bool = True) -> float:
    """Seconds until everything is committed."""
    source = _LaterSource()
    worker = worker_over(source, backend)
    if connected:
        worker.run_once()
    began = time.perf_counter()
    with opened(log_folder) as log:
        driver, source.inner = channel_in(log, signer)
        worker.run_once()
        seconds = time.perf_counter() - began
        worker.stop()
        (status,) = worker.status().values()
        assert status.cursor is not None, status.detail
        assert status.cursor.sequence == driver.engine.state.sequence == MESSAGES + 1, status
    return seconds


def _net_rows(log_folder: Path, signer: Any) -> list[tuple[str, bytes]]:
    """What comes out, as COPY streams by table."""
    from scapp.runtime.kernel import Budget

    with opened(log_folder) as log:
        driver, source = channel_in(log, signer)
        context = driver.engine.state.setup.context
        kernel = maker()(context)
        for batch in source.batches(context.channel_id):
            if batch.entries:
                kernel.run(batch.first_sequence, batch.entries, budget=Budget.DERIVE)
                kernel.commit(batch.turn)
        changes = kernel.take_changes(1)
        kernel.close()
    parts = [("scapp.messages", changes.messages), *((f"transfer.{c.table}", c) for c in changes.tables)]
    assert all(change.copy for _, change in parts)
    return [(name, change.copy) for name, change in parts]


def copy(connection: Any, streams: list[tuple[str, bytes]]) -> None:
    from scapp.runtime.database.binary import COPY_HEADER, COPY_TRAILER

    with connection.transaction(), connection.cursor() as cursor:
        for name, tuples in streams:
            with cursor.copy(f"COPY {name} FROM STDIN (FORMAT binary)".encode()) as stream:
                stream.write(COPY_HEADER)
                stream.write(tuples)
                stream.write(COPY_TRAILER)


def _empty(connection: Any) -> None:
    connection.execute("TRUNCATE scapp.messages, scapp.events, scapp.cursors, transfer.account, transfer.history")


def run() -> Result:
    transfers = draw(MESSAGES)

    def payload(number: int, _: Any) -> Any:
        return {"transfer": dict(zip(("sender", "recipient", "amount"), transfers[number], strict=True))}

    with folder() as at, server(at / "pg") as backend:
        clean(backend)
        signer = write_channel(at / "log", MESSAGES, at_once=MESSAGES, module=module(), payload=payload)
        _derive(at / "log", backend, signer)
        streams = _net_rows(at / "log", signer)
        times = []
        with backend.connect() as connection:
            for _ in range(ROUNDS_MIN + 1):
                _empty(connection)
                unconnected = _derive(at / "log", backend, signer, connected=False)
                _empty(connection)
                derived = _derive(at / "log", backend, signer)
                _empty(connection)
                began = time.perf_counter()
                copy(connection, streams)
                times.append((derived, time.perf_counter() - began, unconnected))
    ours, theirs, unconnected = (statistics.median(column) for column in zip(*times[1:], strict=True))
    ratio = statistics.median(derived / copied for derived, copied, _ in times[1:])
    notes = (
        f"the bare COPY and its commit: {theirs * 1e3:.1f} ms",
        f"with a worker that is not connected yet: {unconnected * 1e3:.1f} ms",
    )
    return Result(ours * 1e3, "ms", ratio, notes)


def _rederived(backend: Any, kind: str, count: int) -> tuple[float, float, float]:
    """Messages per second, and resident bytes at a tenth of the way and at the end."""
    clean(backend)
    log = TransferLog()
    for number in range(count // 100_000):
        log.append(draw(100_000, number), kind)
    log.forget_kernel()
    worker = worker_over(log, backend)
    memory: dict[int, int] = {}
    process = psutil.Process()
    worker.subscribe(lambda done: memory.update({done.end_sequence: process.memory_info().rss}))
    began = time.perf_counter()
    worker.run_once()
    seconds = time.perf_counter() - began
    worker.stop()
    (status,) = worker.status().values()
    assert status.cursor is not None, status
    assert status.cursor.sequence == log.sequence, status
    early = next(size for sequence, size in memory.items() if sequence >= count // 10)
    return count / seconds, early, memory[log.sequence]


def run_million() -> Result:
    with folder() as at, server(at / "pg") as backend:
        rate, early, late = _rederived(backend, "transfer", MILLION)
        _, flat_early, flat_late = _rederived(backend, "payment", MILLION // 2)
    parts = [
        Part("messages a second", rate, 100_000),
        Part("bytes for a row that comes", (late - early) / (MILLION * 0.9), 300, lower_is_better=True),
        Part("MiB more where none comes", max((flat_late - flat_early) / 2**20, 0.1), 16, lower_is_better=True),
    ]
    notes = (f"resident memory {early / 2**20:.0f} MiB at a tenth, {late / 2**20:.0f} MiB at the end",)
    return Result.of_parts(rate, "messages/s", parts, notes)


MEASURES = [
    Measure("K6", "1000 messages from the log to rows, against COPY of the rows", 3, run, lower_is_better=True),
    Measure("K6m", "a million messages re-derived", 1, run_million),
]
