"""The admission base across restarts: snapshots that fit, that do not, and the comparison before anything is signed."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scapp.channels.admission import AdmissionError, Admitted
from scapp.channels.admission_base import AdmissionBase
from scapp.channels.driver import load
from scapp.channels.log.port import Snapshot
from scapp.channels.log_source import LogSource
from tests.support.disk import DiskLog
from tests.support.fakes import SumAdmission
from tests.support.sim import Sim, SimNode

Saved = tuple[str, int, bytes, bytes, bytes]


def channel_of(batches: int) -> tuple[SimNode, bytes]:
    """A countersigner of a channel with so many batches after entry 0, two messages each."""
    sim = Sim(2)
    alice, bob = sim.nodes
    channel = alice.open([bob], slots=(10, 5))
    sim.run()
    for number in range(batches):
        alice.submit(channel, b"move:0:1:1", b"message %d" % number)
        sim.run()
    return bob, channel


class Restart:
    """The node's log as a new process finds it, and the admission that is loaded from it."""

    def __init__(self, node: SimNode, channel: bytes, log: DiskLog | None = None) -> None:
        self.log = log or node.log
        self.admission = SumAdmission()
        self.driver = load(self.log, channel, node.signer)
        source = LogSource(self.log, lambda: {channel: self.driver})
        self.base = AdmissionBase(self.admission, self.log, source, self.driver, entries_min=3)
        self.channel = channel
        self.sequence = self.driver.engine.state.sequence

    def load(self, sequence: int | None = None) -> Admitted:
        """Load, and tell what the base is then."""
        self.base.load(self.sequence if sequence is None else sequence)
        return Admitted((), (), *self.admission.bases[self.channel])

    def saved(self) -> tuple[int, Saved]:
        """Version and content of the snapshot in the log."""
        snapshot = self.log.load_snapshot(self.channel)
        assert snapshot is not None
        return snapshot.version, msgspec.msgpack.decode(snapshot.data, type=Saved)

    def save(self, version: int, saved: Saved | bytes) -> None:
        data = saved if isinstance(saved, bytes) else msgspec.msgpack.encode(saved)
        self.log.save_snapshot(self.channel, Snapshot(version, data))


def without_snapshots(node: SimNode) -> DiskLog:
    """The same events, and nothing else."""
    copy = node.log.durable_copy()
    copy.disk.tables["snapshots"].clear()
    return copy.durable_copy()


@settings(max_examples=25)
@given(st.integers(0, 12), st.integers(0, 12))
def test_with_and_without_snapshot_the_base_is_the_same(batches: int, more: int) -> None:
    """Wherever the snapshot was taken and however much came after it."""
    node, channel = channel_of(batches)
    first = Restart(node, channel)
    first.load()
    first.base.saved_at = 0
    first.base.save()
    assert first.saved()[1][1] == first.sequence
    alice = node.net.nodes[0]
    for number in range(more):
        alice.submit(channel, b"more %d" % number)
        node.net.run()
    node.log.flush()
    assert Restart(node, channel).load() == Restart(node, channel, without_snapshots(node)).load()


def test_only_the_entries_after_the_snapshot_are_replayed() -> None:
    """Restart costs what came since, not the whole history."""
    node, channel = channel_of(8)
    restart = Restart(node, channel)
    taken = restart.saved()[1][1]
    assert taken > 10
    seen: list[bytes] = []
    apply = restart.admission._apply
    restart.admission._apply = lambda state, entry: (seen.append(entry), apply(state, entry))[1]  # type: ignore[method-assign]
    restart.load()
    assert len(seen) == restart.sequence - taken


def test_a_snapshot_is_saved_once_enough_is_new_and_never_twice() -> None:
    node, channel = channel_of(1)
    restart = Restart(node, channel, without_snapshots(node))
    assert not restart.base.is_due  # nothing is loaded
    restart.base.save()
    assert restart.log.load_snapshot(channel) is None
    restart.load()
    assert restart.base.is_due
    restart.base.save()
    assert not restart.base.is_due
    version, _ = restart.saved()
    restart.save(version, b"a mark")
    restart.base.save()
    found = restart.log.load_snapshot(channel)
    assert found is not None
    assert found.data == b"a mark"


def test_large_snapshots_are_due_less_often() -> None:
    """Saving stays a small part of the work when the tables are large."""
    node, channel = channel_of(3)
    restart = Restart(node, channel)
    restart.load()
    restart.base.saved_at, restart.base._saved_bytes = 0, 3 * 1024
    assert restart.base.is_due
    restart.base._saved_bytes = 1024 * 1024
    assert not restart.base.is_due


def bent(position: int, value: object) -> Callable[[Saved], Saved]:
    return lambda saved: (*saved[:position], value, *saved[position + 1 :])  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (lambda saved: b"\xc1 no MessagePack", "does not decode"),
        (lambda saved: msgspec.msgpack.encode(saved)[:-1], "does not decode"),
        (bent(1, 10_000), "the snapshot holds 10000 entries"),
        (bent(1, 3), "from sequence|no batch ends at sequence"),
        (bent(2, b"\7" * 32), "from sequence|not the signed ones"),
        (bent(4, b"\xc1"), "the snapshot cannot be used"),
        (bent(4, msgspec.msgpack.encode((bytes(32), [bytes(32)] * 2))), "gives root 0x"),
    ],
    ids=["garbage", "cut", "ahead", "sequence", "another log", "data", "wrong tables"],
)
@pytest.mark.parametrize("tail", [0, 1])
def test_a_snapshot_that_does_not_fit_is_passed_over_with_a_warning(
    caplog: pytest.LogCaptureFixture, bend: Callable[[Saved], Saved | bytes], said: str, tail: int
) -> None:
    """The whole log is replayed instead, with the same result, whether or not entries follow the snapshot."""
    node, channel = channel_of(5)
    right = Restart(node, channel, without_snapshots(node)).load()
    taken = Restart(node, channel)
    taken.load()
    taken.base.saved_at = 0
    taken.base.save()
    version, saved = taken.saved()
    if tail:
        node.net.nodes[0].submit(channel, b"later")
        node.net.run()
        node.log.flush()
        right = Restart(node, channel, without_snapshots(node)).load()
    restart = Restart(node, channel)
    if restart.saved()[0] > version:
        node.log._snapshots.clear()
    restart.save(version, bend(saved))
    with caplog.at_level(logging.WARNING):
        assert restart.load() == right
    assert "a snapshot is passed over" in caplog.text
    assert re.search(said, caplog.text)


def test_a_snapshot_of_another_form_says_nothing() -> None:
    """Another release's snapshot is no fault: the log tells everything."""
    node, channel = channel_of(5)
    restart = Restart(node, channel)
    version, saved = restart.saved()
    restart.save(version, ("admission.9", *saved[1:]))
    assert restart.load() == Restart(node, channel, without_snapshots(node)).load()


def test_a_crash_before_the_snapshot_is_durable_loses_only_the_snapshot() -> None:
    """It is never the only copy: whatever survives, the base is the same."""
    node, channel = channel_of(6)
    right = Restart(node, channel, without_snapshots(node)).load()
    live = Restart(node, channel)
    live.load()
    live.base.saved_at = 0
    live.base.save()  # unsynced: a power cut now takes it back
    after = node.log.durable_copy()
    assert after.load_snapshot(channel) != node.log.load_snapshot(channel)
    assert Restart(node, channel, after).load() == right


def test_what_replays_differently_is_never_signed_on() -> None:
    """Another root than the signed one is an error after a snapshot and after the whole log."""
    node, channel = channel_of(4)
    for log in (node.log, without_snapshots(node)):
        restart = Restart(node, channel, log)
        apply = restart.admission._apply
        restart.admission._apply = lambda state, entry, apply=apply: (bytes(32), apply(state, entry)[1])  # type: ignore[method-assign, misc]
        with pytest.raises(AdmissionError, match=r"replaying the entries before sequence 9 gives root 0x0000"):
            restart.load()
        assert not restart.base.loaded


def test_a_sequence_inside_a_batch_or_beyond_the_log_is_an_error() -> None:
    """Bases end where signed states end."""
    node, channel = channel_of(2)
    for sequence in (2, 7):
        with pytest.raises(AdmissionError, match=f"no batch ends at sequence {sequence}"):
            Restart(node, channel, without_snapshots(node)).load(sequence)


def test_a_log_that_takes_no_snapshot_costs_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """The disk is full: a warning, and the channel goes on."""
    node, channel = channel_of(3)
    restart = Restart(node, channel, without_snapshots(node))
    restart.load()
    restart.log.disk.failing = "full"
    restart.base.save()
    assert "no snapshot was saved" in caplog.text
    assert restart.base.loaded
    restart.base.unload()
    restart.base.unload()
    assert not restart.admission.bases
