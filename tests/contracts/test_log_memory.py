"""The log in memory under the contract, and what simulations ask of it beyond that."""

from __future__ import annotations

import pytest

from scapp.channels.log.memory import MemoryLog
from scapp.channels.log.port import Append, EventLog, LogWriteFailed, Snapshot, StreamWrite
from tests.contracts.log_contract import A, B, LogContract, contents, events_of, write


class MemoryHarness:
    def open(self) -> EventLog:
        return MemoryLog()

    def reopen(self, log: EventLog) -> EventLog:
        assert isinstance(log, MemoryLog)
        log.close()
        return log.durable_copy()

    def crash(self, log: EventLog) -> EventLog:
        assert isinstance(log, MemoryLog)
        return log.durable_copy()


class TestMemoryLog(LogContract):
    @pytest.fixture
    def harness(self) -> MemoryHarness:
        return MemoryHarness()


def test_a_power_cut_loses_exactly_what_was_not_durable() -> None:
    """A power cut loses exactly what was not durable."""
    log = MemoryLog()
    log.append(Append((StreamWrite(A, 0, (b"0",)),), {b"k": b"old", b"gone": b"x"}))
    log.save_snapshot(A, Snapshot(1, b"lost"))
    log.append(Append((StreamWrite(A, 1, (b"1",)), StreamWrite(B, 0, (b"0",))), {b"k": b"new"}), durable=False)
    log.append(Append((), {b"gone": None, b"added": b"y"}), durable=False)
    copy = log.durable_copy()
    assert contents(copy) == ({A: [b"0"]}, [(b"gone", b"x"), (b"k", b"old")])
    assert copy.load_snapshot(A) is None
    assert contents(log) == ({A: [b"0", b"1"], B: [b"0"]}, [(b"added", b"y"), (b"k", b"new")])


def test_a_durable_append_makes_everything_before_it_durable_even_when_it_writes_nothing() -> None:
    """A durable append makes everything before it durable even when it writes nothing."""
    log = MemoryLog()
    log.append(write(A, 0, b"0"), durable=False)
    log.append(Append(()))
    assert events_of(log.durable_copy(), A) == [b"0"]


def test_a_refused_append_makes_nothing_durable() -> None:
    """A refused append makes nothing durable."""
    log = MemoryLog()
    log.append(write(A, 0, b"0"), durable=False)
    assert log.append_group([write(A, 0, b"x")])[0] is not None
    assert log.durable_copy().version(A) == 0


def test_the_copy_and_the_original_go_separate_ways() -> None:
    """The copy and the original go separate ways."""
    log = MemoryLog()
    log.append(write(A, 0, b"0"))
    copy = log.durable_copy()
    copy.append(write(A, 1, b"copy"))
    log.append(write(A, 1, b"log"))
    assert (events_of(copy, A), events_of(log, A)) == ([b"0", b"copy"], [b"0", b"log"])


def test_a_broken_disk_refuses_writes_and_still_reads() -> None:
    """A broken disk refuses writes and still reads."""
    with MemoryLog() as log:
        log.append(write(A, 0, b"0"))
        log.append(write(A, 1, b"1"), durable=False)
        log.fail_writes("disk full")
        for attempt in (
            lambda: log.append(write(A, 2, b"2")),
            log.flush,
            lambda: log.save_snapshot(A, Snapshot(1, b"")),
        ):
            with pytest.raises(LogWriteFailed, match="disk full"):
                attempt()
        assert events_of(log, A) == [b"0", b"1"]
    assert events_of(log.durable_copy(), A) == [b"0"]
