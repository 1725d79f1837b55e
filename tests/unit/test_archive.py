"""Channels that are over stay on the disk: who counts as over, what a start leaves there, and who gets it back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

from scapp.channels import channel_snapshots, putting_away
from scapp.channels.channel.events import Restored, Retired, decode_event, encode_event, retired_by
from scapp.channels.channel.messages import Countersign, Status, encode_message
from scapp.channels.channel.model import Backed, ChannelState, Recovery, Submission
from scapp.channels.channel.retiring import retirement
from scapp.channels.channel.session import NOTHING
from scapp.channels.driver import load
from scapp.channels.errors import CorruptionError, LocalError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.log.port import Append, LogCorrupt, LogReadFailed, Page, StreamWrite
from scapp.channels.node import Node
from scapp.channels.restoring import mark_restored
from scapp.channels.service import OpenRequest
from scapp.channels.signing import Signer
from scapp.channels.types import ChannelId
from tests.support.fakes import SumAdmission
from tests.support.node_cast import DEPLOYMENT, Cast, opened, until
from tests.support.sim import Sim, whole
from tests.support.virtual_app_scene import Scene


@pytest.fixture
async def cast() -> AsyncIterator[Cast]:
    made = Cast()
    yield made
    await made.end()


async def closed(alice: Node, bob: Node, messages: int = 2) -> ChannelId:
    """A channel that ran and was closed."""
    channel = await opened(alice, bob)
    for number in range(messages):
        await bob.submit(channel, [b"%d" % number])
    await bob.close_channel(channel)
    for node in (alice, bob):
        await node.wait_phase(channel, ("closed",), 5)
    return channel


async def again(cast: Cast, node: Node, key: int, log: MemoryLog) -> Node:
    """The node, started again over that log."""
    await node.stop()
    return await cast.node(key, log=log)


def last_event(log: MemoryLog, channel: ChannelId) -> object:
    return decode_event(log.last_events([channel])[channel])


# -- who is over ------------------------------------------------------------------------------------------------------


def closed_state() -> ChannelState:
    """Of an unfunded channel with its final state."""
    sim = Sim(2, seed=1)
    alice, bob = sim.nodes
    channel = alice.open([bob])
    sim.run()
    alice.submit(channel, b"", kind=3)  # type: ignore[arg-type]  # Kind.CLOSE
    sim.run()
    return alice.engine(channel).state


def test_a_channel_without_money_is_over_with_its_final_state_unless_something_is_open() -> None:
    state = closed_state()
    replace = msgspec.structs.replace
    fact = retirement(state)
    assert fact == Retired("closed", state.turn, state.setup.deployment_id)
    open_ones = {
        "it recovers": replace(state, recovery=Recovery(b"\x01" * 16)),
        "a submission is undecided": replace(state, outstanding=(Submission(9, 1, b"?"),)),
        "a state is signed above the head": replace(state, candidates=(state.prefund,)),
        "it runs": replace(state, head=replace(state.head, is_final=False)),
        "it is proposed": replace(state, head=None),
    }
    assert {why: retirement(each) for why, each in open_ones.items()} == dict.fromkeys(open_ones)
    assert retirement(replace(state, head=None, turn=-1, rejected="no")) == Retired("rejected", -1, fact.deployment_id)
    assert retirement(replace(state, rejected="given up after everybody had signed")) is None


def test_a_virtual_channel_is_over_once_its_ledgers_have_released_it() -> None:
    """A final state is not enough; one that was given up is told to the ledgers as long as they may know it."""
    scene = Scene(1)
    scene.run()
    scene.close()
    state = scene.state(scene.alice)
    assert (state.phase, retirement(state)) == ("closed", None)
    scene.behind.calm()
    state = scene.state(scene.alice)
    assert retirement(state) == Retired("settled", state.turn, state.setup.deployment_id)
    known = msgspec.structs.replace(state, rejected="no", head=None)
    assert known.backed is not None
    assert retirement(known) is None
    assert retirement(msgspec.structs.replace(known, backed=Backed())) is not None


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x90", b"\x91\xa9retired.1", b"\x91" * 5_000])
def test_what_is_no_whole_fact_of_the_end_is_none(data: bytes) -> None:
    assert retired_by(data) is None


# -- what a start leaves there ----------------------------------------------------------------------------------------


async def test_a_start_leaves_it_on_the_disk_and_whoever_asks_sees_what_was_there(cast: Cast) -> None:
    """The same figures as before the restart, and as a node that loads it; entries and context as well."""
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channel, live = await closed(alice, bob), await opened(alice, bob)
    before, context = bob.channel(channel), bob.source.context(channel)
    entries = bob.source.entries(channel, 0, 99)
    bob = await again(cast, bob, 2, log)
    assert [info.channel_id for info in bob.channels()] == [live]
    assert {c: each.phase for c, each in bob.archived().items()} == {channel: "closed"}
    assert bob.archived()[channel].turn == before.turn
    assert bob.channel(channel) == before
    assert await bob.read_archived([channel, live]) == [before]
    assert bob.source.entries(channel, 0, 99) == entries
    assert bob.source.context(channel) == context
    assert [each.channel_id for each in bob.source.contexts()] == [live]
    assert [info.channel_id for info in bob.channels()] == [live], "a look brings nothing into memory"
    with pytest.raises(LocalError, match="the channel is closed"):
        await bob.submit(channel, [b"late"])
    assert (bob.was_archived(channel), bob.archived()) == (True, {})
    assert bob.channel(channel) == before


async def test_a_log_of_an_older_release_or_a_kill_before_the_fact_costs_one_more_start(
    cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    """The log as it was when the channel had closed: the next start finds out, says so, and stores the fact."""
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channel = await closed(alice, bob)
    before, old = bob.channel(channel), log.durable_copy()
    assert not isinstance(last_event(old, channel), Retired)
    version = old.version(channel)
    caplog.set_level("INFO")
    bob = await again(cast, bob, 2, old)
    assert (list(bob.archived()), bob.channels(), bob.channel(channel)) == ([channel], [], before)
    assert "1 channels are over" in caplog.text
    assert (old.version(channel), last_event(old, channel)) == (version + 1, retirement(_state(old, bob, channel)))
    caplog.clear()
    bob = await again(cast, bob, 2, old)
    assert (list(bob.archived()), old.version(channel)) == ([channel], version + 1)
    assert "are over" not in caplog.text


async def test_a_power_cut_that_loses_the_fact_loses_nothing_else(cast: Cast) -> None:
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channel = await closed(alice, bob)
    before = bob.channel(channel)
    await bob.stop()
    assert isinstance(last_event(log, channel), Retired)
    cut = log.durable_copy()
    assert not isinstance(last_event(cut, channel), Retired)
    bob = await cast.node(2, log=cut)
    assert (list(bob.archived()), bob.channel(channel)) == ([channel], before)


async def test_a_channel_whose_end_a_peer_has_not_heard_of_is_loaded_as_ever(cast: Cast) -> None:
    """A rejection waits in the outbox until it is acknowledged."""
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log, policy="ask: why not")
    channel = await alice.open_channel(OpenRequest(peers=(bob.address,), deployment=DEPLOYMENT))
    await until(bob, lambda: bool(bob.channels()))
    await alice.stop()
    await bob.reject(channel, "no")
    bob = await again(cast, bob, 2, log)
    assert [info.phase for info in bob.channels()] == ["rejected"]
    assert bob.archived() == {}


class DamagedLog(MemoryLog):
    """Its disk has damaged pages of one stream: its last one too, or those before alone."""

    damaged, last = b"", False

    def read(self, stream: bytes, from_version: int = 0) -> Iterator[Page]:
        if stream == self.damaged:
            raise LogCorrupt(f"stream {stream.hex()}: checksum")
        return super().read(stream, from_version)

    def last_events(self, streams: Any) -> dict[bytes, bytes]:
        return super().last_events([each for each in streams if not (self.last and each == self.damaged)])


@pytest.mark.parametrize("last", [True, False])
async def test_damage_is_met_at_the_start_or_by_whoever_asks_and_stops_no_other_channel(cast: Cast, last: bool) -> None:
    """Where the page with the fact is whole, the start does not notice."""
    log = DamagedLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channel, other = await closed(alice, bob), await closed(alice, bob)
    await bob.stop()
    log.damaged, log.last = channel, last
    bob = await cast.node(2, log=log)
    assert (channel in bob.corrupt(), channel in bob.archived()) == (last, not last)
    with pytest.raises(CorruptionError, match="checksum"):
        bob.channel(channel)
    assert len(await bob.read_archived([channel, other])) == 1
    with pytest.raises(CorruptionError, match="checksum"):
        await bob.recover(channel)
    assert (list(bob.corrupt()), list(bob.archived())) == ([channel], [other])
    assert bob.channel(other).phase == "closed"


async def test_a_look_saves_what_an_upgrade_has_made_useless(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its snapshot is of another release: the next look need not fold the whole stream."""
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channel = await closed(alice, bob, 50)
    bob = await again(cast, bob, 2, log)
    before, fresh = bob.channel(channel), bob._channels.archive.driver
    driver = fresh(channel)
    assert driver is not None
    assert driver.snapshot_at
    monkeypatch.setattr(channel_snapshots, "FOLD", channel_snapshots.FOLD + 1)
    seen = [fresh(channel), fresh(channel)]
    assert [each.snapshot_at if each is not None else None for each in seen] == [0, driver.version]
    assert bob.channel(channel) == before


async def test_a_channel_of_another_key_is_told_when_it_is_asked_for(cast: Cast) -> None:
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channel = await closed(alice, bob)
    await bob.stop()
    carol = await cast.node(3, log=log)
    with pytest.raises(CorruptionError, match="it is of the key 0x"):
        carol.channel(channel)


async def test_a_restore_leaves_it_alone_and_marks_the_others(cast: Cast) -> None:
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    over, live = await closed(alice, bob), await opened(alice, bob)
    before = bob.channel(over)
    await bob.stop()
    log.flush()
    backup = log.durable_copy()
    assert mark_restored(backup, b"\x01" * 16, 2, 1) == {}
    assert isinstance(last_event(backup, over), Retired)
    assert isinstance(last_event(backup, live), Restored)
    bob = await cast.node(2, log=backup)
    await bob.wait_phase(live, ("running",), 5)
    assert (list(bob.archived()), bob.channel(over)) == ([over], before)


# -- who gets it back -------------------------------------------------------------------------------------------------


async def test_a_peer_that_lacks_the_final_state_gets_it(cast: Cast) -> None:
    """It was killed before it could store the end, and asks when it is back: the other has put the channel away."""
    log, mine = MemoryLog(), MemoryLog()
    alice, bob = await cast.node(1, log=mine), await cast.node(2, log=log)
    channel = await opened(alice, bob)
    behind = mine.durable_copy()
    await bob.close_channel(channel)
    for node in (alice, bob):
        await node.wait_phase(channel, ("closed",), 5)
    await alice.stop()
    bob = await again(cast, bob, 2, log)
    assert list(bob.archived()) == [channel]
    alice = await cast.node(1, log=behind)
    await alice.wait_phase(channel, ("closed",), 5)
    assert bob.was_archived(channel)
    assert alice.channel(channel).log_root == bob.channel(channel).log_root


async def test_only_its_participants_bring_it_back(cast: Cast) -> None:
    """Anybody may know its id."""
    log = MemoryLog()
    alice, bob, carol = await cast.node(1), await cast.node(2, log=log), await cast.node(3)
    channel = await closed(alice, bob)
    bob = await again(cast, bob, 2, log)
    asked = encode_message(Status(channel, 0, 0, 1, bytes(32), True))
    await bob._on_message(carol.address, asked)
    assert (bob.counters()["messages_refused"], list(bob.archived())) == (1, [channel])
    await bob._on_message(alice.address, asked)
    assert bob.was_archived(channel)


async def test_what_was_stored_since_a_look_is_not_passed_over(cast: Cast) -> None:
    """It was brought back and put away again while somebody's message waited for the look."""
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channel = await closed(alice, bob)
    bob = await again(cast, bob, 2, log)
    looked, fact = bob._channels.archive.driver(channel), last_event(log, channel)
    assert isinstance(fact, Retired)
    log.append(Append((StreamWrite(channel, log.version(channel), (encode_event(fact),)),)))
    runner = bob._channels.awake(channel, looked)
    assert runner is not None
    assert runner.driver is not looked
    assert runner.driver.version == log.version(channel)


async def test_it_goes_to_the_disk_some_time_after_its_last_use_while_the_node_runs(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And comes back, and goes again, with one fact in the log; what runs stays."""
    monkeypatch.setattr(putting_away, "UNUSED_MS", -1)
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channel, live = await closed(alice, bob), await opened(alice, bob)
    before = bob.channel(channel)
    stop_ticks(bob)
    await bob._putting_away.round()
    assert ([info.channel_id for info in bob.channels()], list(bob.archived())) == ([live], [channel])
    version, source_version = log.version(channel), bob.source.archive_version()
    await bob._on_message(alice.address, encode_message(Status(channel, 0, 0, 1, bytes(32), True)))
    await until_idle(bob, channel)
    assert (bob.was_archived(channel), bob.channel(channel)) == (True, before)
    await bob._putting_away.round()
    assert (list(bob.archived()), bob.was_archived(channel), log.version(channel)) == ([channel], False, version)
    assert bob.source.archive_version() > source_version
    assert bob.channel(channel) == before


async def test_an_opening_that_was_turned_down_goes_too_with_all_that_admission_holds_of_it(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch that lies on the base is its own opening, which nobody signs any more."""
    monkeypatch.setattr(putting_away, "UNUSED_MS", -1)
    admission = SumAdmission()
    alice, bob = await cast.node(1, admission=admission), await cast.node(2, policy="reject: no")
    channel = await alice.open_channel(OpenRequest(peers=(bob.address,), deployment=DEPLOYMENT))
    await alice.wait_phase(channel, ("rejected",), 5)
    stop_ticks(alice)
    await until_idle(alice, channel)
    await alice._putting_away.round()
    assert (list(alice.archived()), admission.bases) == ([channel], {})


@pytest.mark.parametrize("gone", [False, True])
async def test_an_opening_that_is_signed_after_all_is_still_turned_down(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """By one who has also said no: the base was freed, and comes back for what everybody has signed."""
    monkeypatch.setattr(putting_away, "UNUSED_MS", -1)
    alice, bob = await cast.node(1), await cast.node(2, policy="reject: no")
    channel = await alice.open_channel(OpenRequest(peers=(bob.address,), deployment=DEPLOYMENT))
    await alice.wait_phase(channel, ("rejected",), 5)
    stop_ticks(alice)
    await until_idle(alice, channel)
    prefund = alice._runners[channel].engine.state
    signature = Signer(bytes([2]) * 32).sign(prefund.setup.hash(prefund.prefund))
    if gone:
        await alice._putting_away.round()
    await alice._on_message(bob.address, encode_message(Countersign(channel, 0, signature)))
    await until_idle(alice, channel)
    info = alice.channel(channel)
    assert (info.phase, info.turn, alice.counters().get("channels_halted", 0)) == ("rejected", 0, 0)
    await alice._putting_away.round()
    assert alice.archived() == {}, "everybody has signed it: whoever funds it may hear more"


async def test_it_stays_while_the_entries_of_a_full_set_are_asked_for(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(putting_away, "UNUSED_MS", -1)
    alice, bob = await cast.node(1), await cast.node(2)
    channel = await closed(alice, bob)
    stop_ticks(bob)
    engine = bob._runners[channel].engine
    engine.session.wanted = engine.state.prefund
    await bob._putting_away.round()
    assert bob.archived() == {}
    engine.session.wanted = None
    await bob._putting_away.round()
    assert list(bob.archived()) == [channel]


async def test_a_disk_that_takes_no_more_keeps_it_in_memory(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(putting_away, "UNUSED_MS", -1)
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channel = await closed(alice, bob)
    stop_ticks(bob)
    log.fail_writes("no space left")
    await bob._putting_away.round()
    assert ([info.channel_id for info in bob.channels()], bob.archived()) == ([channel], {})


async def test_a_start_on_a_disk_that_takes_no_more_leaves_it_there_without_the_fact(
    cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    """What the fact says was computed from what is stored: the next start computes it again."""
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channel = await closed(alice, bob)
    before, old = bob.channel(channel), log.durable_copy()
    old.fail_writes("no space left")
    bob = await again(cast, bob, 2, old)
    assert (bob.channels(), list(bob.archived()), bob.channel(channel)) == ([], [channel], before)
    assert "could not be marked so" in caplog.text


async def test_a_node_that_stops_while_channels_go_leaves_no_task_behind(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round is broken off between two of them."""
    monkeypatch.setattr(putting_away, "UNUSED_MS", -1)
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channels = [await closed(alice, bob) for _ in range(3)]
    stop_ticks(bob)
    runners = list(bob._runners.values())
    going = asyncio.create_task(bob._putting_away.round())
    await asyncio.sleep(0)
    assert list(bob.archived()) == channels
    going.cancel()
    await bob.stop()
    assert all(runner._task.done() for runner in runners)
    bob = await cast.node(2, log=log)
    assert sorted(bob.archived()) == sorted(channels)


async def test_a_disk_that_cannot_be_read_for_a_while_loses_no_channel(cast: Cast) -> None:
    class Away(MemoryLog):
        away = False

        def read(self, stream: bytes, from_version: int = 0) -> Iterator[Page]:
            if self.away:
                raise LogReadFailed("input/output error")
            return super().read(stream, from_version)

    log = Away()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channel = await closed(alice, bob)
    before = bob.channel(channel)
    bob = await again(cast, bob, 2, log)
    log.away = True
    with pytest.raises(LocalError, match="cannot be read from the disk now"):
        await bob.recover(channel)
    await bob._on_message(alice.address, encode_message(Status(channel, 0, 0, 1, bytes(32), True)))
    assert bob.counters()["messages_refused"] == 1
    log.away = False
    assert bob.channel(channel) == before
    with pytest.raises(LocalError, match="nothing to recover from"):
        await bob.recover(channel)


def stop_ticks(node: Node) -> None:
    """What is to be put away is looked for when the test says so."""
    assert node._ticker is not None
    node._ticker.cancel()


async def until_idle(node: Node, channel: ChannelId) -> None:
    await node._runners[channel].input(lambda engine, now: NOTHING)


def test_events_behind_the_fact_are_folded_as_ever() -> None:
    """The log of a channel that was asked for and has stored something since: the fact changes nothing."""
    sim = Sim(2, seed=3)
    alice, bob = sim.nodes
    channel = alice.open([bob])
    sim.run()
    sim.tick()
    driver = alice.drivers[channel]
    fact = encode_event(Retired("closed", 1, bytes(32)))
    before, version = whole(driver), alice.log.version(channel)
    alice.log.append(Append((StreamWrite(channel, version, (fact,)),)))
    assert whole(load(alice.log, channel, alice.signer)) == before


def _state(log: MemoryLog, node: Node, channel: ChannelId) -> ChannelState:
    return load(log, channel, node._shared.signer).engine.state
