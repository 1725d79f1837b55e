"""K2, K3, K4, K9: messages to committed PostgreSQL rows, against the same transfers done by triggers. K3t, K9t: the
same where the rivals' tables have the keys and columns of ours.

Both sides begin with messages in memory and end with a commit that holds the message itself, a row of history and the
balances, on the same server with the same `synchronous_commit`. Ours runs the reducer, checks the log root of every
thousand messages and the state root of every commit, which K2 and K9 make of all ten thousand (ADR 0065), and moves the
cursor in the same transaction. The rivals' SQL stands in `sql/`; tables are
kept from round to round on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._server import folder, server
from benchmarks._transfers import (
    ACCOUNTS,
    Durable,
    Transfer,
    TransferLog,
    clean,
    copy_stream,
    copy_whole_stream,
    draw,
    worker_over,
)
from benchmarks.runner import Measure, Result
from benchmarks.timing import Comparison, Side, compare, median_seconds

_SQL = Path(__file__).parent / "sql"
_Feed = Callable[[Any, list[Transfer], int], None]


class _Ours:
    """The worker; `prepare` signs the next messages, `call` derives them."""

    def __init__(self, backend: Any, count: int) -> None:
        self.log, self.count, self.round = TransferLog(), count, 0
        self.worker = worker_over(self.log, backend)
        self.worker.run_once()

    def prepare(self) -> None:
        self.round += 1
        self.log.append(draw(self.count, self.round))

    def call(self) -> None:
        self.worker.run_once()
        (status,) = self.worker.status().values()
        assert status.cursor is not None, status
        assert status.cursor.sequence == self.log.sequence, status


class _Rival:
    """Tables and triggers; `prepare` draws the next messages, `call` feeds them."""

    def __init__(self, backend: Any, count: int, scripts: tuple[str, ...], feed: _Feed) -> None:
        self.connection = backend.connect()
        self.stream_of = copy_whole_stream if scripts[0] == "same_tables" else copy_stream
        for script in scripts:
            self.connection.execute((_SQL / f"{script}.sql").read_bytes())
        self.count, self.feed, self.round, self.next = count, feed, 0, 0
        self.messages: list[Transfer] = []
        self.stream = b""

    def prepare(self) -> None:
        self.round += 1
        self.messages = draw(self.count, self.round)
        self.stream = self.stream_of(self.messages, self.next)

    def call(self) -> None:
        self.feed(self, self.messages, self.next)
        self.next += self.count

    def close(self) -> None:
        """The work was done: nothing is in the tables that should not be."""
        row = self.connection.execute("SELECT count(*), (SELECT sum(balance) FROM rival.account) FROM rival.history")
        assert row.fetchone() == (self.next, 0)
        self.connection.close()


def _by_copy(rival: _Rival, _: list[Transfer], __: int, condition: bytes = b"") -> None:
    statement = b"COPY rival.message FROM STDIN (FORMAT binary)" + condition
    with rival.connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(rival.stream)


def _by_unbuffered_copy(rival: _Rival, messages: list[Transfer], first: int) -> None:
    """Faster than COPY's usual way when rows are few, as in ours (ADR 0036)."""
    _by_copy(rival, messages, first, b" WHERE random() >= 0")


def _by_unnest(rival: _Rival, messages: list[Transfer], first: int) -> None:
    senders, recipients, amounts = (list(column) for column in zip(*messages, strict=True))
    rival.connection.execute(
        b"INSERT INTO rival.message SELECT * FROM unnest(%b::int8[], %b::int4[], %b::int4[], %b::int8[])",
        [list(range(first, first + len(messages))), senders, recipients, amounts],
    )


def _row_by_row(rival: _Rival, messages: list[Transfer], first: int) -> None:
    for sequence, message in enumerate(messages, first):
        rival.connection.execute(b"INSERT INTO rival.message VALUES (%b, %b, %b, %b)", [sequence, *message])


def _fastest(backend: Any, count: int, rivals: dict[str, tuple[tuple[str, ...], _Feed]]) -> str:
    """Name of the rival that needs the least time."""
    times = {}
    for name, (scripts, feed) in rivals.items():
        rival = _Rival(backend, count, scripts, feed)
        times[name] = median_seconds(rival.call, prepare=rival.prepare, rounds=5)
        rival.close()
    return min(times, key=lambda name: times[name])


def _row_rivals(upserts: str, updates: str) -> dict[str, tuple[tuple[str, ...], _Feed]]:
    """Row triggers of two scripts, the second of which replaces the first's, fed by both kinds of COPY."""
    return {
        f"{way}, {feed}": (scripts, call)
        for feed, call in (("COPY", _by_copy), ("unbuffered COPY", _by_unbuffered_copy))
        for way, scripts in (("upserts", (upserts,)), ("updates", (upserts, updates)))
    }


_ROW = _row_rivals("row_trigger", "row_trigger_updates")
_SINGLE: dict[str, tuple[tuple[str, ...], _Feed]] = {
    "upserts, row by row": (("row_trigger",), _row_by_row),
    "updates, row by row": (("row_trigger", "row_trigger_updates"), _row_by_row),
}
_STATEMENT: dict[str, tuple[tuple[str, ...], _Feed]] = {
    "statement trigger, COPY": (("row_trigger", "statement_trigger"), _by_copy),
    "statement trigger, unbuffered COPY": (("row_trigger", "statement_trigger"), _by_unbuffered_copy),
    "statement trigger, unnest": (("row_trigger", "statement_trigger"), _by_unnest),
}
_SAME_ROW = _row_rivals("same_tables", "same_tables_updates")
_SAME_STATEMENT: dict[str, tuple[tuple[str, ...], _Feed]] = {
    "statement trigger, COPY": (("same_tables", "same_tables_statement"), _by_copy),
    "statement trigger, unbuffered COPY": (("same_tables", "same_tables_statement"), _by_unbuffered_copy),
}


def _against(rivals: dict[str, tuple[tuple[str, ...], _Feed]], count: int, *, durable: bool = False) -> Result:
    with folder() as at, server(at / "pg") as plain:
        backend = Durable(plain) if durable else plain
        clean(backend)
        name = _fastest(backend, min(count, 1_000) if durable else count, rivals)
        scripts, feed = rivals[name]
        ours, rival = _Ours(backend, count), _Rival(backend, count, scripts, feed)
        found: Comparison = compare(
            Side(ours.call, count, ours.prepare), Side(rival.call, count, rival.prepare), clock="wall", slot_seconds=0
        )
        rival.close()
        ours.worker.stop()
    notes = (f"the rival: {name}, {found.reference_rate:,.0f} messages/s over {ACCOUNTS} accounts",)
    return Result(found.rate, "messages/s", found.ratio, notes)


MEASURES = [
    Measure("K2", "10,000 messages to rows, against a row trigger fed by COPY", 4, lambda: _against(_ROW, 10_000)),
    Measure("K3", "1000 messages to rows, against a row trigger fed by COPY", 2.5, lambda: _against(_ROW, 1_000)),
    Measure(
        "K4",
        "1000 messages to durable rows, against a row trigger fed row by row",
        25,
        lambda: _against(_SINGLE, 1_000, durable=True),
    ),
    Measure(
        "K9",
        "10,000 messages to rows, against the best statement trigger",
        1.0,
        lambda: _against(_STATEMENT, 10_000),
    ),
    Measure("K3t", "K3, into tables with the keys and columns of ours", 2.5, lambda: _against(_SAME_ROW, 1_000)),
    Measure("K9t", "K9, into tables with the keys and columns of ours", 1.0, lambda: _against(_SAME_STATEMENT, 10_000)),
]
