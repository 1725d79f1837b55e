"""The node's shell: several real nodes over the in-process transport, a committer and memory logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

import pytest

from scapp.channels.admission import AdmissionError, Admitted, BaseSnapshot, ChannelContext
from scapp.channels.admission_base import ENTRIES_MIN
from scapp.channels.channel.messages import Status, encode_message
from scapp.channels.channel.session import NOTHING
from scapp.channels.deployment import Deployment, Limits
from scapp.channels.driver import Request
from scapp.channels.entries import Kind, decode_entry
from scapp.channels.errors import LocalError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.log.port import LogCorrupt, Page, Snapshot
from scapp.channels.proposals import PROPOSALS_PER_PEER_MAX
from scapp.channels.runner import QUEUED_BYTES_MAX
from scapp.channels.service import NodeEvent, OpenRequest
from tests.support.fakes import SumAdmission
from tests.support.node_cast import DEPLOYMENT, Cast, opened, until
from tests.support.sim import Sim


@pytest.fixture
async def cast() -> AsyncIterator[Cast]:
    made = Cast()
    yield made
    await made.end()


async def test_two_nodes_open_order_and_close(cast: Cast) -> None:
    """The local service end to end: receipts name the sequence, both logs are equal, the channel ends closed."""
    alice, bob = await cast.node(1), await cast.node(2)
    channel = await opened(alice, bob)
    told: list[str] = []
    for node in (alice, bob):
        node.subscribe(lambda event: told.append(event.detail) if event.kind == "submission_refused" else None)
    first = await bob.submit(channel, [b"one", b"bad", b"two"])
    assert [(r.status, r.sequence) for r in first] == [("accepted", 1), ("refused", None), ("accepted", 2)]
    assert first[1].reason == "the payload is bad"
    assert told == ["2: rejected: the payload is bad"], "once, and to listeners at the author's"
    assert (await alice.submit(channel, [b"three"]))[0].sequence == 3
    await bob.close_channel(channel)
    for node in (alice, bob):
        info = await node.wait_phase(channel, ("closed",), 5)
        assert info.sequence == 5
        assert not info.pending
    logs = [[e for b in node.source.batches(channel) for e in b.entries] for node in (alice, bob)]
    assert logs[0] == logs[1]
    assert [decode_entry(e).kind for e in logs[0]] == [Kind.OPEN, Kind.MESSAGE, Kind.MESSAGE, Kind.MESSAGE, Kind.CLOSE]
    assert alice.source.entries(channel, 2, 4) == logs[0][2:4]
    assert [c.channel_id for c in bob.source.contexts()] == [channel]


async def test_ticks_are_ordered_like_messages(cast: Cast) -> None:
    alice, bob = await cast.node(1), await cast.node(2)
    channel = await opened(alice, bob)
    (receipt,) = await bob.submit(channel, [b""], tick=True)
    assert receipt.status == "accepted"
    assert decode_entry(bob.source.entries(channel, 1, 2)[0]).kind == Kind.TICK


async def test_the_operator_decides_when_policy_asks(cast: Cast) -> None:
    """Why it waits is said, after a restart in the words of that day."""
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log, policy="ask: it is Sunday")
    channel = await alice.open_channel(OpenRequest(peers=(bob.address,), deployment=DEPLOYMENT))
    await until(bob, lambda: bool(bob.channels()))
    assert bob.channel(channel).phase == "proposed"
    assert bob.channel(channel).waiting_for == "this node's acceptance: it is Sunday"
    await bob.stop()
    cast.nodes.remove(bob)
    bob = await cast.node(2, log=log, policy="ask: it is Monday")
    assert bob.channel(channel).waiting_for == "this node's acceptance: it is Monday"
    await bob.accept(channel)
    await bob.wait_phase(channel, ("running",), 5)
    with pytest.raises(LocalError, match="nothing to accept"):
        await bob.accept(channel)


async def test_a_rejected_proposal_says_why_and_stores_nothing(cast: Cast) -> None:
    alice, bob = await cast.node(1), await cast.node(2, policy="reject: unknown app")
    channel = await alice.open_channel(OpenRequest(peers=(bob.address,), deployment=DEPLOYMENT))
    info = await alice.wait_phase(channel, ("rejected",), 5)
    assert "unknown app" in info.reason
    assert bob.channels() == []


async def test_parameters_the_app_refuses_open_nothing(cast: Cast) -> None:
    class Refusing(SumAdmission):
        def try_batch(self, channel_id, first_sequence, candidates, *, strict):  # type: ignore[no-untyped-def]
            from scapp.channels.admission import AdmissionError

            raise AdmissionError("no such app here")

    alice, bob = await cast.node(1, admission=Refusing()), await cast.node(2)
    with pytest.raises(LocalError, match="no such app here"):
        await alice.open_channel(OpenRequest(peers=(bob.address,), deployment=DEPLOYMENT))
    assert alice.channels() == []


async def test_opening_again_with_the_same_nonce_is_refused(cast: Cast) -> None:
    alice, bob = await cast.node(1), await cast.node(2)
    request = OpenRequest(peers=(bob.address,), deployment=DEPLOYMENT, nonce=7)
    await alice.open_channel(request)
    with pytest.raises(LocalError, match="exists already"):
        await alice.open_channel(request)


async def test_unknown_channels_and_own_address_are_refused(cast: Cast) -> None:
    alice = await cast.node(1)
    with pytest.raises(LocalError, match="no channel"):
        alice.channel(bytes(32))  # type: ignore[arg-type]
    with pytest.raises(LocalError, match="own address"):
        alice.add_peer(alice.address, "sim:1")


async def test_garbage_and_foreign_messages_are_counted_and_change_nothing(cast: Cast) -> None:
    """A peer's bytes never crash the node, whatever they are."""
    alice, bob, eve = await cast.node(1), await cast.node(2), await cast.node(3)
    channel = await opened(alice, bob)
    before = alice.channel(channel)
    status = encode_message(Status(channel, 0, 0, 1, bytes(32), True))
    unknown = encode_message(Status(bytes(32), 0, 0, 1, bytes(32), True))
    for sender, data in ((bob, b"\xc1garbage"), (eve, status), (bob, unknown)):
        await alice._on_message(sender.address, data)
    await alice._runners[channel].input(lambda engine, now: NOTHING)  # behind them in the queue
    assert alice.counters()["messages_refused"] == 3
    assert alice.channel(channel) == before


async def test_a_restarted_node_continues_its_channels(cast: Cast) -> None:
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channel = await opened(alice, bob)
    await bob.submit(channel, [b"before"])
    await bob.stop()
    cast.nodes.remove(bob)
    again = await cast.node(2, log=log)
    assert again.channel(channel).sequence == 2
    (receipt,) = await again.submit(channel, [b"after"])
    assert (receipt.status, receipt.sequence) == ("accepted", 2)


class CountingAdmission(SumAdmission):
    """Counts the entries that a load replays."""

    def __init__(self) -> None:
        super().__init__()
        self.replayed = 0

    def load(
        self, context: ChannelContext, batches: Iterable[Sequence[bytes]], snapshot: BaseSnapshot | None = None
    ) -> Admitted:
        held = [list(batch) for batch in batches]
        self.replayed += sum(map(len, held))
        return super().load(context, held, snapshot)


@pytest.mark.parametrize("damaged", [False, True])
async def test_a_stopped_node_saves_admission_and_replays_only_what_came_since(cast: Cast, damaged: bool) -> None:
    """And everything, where its snapshot cannot be used; either way the channel goes on with the right state."""
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channel = await opened(alice, bob)
    await bob.submit(channel, [b"%d" % number for number in range(20)])
    await bob.stop()
    cast.nodes.remove(bob)
    snapshot = log.load_snapshot(channel)
    assert snapshot is not None
    if damaged:
        log.save_snapshot(channel, Snapshot(snapshot.version, snapshot.data[:-1]))
    admission = CountingAdmission()
    again = await cast.node(2, log=log, admission=admission)
    (receipt,) = await again.submit(channel, [b"after"])
    assert (receipt.status, receipt.sequence) == ("accepted", 21)
    assert admission.replayed == (21 if damaged else 0)
    await until(alice, lambda: alice.channel(channel).state_root == again.channel(channel).state_root)


async def test_a_busy_channel_saves_admission_as_it_grows(cast: Cast) -> None:
    """A killed node finds a snapshot that is at most so many entries old."""
    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channel = await opened(alice, bob)
    await bob.submit(channel, [b"%d" % number for number in range(ENTRIES_MIN - 2)])
    assert log.load_snapshot(channel) is None
    await bob.submit(channel, [b"enough"] * 4)
    await bob.submit(channel, [b"taken up once the snapshot is saved"])
    assert log.load_snapshot(channel) is not None


async def test_listeners_hear_what_happens_and_a_failing_one_is_dropped(cast: Cast) -> None:
    alice, bob = await cast.node(1), await cast.node(2)
    heard: list[str] = []

    def failing(event: NodeEvent) -> None:
        raise RuntimeError("listener")

    end = bob.subscribe(lambda event: heard.append(event.kind))
    bob.subscribe(failing)
    channel = await opened(alice, bob)
    await bob.submit(channel, [b"x"])
    end()
    await bob.submit(channel, [b"y"])
    assert heard.count("supported") == 2  # the prefund state and one batch; the second batch came after the end
    assert "opened" in heard


async def test_a_channel_that_halts_is_an_error_in_the_log(
    cast: Cast, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is for acting, and warnings of refusals, which peers cause, must not crowd it out."""
    admission = SumAdmission()
    alice, bob = await cast.node(1), await cast.node(2, admission=admission)
    channel = await opened(alice, bob)

    def gone(*_: object, **__: object) -> Admitted:
        raise AdmissionError("the module is gone")

    monkeypatch.setattr(admission, "try_batch", gone)
    waiting = asyncio.create_task(alice.submit(channel, [b"one"]))
    await until(bob, lambda: bob.channel(channel).phase == "halted")
    waiting.cancel()
    levels = {r.levelname for r in caplog.records if f"0x{channel.hex()}: halted: the module is gone" in r.getMessage()}
    assert levels == {"ERROR"}


async def test_a_submission_without_the_peer_stays_pending(cast: Cast) -> None:
    alice, bob = await cast.node(1), await cast.node(2)
    channel = await opened(alice, bob)
    cast.network.partition([alice.address], [bob.address])
    (receipt,) = await bob.submit(channel, [b"later"], timeout=0.05)
    assert receipt.status == "pending"
    assert bob.channel(channel).pending == 1
    cast.network.heal()
    await until(bob, lambda: not bob.channel(channel).pending)
    assert decode_entry(bob.source.entries(channel, 1, 2)[0]).payload == b"later"


async def test_one_peer_cannot_fill_the_log_with_proposals(cast: Cast) -> None:
    """Only so many channels may wait for the operator; the rest is refused and not stored."""
    alice, bob = await cast.node(1), await cast.node(2, policy="ask")
    for _ in range(PROPOSALS_PER_PEER_MAX):
        await alice.open_channel(OpenRequest(peers=(bob.address,), deployment=DEPLOYMENT))
    await until(bob, lambda: len(bob.channels()) == PROPOSALS_PER_PEER_MAX)
    cast.network.partition([alice.address], [bob.address])
    one_more = await alice.open_channel(OpenRequest(peers=(bob.address,), deployment=DEPLOYMENT))
    engine = alice._runners[one_more].engine
    (proposal,) = [m for send in engine.pending() for m in engine.materialize(send)]
    await bob._on_message(alice.address, proposal)
    assert len(bob.channels()) == PROPOSALS_PER_PEER_MAX
    assert bob.counters()["messages_refused"] == 1
    assert not bob._proposals._creating, "a refused proposal leaves nothing behind"


async def test_a_channel_whose_batches_fit_no_frame_is_neither_opened_nor_accepted(cast: Cast) -> None:
    """Its full batches could never be sent, and it would stand still with the first one."""
    alice, bob = await cast.node(1, frame_bytes_max=2**30), await cast.node(2)
    wide = OpenRequest(peers=(bob.address,), deployment=Deployment(bytes(32), limits=Limits(batch_bytes_max=2**23)))
    with pytest.raises(
        LocalError, match=r"8388608 bytes may need a message of \d+ bytes; this node's frames hold 4194304"
    ):
        await bob.open_channel(wide)
    refused: list[NodeEvent] = []
    bob.subscribe(lambda event: refused.append(event) if event.kind == "refused" else None)
    channel = await alice.open_channel(wide)
    await until(bob, lambda: bool(refused))
    assert "this node's frames hold 4194304" in refused[0].detail
    assert bob.channels() == []
    assert alice.channel(channel).phase == "opening"


async def test_a_busy_channel_holds_up_no_other_of_the_same_peer(cast: Cast) -> None:
    """Messages of one peer are taken in order per channel, not across its channels."""
    alice, bob = await cast.node(1), await cast.node(2)
    busy, idle = await opened(alice, bob), await opened(alice, bob)
    release = asyncio.Event()
    runner = bob._runners[busy]
    answer = runner._answer

    async def stuck(request: Request) -> object:
        await release.wait()
        return await answer(request)

    runner._answer = stuck  # type: ignore[method-assign]
    (pending,) = await alice.submit(busy, [b"held up"], timeout=0.05)
    (receipt,) = await alice.submit(idle, [b"goes on"], timeout=5)
    assert (pending.status, receipt.status) == ("pending", "accepted")
    release.set()
    await until(alice, lambda: not alice.channel(busy).pending)


async def test_a_peer_cannot_queue_without_end(cast: Cast) -> None:
    """Beyond a bound of bytes the peer's link waits for the channel."""
    alice, bob = await cast.node(1), await cast.node(2)
    channel = await opened(alice, bob)
    runner = bob._runners[channel]
    gate = asyncio.Event()
    answer = runner._answer

    async def stuck(request: Request) -> object:
        await gate.wait()
        return await answer(request)

    runner._answer = stuck  # type: ignore[method-assign]
    await alice.submit(channel, [b"first"], timeout=0.05)
    await runner.queue(lambda engine, now: NOTHING, QUEUED_BYTES_MAX)
    more = asyncio.create_task(runner.queue(lambda engine, now: NOTHING, 1))
    await asyncio.sleep(0)
    assert not more.done()
    gate.set()
    await asyncio.wait_for(more, 5)


async def test_a_corrupt_outbox_is_passed_over_and_said(cast: Cast, caplog: pytest.LogCaptureFixture) -> None:
    """One damaged row must not keep every channel of the node closed."""

    class Damaged(MemoryLog):
        def outbox(self) -> list[tuple[bytes, bytes]]:
            raise LogCorrupt("outbox row 00ff: checksum 1, expected 2")

    log = MemoryLog()
    alice, bob = await cast.node(1), await cast.node(2, log=log)
    channel = await opened(alice, bob)
    await bob.stop()
    cast.nodes.remove(bob)
    log.__class__ = Damaged
    again = await cast.node(2, log=log)
    assert (await again.submit(channel, [b"goes on"]))[0].status == "accepted"
    assert "checksum 1, expected 2" in caplog.text
    assert again.counters()["outbox_corrupt"] == 1


class RottenLog(MemoryLog):
    """What is in it can neither be read nor continued."""

    def read(self, stream: bytes, from_version: int = 0) -> Iterator[Page]:
        if stream in self._pages:
            raise LogCorrupt("rotten")
        return super().read(stream, from_version)

    def version(self, stream: bytes) -> int:
        if stream in self._pages:
            raise LogCorrupt("rotten")
        return super().version(stream)


async def test_a_peers_word_about_a_corrupt_channel_is_refused_like_any_other(cast: Cast) -> None:
    """A proposal that is said again included: it fails nothing in the node, and begins no second life."""
    sim = Sim(2)
    said: list[bytes] = []
    sim.tap = lambda sender, to, data: said.append(data) or data  # type: ignore[func-returns-value]
    channel = sim.nodes[0].open(sim.nodes[1:])
    sim.run()
    log = RottenLog()
    for page in sim.nodes[1].log.read(channel):
        log._pages.setdefault(channel, []).append(page)
    bob = await cast.node(2, log=log)
    assert set(bob.corrupt()) == {channel}
    for number, data in enumerate(said):
        await bob._on_message(sim.nodes[0].signer.address, data)
        assert bob.counters()["messages_refused"] == number + 1
    assert bob.channels() == []
