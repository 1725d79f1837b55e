"""The log on a simulated disk under the contract of all logs, and what its disk does that no other adapter shows."""

from __future__ import annotations

import random

import pytest

from scapp.channels.log.port import EventLog, LogClosed, LogCorrupt, LogWriteFailed, Snapshot
from tests.contracts.log_contract import A, B, LogContract, contents, events_of, write
from tests.support.disk import DiskLog, SimDisk


class DiskHarness:
    def open(self) -> EventLog:
        return DiskLog(SimDisk())

    def reopen(self, log: EventLog) -> EventLog:
        assert isinstance(log, DiskLog)
        log.close()
        return DiskLog(log.disk)

    def crash(self, log: EventLog) -> EventLog:
        assert isinstance(log, DiskLog)
        return DiskLog(log.disk)  # the process dies, the machine goes on: its page cache stays


class TestDiskLog(LogContract):
    @pytest.fixture
    def harness(self) -> DiskHarness:
        return DiskHarness()


def written(count: int, durable: int) -> DiskLog:
    """`count` appends, of which the first `durable` are."""
    log = DiskLog(SimDisk())
    for version in range(count):
        log.append(write(A, version, b"event %d" % version), durable=version < durable)
    return log


@pytest.mark.parametrize("seed", range(40))
def test_a_power_cut_leaves_all_that_was_acknowledged_and_a_prefix_of_the_rest(seed: int) -> None:
    """However the last record is torn."""
    log = written(9, 4)
    log.disk.power_cut(random.Random(seed))
    left = events_of(DiskLog(log.disk), A)
    assert left == [b"event %d" % version for version in range(len(left))]
    assert len(left) >= 4


def test_every_length_of_the_torn_end_occurs() -> None:
    """Else the draws would show less than they seem to."""
    lengths = set()
    for seed in range(200):
        log = written(6, 2)
        log.disk.power_cut(random.Random(seed))
        lengths.add(len(events_of(DiskLog(log.disk), A)))
    assert lengths == {2, 3, 4, 5, 6}


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_end_is_cut_or_refused_and_never_read(seed: int) -> None:
    log = written(6, 3)
    log.disk.power_cut(random.Random(seed), damage=1.0)
    try:
        left = events_of(DiskLog(log.disk), A)
    except LogCorrupt:
        return
    assert left == [b"event %d" % version for version in range(len(left))]
    assert len(left) >= 3


@pytest.mark.parametrize("seed", range(80))
def test_rot_of_anything_acknowledged_is_noticed(seed: int) -> None:
    """A page, a head, an outbox row or a snapshot, in the tables or in the write-ahead file: refused or passed over,
    and what is read is what was written."""
    log = written(5, 5)
    log.append(write(B, 0, b"other"))
    log.save_snapshot(A, Snapshot(5, b"shortcut"))
    log.flush()
    right = contents(log)
    disk = log.disk
    if seed % 2:
        DiskLog(disk)  # brings the write-ahead file into the tables
    family = disk.rot(random.Random(seed))
    try:
        again = DiskLog(disk)
        snapshot = again.load_snapshot(A)
        assert contents(again) == right
    except LogCorrupt:
        assert family in ("file", "pages", "heads")
    else:
        assert family == "snapshots"
        assert snapshot is None


def test_a_full_disk_ends_writing_and_loses_nothing() -> None:
    log = written(3, 3)
    log.disk.failing = "full"
    with pytest.raises(LogWriteFailed, match="no space"):
        log.append(write(A, 3, b"too much"))
    with pytest.raises(LogClosed):
        log.append(write(A, 3, b"too much"))
    log.disk.failing = ""
    assert len(events_of(DiskLog(log.disk), A)) == 3


def test_after_a_failed_sync_the_write_is_there_or_not_and_nothing_follows_it() -> None:
    found = set()
    for seed in range(30):
        log = written(3, 3)
        log.disk.failing = "sync"
        with pytest.raises(LogWriteFailed, match="syncing"):
            log.append(write(A, 3, b"last"))
        with pytest.raises(LogClosed):
            log.append(write(A, 4, b"after"))
        log.disk.failing = ""
        log.disk.power_cut(random.Random(seed))
        found.add(len(events_of(DiskLog(log.disk), A)))
    assert found == {3, 4}
