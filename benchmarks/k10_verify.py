"""K10: verifying a channel in the database, beside the least that any check has to do: read all rows and messages out
of it in the fastest way there is, and hash each once.

Ours reads the same and more: it finds each row's place in the state tree, joins a hundred thousand leaves to a root,
compares messages with the log and the log's root with the signed one. Value: rows and messages per second.
"""

from __future__ import annotations

from typing import Any

from benchmarks._server import folder, server
from benchmarks._transfers import TransferLog, clean, draw, maker, module, worker_over
from benchmarks.runner import Measure, Result
from benchmarks.timing import Side, compare

MESSAGES = 50_000


def derived(backend: Any, messages: int = MESSAGES) -> TransferLog:
    """A channel's log that the database is derived from."""
    log = TransferLog()
    log.append(draw(messages))
    log.forget_kernel()
    worker = worker_over(log, backend)
    worker.run_once()
    worker.stop()
    return log


def _read_and_hash(connection: Any) -> int:
    from scapp.channels.crypto import keccak256
    from scapp.runtime.stored import copied_tuples

    count = 0
    for table in ("scapp.messages", "scapp.events", "transfer.account", "transfer.history"):
        with connection.cursor() as cursor, cursor.copy(f"COPY {table} TO STDOUT (FORMAT binary)".encode()) as stream:
            for row in copied_tuples(stream):
                keccak256(row)
                count += 1
    return count


def run() -> Result:
    from scapp.runtime.schema import AppSchema
    from scapp.runtime.verify import verify_channel

    with folder() as at, server(at / "pg") as backend:
        clean(backend)
        log = derived(backend)
        schema = AppSchema("transfer", module().manifest)
        with backend.connect() as connection:
            count = _read_and_hash(connection)

            def ours() -> None:
                report = verify_channel(backend, schema, log.context, log, lambda: maker()(log.context))
                assert report.ok, report.problems

            outcome = compare(Side(ours, count), Side(lambda: _read_and_hash(connection), count), clock="wall")
    notes = (f"{count:,} rows and messages; only reading and hashing them: {outcome.reference_rate:,.0f}/s",)
    return Result(outcome.rate, "rows/s", outcome.ratio, notes)


MEASURES = [Measure("K10", "verifying a channel, against reading and hashing every row once", 0.3, run)]
