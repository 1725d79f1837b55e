"""G9: 1000 events appended durably in one write, against one `save()` of 1000 events by eventsourcing on SQLite.
G10: 64 appenders at once through the committer, each told only after its event is durable, against `save()` per event.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks._log_events import aggregate_class, encode_all, eventsourcing_application, make_event, support_arguments
from benchmarks.runner import Measure, Result
from benchmarks.timing import Side, compare

EVENTS = 1000
APPENDERS = 64
EVENTS_PER_APPENDER = 16


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="scapp-bench-") as root:
        yield Path(root)


class _Saver:
    """Saves a fresh aggregate with all its events; triggering them is preparation and not timed."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._arguments = [support_arguments(number) for number in range(EVENTS)]
        self._aggregate: Any = None

    def prepare(self) -> None:
        self._aggregate = aggregate_class()()
        for given in self._arguments:
            self._aggregate.support(**given)

    def save(self) -> None:
        if not self._application.save(self._aggregate):
            raise AssertionError("nothing was saved")


def run_batch() -> Result:
    from scapp.channels.log.port import Append, StreamWrite
    from scapp.channels.log.rocks import RocksLog

    events = [make_event(number) for number in range(EVENTS)]
    stream = b"\x01" * 32
    with (
        _directory() as root,
        RocksLog(root / "log") as log,
        eventsourcing_application(root / "reference.sqlite") as application,
    ):

        def append() -> None:
            log.append(Append((StreamWrite(stream, log.version(stream), encode_all(events)),)))

        saver = _Saver(application)
        reference = Side(saver.save, EVENTS, saver.prepare)
        # A slot this short holds one call, as the reference needs it: an aggregate is saved once.
        outcome = compare(Side(append, EVENTS), reference, clock="wall", rounds=31, slot_seconds=0.0005)
    return Result(outcome.rate, "events/s", outcome.ratio, (f"eventsourcing {outcome.reference_rate:.0f} events/s",))


def run_concurrent() -> Result:
    from scapp.channels.log.committer import Committer
    from scapp.channels.log.port import Append, StreamWrite
    from scapp.channels.log.rocks import RocksLog

    events = [make_event(number) for number in range(EVENTS_PER_APPENDER)]
    given = support_arguments(1)
    streams = [bytes([index]) * 32 for index in range(1, APPENDERS + 1)]
    with (
        _directory() as root,
        RocksLog(root / "log") as log,
        Committer(log) as committer,
        asyncio.Runner() as runner,
        eventsourcing_application(root / "reference.sqlite") as application,
    ):

        async def appender(stream: bytes) -> None:
            start = log.version(stream)
            for number, event in enumerate(events):
                await committer.append(Append((StreamWrite(stream, start + number, encode_all((event,))),)))

        async def all_appenders() -> None:
            await asyncio.gather(*[appender(stream) for stream in streams])

        aggregate = aggregate_class()()

        def save_each() -> None:
            for _ in range(EVENTS_PER_APPENDER):
                aggregate.support(**given)
                application.save(aggregate)

        subject = Side(lambda: runner.run(all_appenders()), APPENDERS * EVENTS_PER_APPENDER)
        outcome = compare(subject, Side(save_each, EVENTS_PER_APPENDER), clock="wall", rounds=15)
    return Result(outcome.rate, "events/s", outcome.ratio, (f"eventsourcing {outcome.reference_rate:.0f} events/s",))


MEASURES = [
    Measure("G9", "durable append of a batch of 1000, against eventsourcing on an SQLite file", goal=6, run=run_batch),
    Measure(
        "G10", "64 concurrent appenders, each told when durable, against save() per event", goal=10, run=run_concurrent
    ),
]
