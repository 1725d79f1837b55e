"""K5, K5i: messages to committed rows, against a bare binary COPY of the very rows that come out, into equal tables.

The COPY stands for the least a database can be asked to do: ready rows, no upsert, no cursor, one transaction. Ours
also runs the reducer and checks roots, as in K2. Below stands the database's part of ours alone, from ready buffers to
commit.
"""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks._server import folder, server
from benchmarks._transfers import TransferLog, clean, draw, maker, module, worker_over
from benchmarks.runner import Measure, Result
from benchmarks.timing import ROUNDS_MIN, Side, seconds_per_unit

MESSAGES = 10_000
_TABLES = ("scapp.messages", "transfer.account", "transfer.history")


class Pipeline:
    """Messages of one kind through the worker, and the same net rows for a COPY and for `write` alone."""

    def __init__(self, backend: Any, kind: str, count: int) -> None:
        from scapp.runtime.database.write import read_cursor

        self.backend, self.kind, self.count, self.round = backend, kind, count, 0
        self.log = TransferLog()
        self.worker = worker_over(self.log, backend)
        self.worker.run_once()
        self.connection = backend.connect()
        self.at = read_cursor(self.connection, self.log.context.channel_id)
        self.twin = maker()(self.log.context)
        self._run_twin(0)
        self.copies: list[tuple[str, bytes]] = []
        self.rows = 0  # in a round
        for table in _TABLES:
            self.connection.execute(f"CREATE TABLE {table}_bare (LIKE {table} INCLUDING ALL)".encode())

    def _run_twin(self, position: int) -> Any:
        from scapp.runtime.kernel import Budget

        for batch in self.log.batches(b"", position):
            self.twin.run(batch.first_sequence, batch.entries, budget=Budget.DERIVE)
            self.twin.commit(batch.turn)
        return self.twin.take_changes(1)

    def sign(self) -> None:
        """The next messages; and what they change, as COPY streams."""
        self.round += 1
        position = len(list(self.log.batches(b"")))
        self.log.append(draw(self.count, self.round), self.kind)
        self._set_copies(self._run_twin(position))

    def _set_copies(self, changes: Any) -> None:
        from scapp.runtime.changes import MESSAGES as TABLE
        from scapp.runtime.net_changes import table_change

        tables = {table.name: table for table in module().manifest.tables}
        parts = [(TABLE, "scapp.messages", changes.messages)]
        parts += [(tables[change.table], f"transfer.{change.table}", change) for change in changes.tables]
        channel = self.log.context.channel_id
        self.rows = sum(change.upserts for _, _, change in parts)
        self.copies = [
            (
                f"{name}_bare",
                table_change(channel, table, list(change.rows()), copy_rows_min=1, insert_only=True).copy,
            )
            for table, name, change in parts
        ]

    def derive(self) -> None:
        self.worker.run_once()
        (status,) = self.worker.status().values()
        assert status.cursor is not None, status
        assert status.cursor.sequence == self.log.sequence, status

    def empty_accounts(self) -> None:
        """COPY cannot replace rows, so what it finds there has to go first."""
        self.connection.execute("TRUNCATE transfer.account_bare")

    def copy(self) -> None:
        from scapp.runtime.database.binary import COPY_HEADER, COPY_TRAILER

        with self.connection.transaction(), self.connection.cursor() as cursor:
            for name, tuples in self.copies:
                with cursor.copy(f"COPY {name} FROM STDIN (FORMAT binary)".encode()) as stream:
                    stream.write(COPY_HEADER)
                    stream.write(tuples)
                    stream.write(COPY_TRAILER)

    def close(self) -> None:
        self.worker.stop()
        self.connection.close()


class _WriteAlone(Pipeline):
    """Ready buffers through `write`, as the worker calls it."""

    def _run_twin(self, position: int) -> Any:
        from scapp.runtime.database.write import COPY_ROWS_MIN, Commit
        from scapp.runtime.derive import next_cursor
        from scapp.runtime.kernel import Budget

        batches = list(self.log.batches(b"", position))
        for batch in batches:
            self.twin.run(batch.first_sequence, batch.entries, budget=Budget.DERIVE)
            self.twin.commit(batch.turn)
        changes, new = self.twin.take_changes(COPY_ROWS_MIN), next_cursor(batches[-1])
        self.commit = Commit(self.log.context.channel_id, "transfer", module().manifest, self.at, new, changes)
        return changes

    def derive(self) -> None:
        from scapp.runtime.database.write import write

        assert write(self.connection, self.commit, notify=True)
        self.at = self.commit.new


def _against_copy(kind: str) -> Result:
    whole = _compared(Pipeline, kind)
    alone = _compared(_WriteAlone, kind)
    notes = (
        f"bare COPY: {whole[1]:,.0f} messages/s, {whole[3]} rows",
        f"from ready buffers to the commit: {alone[0]:,.0f} messages/s, {alone[0] * alone[3] / MESSAGES:,.0f} rows/s, "
        f"{alone[2]:.2f} of the COPY",
    )
    return Result(whole[0], "messages/s", whole[2], notes)


def _compared(kind_of: type[Pipeline], kind: str) -> tuple[float, float, float, int]:
    """Rates of ours and of the COPY, the ratio, and how many rows a round has. A round's rows are what ours just made,
    so in every round the COPY comes second."""
    with folder() as at, server(at / "pg") as backend:
        clean(backend)
        lines = kind_of(backend, kind, MESSAGES)
        times = [_round(lines) for _ in range(ROUNDS_MIN + 1)][1:]  # the first warms up
        lines.close()
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(copied / derived for derived, copied in times)
    return MESSAGES / ours, MESSAGES / theirs, ratio, lines.rows


def _round(lines: Pipeline) -> tuple[float, float]:
    derived = seconds_per_unit(Side(lines.derive, prepare=lines.sign), 1, "wall")
    return derived, seconds_per_unit(Side(lines.copy, prepare=lines.empty_accounts), 1, "wall")


MEASURES = [
    Measure("K5", "10,000 messages to rows, against COPY of the net rows", 0.35, lambda: _against_copy("transfer")),
    Measure("K5i", "the same where rows are only inserted", 0.7, lambda: _against_copy("record")),
]
