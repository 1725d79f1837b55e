"""A channel's own state across restarts: a snapshot and the events after it give what all events give, or it is passed
over and said so."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels import channel_snapshots
from scapp.channels.batch_index import BATCHES_PER_MARK, BatchIndex
from scapp.channels.channel.events import StateSigned, decode_event
from scapp.channels.channel.model import create
from scapp.channels.driver import ChannelDriver, load
from scapp.channels.entries import Kind
from scapp.channels.errors import CorruptionError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.log.port import Append, EventLog, Snapshot, StreamWrite
from scapp.channels.log_source import LogSource
from scapp.channels.state_snapshots import EVENTS_AT_END, StateSnapshots
from tests.support.sim import Sim, SimNode


def fields(driver: ChannelDriver) -> tuple[Any, ...]:
    """All that a restart must bring back."""
    state = driver.engine.state
    named = {name: getattr(state, name) for name in state.__struct_fields__ if name != "setup"}
    setup = state.setup
    constants = (setup.channel_id, setup.participants, setup.my_index, setup.deployment, setup.slots)
    return named, constants, driver.version, driver.index.saved()


def without_snapshots(log: EventLog) -> MemoryLog:
    """The same events, and no snapshot."""
    copy = MemoryLog()
    for stream in log.streams():
        for page in log.read(stream):
            copy.append(Append((StreamWrite(stream, page.first_version, page.events),)))
    return copy


def lives(seed: int, players: int) -> tuple[Sim, bytes]:
    """A channel that lived through loss and crashes, a snapshot every few events, closed in half of the lives."""
    sim = Sim(players, seed=seed, loss=0.05, duplicate=0.05, reorder=0.1)
    alice = sim.nodes[0]
    channel = alice.open(sim.nodes[1:], slots=(10,) * players)
    sim.run()
    for number in range(6):
        speaker = sim.nodes[sim.random.randrange(players)]
        if channel in speaker.drivers and speaker.engine(channel).phase == "running":
            bad = b"bad" if sim.random.random() < 0.2 else b"good"
            speaker.submit(channel, bad + b" %d" % number, b"move:0:1:1")
        for _ in range(sim.random.randrange(1, 12)):
            sim.step()
        if sim.random.random() < 0.3:
            victim = sim.nodes[sim.random.randrange(players)]
            victim.crash()
            victim.start()
        sim.now_ms += 2_000
        for node in sim.nodes:
            node.tick()
    if seed % 2 and channel in alice.drivers and alice.engine(channel).phase == "running":
        alice.submit(channel, b"", kind=Kind.CLOSE)
    sim.run()
    return sim, channel


@given(st.integers(0, 10_000), st.integers(2, 3))
def test_a_snapshot_and_its_tail_give_what_all_events_give(seed: int, players: int) -> None:
    """State, version and index are equal, and entries are found through either index."""
    sim, channel = lives(seed, players)
    for node in sim.nodes:
        if node.log.version(channel) == 0:
            continue
        short, long = load(node.log, channel, node.signer), load(without_snapshots(node.log), channel, node.signer)
        assert fields(short) == fields(long)
        assert long.snapshot_at == 0
        entries = node.supported(channel)
        source = LogSource(node.log, lambda short=short: {channel: short})  # type: ignore[misc]
        for first in range(len(entries)):
            assert source.entries(channel, first, first + 2) == entries[first : first + 2]  # type: ignore[arg-type]


@pytest.mark.parametrize("forgotten", ["candidates", "outstanding", "decided", "next_counter"])
def test_a_snapshot_that_forgets_something_would_be_found(monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    """The planted bug: the fold that a start begins with lacks a field."""
    original = channel_snapshots.StateCodec.decode

    def forgetful(self: channel_snapshots.StateCodec, data: bytes) -> channel_snapshots.Loaded:
        loaded = original(self, data)
        assert loaded.state is not None
        empty = create(decode_event(next(iter(first_events))))  # type: ignore[arg-type]
        loaded.state = msgspec.structs.replace(loaded.state, **{forgotten: getattr(empty, forgotten)})
        return loaded

    for seed in range(60):
        monkeypatch.undo()
        sim, channel = lives(seed, 3)
        monkeypatch.setattr(channel_snapshots.StateCodec, "decode", forgetful)
        for node in sim.nodes:
            if not node.log.version(channel):
                continue
            first_events = next(node.log.read(channel)).events
            try:
                short = fields(load(node.log, channel, node.signer))
            except CorruptionError:
                return
            if short != fields(load(without_snapshots(node.log), channel, node.signer)):
                return
    raise AssertionError(f"no life misses {forgotten}")


def running(messages: int = 8) -> tuple[SimNode, bytes]:
    """A countersigner whose channel has a snapshot and a tail."""
    sim = Sim(2, seed=3)
    alice, bob = sim.nodes
    channel = alice.open([bob])
    sim.run()
    for number in range(messages):
        alice.submit(channel, b"%d" % number)
        sim.run()
    assert bob.log.load_snapshot(channel, "channel") is not None
    return bob, channel


def test_a_start_folds_only_what_follows_the_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    bob, channel = running()
    snapshot = bob.log.load_snapshot(channel, "channel")
    assert snapshot is not None
    folded: list[int] = []
    inner = channel_snapshots.Loaded.next

    def counted(self: channel_snapshots.Loaded, event: Any) -> channel_snapshots.Loaded:
        folded.append(1)
        return inner(self, event)

    monkeypatch.setattr(channel_snapshots.Loaded, "next", counted)
    driver = load(bob.log, channel, bob.signer)
    assert driver.snapshot_at == snapshot.version
    assert len(folded) == bob.log.version(channel) - snapshot.version < snapshot.version


def replaced(data: bytes, position: int, value: Any) -> bytes:
    items = msgspec.msgpack.decode(data)
    items[position] = value
    return msgspec.msgpack.encode(items)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: b"\xc1" + data,
        lambda data: replaced(data, 0, "channel.0"),
        lambda data: replaced(data, 1, channel_snapshots.FOLD + 1),
        lambda data: replaced(data, 2, 12345),
        lambda data: replaced(data, 5, ["not", "a", "state"]),
    ],
)
def test_a_snapshot_that_cannot_be_used_is_passed_over_and_said_so(
    spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Cut, of another form, another fold, another shape of the state: the events tell the same."""
    bob, channel = running()
    snapshot = bob.log.load_snapshot(channel, "channel")
    assert snapshot is not None
    bob.log.save_snapshot(channel, Snapshot(snapshot.version, spoil(snapshot.data)), "channel")
    driver = load(bob.log, channel, bob.signer)
    assert driver.snapshot_at == 0
    assert fields(driver) == fields(load(without_snapshots(bob.log), channel, bob.signer))
    assert "the channel snapshot is passed over" in caplog.text


def test_the_shape_of_the_state_goes_to_its_bottom() -> None:
    """A new field in a state within the state makes older snapshots foreign as well."""
    schema = msgspec.json.encode(msgspec.json.schema(channel_snapshots._state_type()))
    for name in ("Signed", "Head", "Submission", "Refused"):
        assert name.encode() in schema
    assert b"signatures" in schema


def test_nothing_is_saved_while_events_wait_for_their_append() -> None:
    """A snapshot never runs ahead of the stream."""
    bob, channel = running()
    driver = load(bob.log, channel, bob.signer)
    driver._held.append(b"folded, not stored")
    before = bob.log.load_snapshot(channel, "channel")
    StateSnapshots(bob.log, driver, events_min=1).save()
    assert bob.log.load_snapshot(channel, "channel") == before


def test_a_disk_that_takes_no_snapshot_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    bob, channel = running()
    driver = load(bob.log, channel, bob.signer)
    bob.log.disk.failing = "full"
    keeper = StateSnapshots(bob.log, driver, events_min=1)
    assert keeper.is_due
    keeper.save()
    assert "no snapshot was saved" in caplog.text
    assert not keeper.is_due


def test_large_snapshots_are_saved_less_often() -> None:
    """One event for each so many bytes of the last one."""
    bob, channel = running()
    driver = load(bob.log, channel, bob.signer)
    keeper = StateSnapshots(bob.log, driver, events_min=2)
    keeper.save()
    driver.version += 2
    assert keeper.is_due
    keeper._due_at = keeper._next(512 * 10)
    assert not keeper.is_due
    driver.version += 8
    assert keeper.is_due


def test_a_channel_that_has_ended_is_saved_once_if_that_shortens_the_start() -> None:
    sim = Sim(2, seed=1)
    alice, bob = sim.nodes
    channel = alice.open([bob])
    sim.run()
    alice.submit(channel, b"", kind=Kind.CLOSE)
    sim.run()
    driver = load(bob.log, channel, bob.signer)
    keeper = StateSnapshots(bob.log, driver)
    assert driver.engine.state.phase == "closed"
    assert not keeper.is_due
    keeper._saved_at = driver.version - EVENTS_AT_END
    assert keeper.is_due
    keeper.save()
    assert not keeper.is_due


@given(st.lists(st.integers(0, 3), max_size=120))
def test_every_entry_is_found_from_a_mark_before_it(sizes: list[int]) -> None:
    """At most 15 other batches are passed over; the entry to come stands exactly after the last supported state."""
    index, first, version = BatchIndex(), 0, 1
    places: list[tuple[int, int, int]] = []  # first, end, version before
    for size in sizes:
        before = version
        version += 2
        index.add(size, first + size, version)
        if size:
            places.append((first, first + size, before))
        first += size
    for number, (start, end, before) in enumerate(places):
        for sequence in range(start, end):
            position = index.position_of(sequence)
            assert position <= before
            passed = sum(1 for _, _, other in places[:number] if other >= position)
            assert passed < BATCHES_PER_MARK
    assert index.position_of(first) == index.after_last


def test_the_fold_of_a_signed_state_survives_in_the_candidates() -> None:
    """A snapshot between our signature and the others': what the tail's `supported` refers to stands only in it."""
    sim = Sim(3, seed=5)
    alice = sim.nodes[0]
    channel = alice.open(sim.nodes[1:])
    sim.run()
    alice.submit(channel, b"in flight")
    driver = alice.drivers[channel]
    assert driver.engine.state.candidates
    StateSnapshots(alice.log, driver, events_min=1).save()
    sim.run()
    last_events = [decode_event(data) for page in alice.log.read(channel, driver.snapshot_at) for data in page.events]
    assert any(isinstance(event, StateSigned) for event in last_events)
    again = load(alice.log, channel, alice.signer)
    assert fields(again) == fields(load(without_snapshots(alice.log), channel, alice.signer))
