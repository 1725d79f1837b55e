"""G11: 1000 events read from disk, checked, decoded and folded, against eventsourcing's `repository.get` on SQLite.

Our stream was written as a channel writes it, ten events a page, and reopened: nothing is left in memory tables.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks._log_events import (
    INITIAL,
    aggregate_class,
    decode,
    event_bytes,
    eventsourcing_application,
    evolve,
    support_arguments,
)
from benchmarks.runner import Measure, Result
from benchmarks.timing import Side, compare

EVENTS = 1000
EVENTS_PER_PAGE = 10
STREAM = b"\x01" * 32


@contextmanager
def reopened_log(path: Path) -> Iterator[Any]:
    """A log of 1000 events, closed and opened again."""
    from scapp.channels.log.port import Append, StreamWrite
    from scapp.channels.log.rocks import RocksLog

    events = event_bytes(EVENTS)
    with RocksLog(path) as log:
        for start in range(0, EVENTS, EVENTS_PER_PAGE):
            page = events[start : start + EVENTS_PER_PAGE]
            log.append(Append((StreamWrite(STREAM, start, page),)), durable=False)
    with RocksLog(path) as log:
        yield log


def rebuild(log: Any) -> None:
    """Fold the whole stream; raises when an event is missing."""
    from scapp.channels.log.fold import fold

    state, version = fold(log, STREAM, decode, evolve, INITIAL)
    if (version, state.turn) != (EVENTS, EVENTS - 1):
        raise AssertionError(f"rebuilt {version} events up to turn {state.turn}, expected {EVENTS}")


def run() -> Result:
    with (
        tempfile.TemporaryDirectory(prefix="scapp-bench-") as root,
        reopened_log(Path(root) / "log") as log,
        eventsourcing_application(Path(root) / "reference.sqlite") as application,
    ):
        aggregate = aggregate_class()()
        for number in range(EVENTS - 1):  # its creation is an event as well
            aggregate.support(**support_arguments(number))
        application.save(aggregate)

        def get() -> None:
            if application.repository.get(aggregate.id).seen != EVENTS - 1:
                raise AssertionError("the reference lost events")

        outcome = compare(Side(lambda: rebuild(log), EVENTS), Side(get, EVENTS), clock="thread", rounds=15)
    return Result(outcome.rate, "events/s", outcome.ratio, (f"eventsourcing {outcome.reference_rate:.0f} events/s",))


MEASURES = [Measure("G11", "rebuild 1000 events from disk, against eventsourcing repository.get", goal=20, run=run)]
