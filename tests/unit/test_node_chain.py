"""Real nodes with a chain: funding, closing, leaving, restarts, and what is refused, through the node's service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
import pytest

from scapp.channels import putting_away
from scapp.channels.chain import calls
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.errors import LocalError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.node import Node
from scapp.channels.onchain import Transaction
from scapp.channels.service import ChannelInfo, NodeEvent, OpenRequest
from scapp.channels.signing import Signer
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from tests.support.node_cast import DEPLOYMENT, START_MS, Cast, until
from tests.support.plain_chain import PlainChain, PlainService, account_of, answered, challenger

DURATION_S = 3_600
TERMS = ChainTerms(challenge_duration_min_s=600, conclude_delay_s=3_600)
SIGNERS = [Signer(bytes([key]) * 32) for key in (1, 2)]


class Endpoint(PlainService):
    """Answers nothing as long as the scene is blind."""

    def __init__(self, scene: Scene, signer: Signer) -> None:
        super().__init__(scene.chain, signer)
        self._scene = scene

    def look(self) -> None:
        if not self._scene.blind:
            super().look()


class Scene:
    """Two nodes and the chain between them."""

    def __init__(self) -> None:
        self.blind = False
        self.cast = Cast()
        self.chain = PlainChain(SIGNERS, START_MS // 1_000)
        self.logs = [MemoryLog(), MemoryLog()]
        self.services: list[PlainService] = []
        self.nodes: list[Node] = []
        self.events: list[list[NodeEvent]] = [[], []]

    async def start(self, policies: Sequence[str] = ("accept", "accept")) -> Scene:
        for index, policy in enumerate(policies):
            await self.node(index, policy)
        return self

    async def node(self, index: int, policy: str = "accept") -> Node:
        service = Endpoint(self, SIGNERS[index])
        node = await self.cast.node(index + 1, policy=policy, log=self.logs[index], chain=service, terms=TERMS)
        node.subscribe(self.events[index].append)
        self.services[index:] = [service, *self.services[index + 1 :]]
        self.nodes[index:] = [node, *self.nodes[index + 1 :]]
        return node

    async def restart(self, index: int) -> Node:
        await self.nodes[index].stop()
        return await self.node(index)

    async def block(self, seconds: int = 12) -> None:
        for service in self.services:
            service.send()
        self.chain.chain.mine(self.chain.chain.head.time_s + seconds)
        for service in self.services:
            service.look()
        await answered(self.services)
        await asyncio.sleep(0.01)

    async def until(self, channel: ChannelId, phase: str, *, of: Sequence[int] = (0, 1), seconds: int = 12) -> None:
        await self.happens(lambda: all(self.info(index, channel).phase == phase for index in of), seconds)

    async def happens(self, happened: Callable[[], bool], seconds: int = 12) -> None:
        """Blocks until it has."""
        for _ in range(100):
            if happened():
                return
            await self.block(seconds)
        raise AssertionError([node.channels() for node in self.nodes])

    def info(self, index: int, channel: ChannelId) -> ChannelInfo:
        return self.nodes[index].channel(channel)

    def request(self, **changes: object) -> OpenRequest:
        slots = tuple(
            (bytes(ZERO_ADDRESS), bytes(12) + account_of(signer.address), amount)
            for signer, amount in zip(SIGNERS, (5, 3), strict=True)
        )
        request = OpenRequest(
            peers=(SIGNERS[1].address,),
            deployment=DEPLOYMENT,
            slots=slots,
            challenge_duration=DURATION_S,
            fund="direct",
        )
        return msgspec.structs.replace(request, **changes)

    def kinds(self, index: int) -> list[str]:
        return [event.kind for event in self.events[index] if event.channel_id is not None]

    def gains(self) -> list[int]:
        return [self.chain.gain(account_of(signer.address)) for signer in SIGNERS]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    try:
        yield made
    finally:
        await made.cast.end()


async def test_deposit_play_close_and_withdraw(scene: Scene) -> None:
    """Through the service alone; afterwards the chain is not watched any more."""
    alice, bob = (await scene.start()).nodes
    channel = await alice.open_channel(scene.request())
    await scene.until(channel, "running")
    assert scene.chain.held(channel) == 8
    (receipt,) = await bob.submit(channel, [b"move:0:1:2"])
    assert receipt.status == "accepted"
    await bob.close_channel(channel)
    await scene.until(channel, "closed")
    await scene.until(channel, "settled")
    assert scene.gains() == [-2, 2]
    info = alice.channel(channel).chain
    assert info is not None
    assert (info.needed, info.own, info.holdings, info.mode, info.settled) == ((8,), (5,), (0,), "open", True)
    for index in (0, 1):
        assert [kind for kind in scene.kinds(index) if kind in ("funded", "settled")] == ["funded", "settled"]
    await scene.block()
    assert all(not service.watched for service in scene.services)


async def test_leaving_alone_by_command(scene: Scene) -> None:
    """The others are gone; challenge, time, payout; every step is told."""
    alice, bob = (await scene.start()).nodes
    channel = await alice.open_channel(scene.request())
    await scene.until(channel, "running")
    await bob.submit(channel, [b"move:0:1:2"])
    await alice.stop()
    scene.services[0].wants.clear()
    with pytest.raises(LocalError, match="running"):
        await bob.withdraw(channel)
    await bob.challenge(channel)
    with pytest.raises(LocalError, match="leaves the channel"):
        await bob.submit(channel, [b"word"])
    await scene.until(channel, "settled", of=[1], seconds=120)
    assert scene.gains() == [-2, 2]
    told = [kind for kind in scene.kinds(1) if kind in ("leaving", "challenged", "finalized", "settled")]
    assert told == ["leaving", "challenged", "finalized", "settled"]


async def test_whoever_waits_for_a_phase_hears_of_what_the_chain_confirms(scene: Scene) -> None:
    """From funding to running, and back from a dispute once its end is confirmed, without asking again and again."""
    alice, bob = (await scene.start()).nodes
    channel = await alice.open_channel(scene.request())
    running = asyncio.gather(*(node.wait_phase(channel, ["running"], 5) for node in (alice,)))
    await scene.until(channel, "running")
    await running
    prefund = alice.source.signed_state(channel, 0)
    assert prefund is not None
    await bob.submit(channel, [b"word"])
    account = account_of(SIGNERS[1].address)
    scene.chain.raw(account, calls.Challenge((), prefund, challenger(SIGNERS[1], channel, prefund)))
    disputed = asyncio.create_task(alice.wait_phase(channel, ["disputed"], 5))
    await scene.block()
    await disputed
    again = asyncio.create_task(alice.wait_phase(channel, ["running"], 5))
    for _ in range(6):
        await scene.block()
    assert (await again).phase == "running"


async def test_everything_goes_on_after_restarts(scene: Scene) -> None:
    """Before the deposits, between them, while running, and while the final state waits to be concluded."""
    alice, _ = (await scene.start()).nodes
    channel = await alice.open_channel(scene.request())
    for index in (0, 1, 0, 1):
        await scene.restart(index)
        await scene.block()
    await scene.until(channel, "running")
    for index in (0, 1):
        await scene.restart(index)
    assert scene.nodes[0].channel(channel).phase == "running"
    (receipt,) = await scene.nodes[0].submit(channel, [b"move:0:1:2"])
    assert receipt.status == "accepted"
    await scene.nodes[0].close_channel(channel)
    await asyncio.gather(*(node.wait_phase(channel, ["closed"], 5) for node in scene.nodes))
    for index in (0, 1):
        await scene.restart(index)
    await scene.until(channel, "settled")
    assert scene.gains() == [-2, 2]


async def test_a_node_that_has_not_seen_the_chain_yet_cancels_nothing_and_signs_nothing(scene: Scene) -> None:
    """After a restart silence is not the wish for nothing: a deposit under way is left alone. Submissions wait."""
    alice, bob = (await scene.start()).nodes
    channel = await alice.open_channel(scene.request())
    await scene.until(channel, "running")
    scene.blind = True
    alice = await scene.restart(0)
    assert alice.channel(channel).waiting_for == "the chain to be read"
    assert channel in scene.services[0].watched
    assert channel not in scene.services[0].wants
    (receipt,) = await bob.submit(channel, [b"word"], timeout=0.2)
    assert receipt.status == "pending"
    scene.blind = False
    await scene.happens(lambda: channel in scene.services[0].wants)
    assert scene.services[0].wants[channel] == ()
    (receipt,) = await bob.submit(channel, [b"word"])
    assert receipt.status == "accepted"


async def test_every_view_is_answered_and_only_by_who_knows_it(scene: Scene) -> None:
    """The service holds deposits until then: wants come after each view, also when they are the same as before."""
    alice, _ = (await scene.start()).nodes
    channel = await alice.open_channel(scene.request())
    await scene.until(channel, "running")
    service = scene.services[0]
    said: list[object] = []
    want = service.want

    def hear(channel: ChannelId, wanted: Sequence[Transaction]) -> None:
        said.append(wanted)
        want(channel, wanted)

    service.want = hear  # type: ignore[method-assign]
    for _ in range(2):  # the second view comes before the channel's task has taken the first
        scene.chain.chain.mine()
        service.look()
    assert not said
    await answered([service])
    assert said == [()]
    await scene.block()
    assert said == [(), ()]


async def test_a_channel_that_cannot_be_funded_is_not_opened(scene: Scene) -> None:
    alice, _ = (await scene.start()).nodes
    with pytest.raises(LocalError, match="allowed are 'none', 'direct' and 'virtual'"):
        await alice.open_channel(scene.request(fund="credit"))
    with pytest.raises(LocalError, match="challenge duration 10 s; this node wants 600 s"):
        await alice.open_channel(scene.request(challenge_duration=10))
    with pytest.raises(LocalError, match="needs outcome slots"):
        await alice.open_channel(scene.request(slots=()))
    poor = await scene.cast.node(7)
    with pytest.raises(LocalError, match="no chain"):
        await poor.open_channel(scene.request())
    channel = await poor.open_channel(scene.request(fund="none"))
    with pytest.raises(LocalError, match="no chain"):
        await poor.challenge(channel)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("no chain", "this node has no chain"),
        ("other app", "is not the app that this node's chain has"),
        ("short", "this node wants 600 s at least"),
        ("long", "this node wants 2592000 s at most"),
    ],
)
async def test_a_proposal_that_cannot_be_funded_here_is_turned_down(scene: Scene, change: str, reason: str) -> None:
    """The proposer hears why; nothing is stored."""
    alice = await scene.node(0)
    if change == "no chain":
        bob = await scene.cast.node(2)
    else:
        bob = await scene.node(1)
    if change == "other app":
        scene.services[0].consensus_app = Address(b"\xbb" * 20)
    terms = msgspec.structs.replace(TERMS, challenge_duration_min_s=1, challenge_duration_max_s=2**32 - 1)
    alice._chain.terms = terms  # a proposer who asks for any
    duration_s = {"short": 10, "long": 2**32 - 1}.get(change, DURATION_S)
    channel = await alice.open_channel(scene.request(challenge_duration=duration_s))
    found = await alice.wait_phase(channel, ["rejected"], 5)
    assert reason in found.reason
    assert bob.channels() == []


async def test_deposits_wait_for_the_operator_where_the_policy_says_so(scene: Scene) -> None:
    alice, bob = (await scene.start(("accept", "ask"))).nodes
    channel = await alice.open_channel(scene.request())
    await scene.happens(lambda: bool(bob.channels()))
    for _ in range(5):
        await scene.block()
    assert bob.channel(channel).phase == "proposed"
    assert scene.chain.held(channel) == 0
    assert channel not in scene.services[1].watched
    await bob.accept(channel)
    await scene.until(channel, "running")


async def test_money_leaves_a_channel_that_goes_on(scene: Scene) -> None:
    """Participant 0's node proposes the successor; the other's own policy or operator takes it."""
    alice, bob = (await scene.start()).nodes
    channel = await alice.open_channel(scene.request())
    await scene.until(channel, "running")
    await alice.submit(channel, [b"move:0:1:2"])
    new = await alice.resize(channel, {ZERO_ADDRESS: 1})
    assert new is not None
    await scene.until(new, "running")
    await scene.until(channel, "settled")
    assert scene.gains() == [-4, -3]
    assert (scene.chain.held(channel), scene.chain.held(new)) == (0, 7)
    assert [alice.channel(each).amounts for each in (channel, new)] == [(3, 5), (2, 5)]
    assert (bob.channel(channel).successor, bob.channel(new).renews) == (new, channel)
    (receipt,) = await bob.submit(new, [b"move:1:0:2"])
    assert receipt.status == "accepted"


async def test_whoever_is_not_the_sequencer_asks_it(scene: Scene) -> None:
    """And accepts just what it has asked for without asking its operator again; the sequencer's decides first."""
    alice, bob = (await scene.start()).nodes
    channel = await alice.open_channel(scene.request())
    await scene.until(channel, "running")
    scene.cast.stakes.clear()
    assert await bob.resize(channel, {ZERO_ADDRESS: 2}) is None
    await scene.happens(lambda: scene.info(0, channel).waiting_for == "participant 1 wants to take out 2 wei")
    new = await alice.resize(channel, {})
    assert new is not None
    await scene.until(new, "running")
    assert scene.gains() == [-5, -1]
    assert [each.renews for each in scene.cast.stakes] == ["asked"]
    with pytest.raises(LocalError, match="has 1"):
        await bob.resize(new, {ZERO_ADDRESS: 2})
    with pytest.raises(LocalError, match="the sequencer's to say"):
        await bob.resize(new, {ZERO_ADDRESS: 1}, {"pot": 1})


async def test_a_wish_is_not_kept_for_a_better_moment(scene: Scene) -> None:
    """What was asked for at another state is the policy's or the operator's to decide, until it is asked for again."""
    alice, bob = (await scene.start()).nodes
    channel = await alice.open_channel(scene.request())
    await scene.until(channel, "running")
    scene.cast.stakes.clear()
    await bob.resize(channel, {ZERO_ADDRESS: 2})
    await alice.submit(channel, [b"move:0:1:1"])
    new = await alice.resize(channel, {})
    assert new is not None
    await scene.until(new, "running")
    assert scene.gains() == [-5, -1]
    assert [each.renews for each in scene.cast.stakes] == ["proposed"]


async def test_a_successor_that_nobody_asked_for_says_so_to_the_policy(scene: Scene) -> None:
    """Other amounts than asked for, or none."""
    alice, bob = (await scene.start()).nodes
    channel = await alice.open_channel(scene.request())
    await scene.until(channel, "running")
    scene.cast.stakes.clear()
    await bob.resize(channel, {ZERO_ADDRESS: 2})
    await scene.block()
    new = await alice.resize(channel, {ZERO_ADDRESS: 1}, {"other": "params"})
    assert new is not None
    await scene.until(new, "running")
    assert [each.renews for each in scene.cast.stakes] == ["proposed"]


async def test_a_channel_goes_on_when_its_successor_is_turned_down(scene: Scene) -> None:
    """By the other's operator, and after restarts of both."""
    alice, bob = (await scene.start(("accept", "ask"))).nodes
    channel = await alice.open_channel(scene.request())
    await scene.happens(lambda: bool(bob.channels()))
    await bob.accept(channel)
    await scene.until(channel, "running")
    new = await alice.resize(channel, {ZERO_ADDRESS: 1})
    assert new is not None
    with pytest.raises(LocalError, match="is to renew it already"):
        await alice.resize(channel, {ZERO_ADDRESS: 1})
    alice, bob = await scene.restart(0), await scene.restart(1)
    for _ in range(5):
        await scene.block()
    assert [node.channel(channel).successor for node in (alice, bob)] == [new, new]
    (receipt,) = await bob.submit(channel, [b"move:0:1:2"], timeout=0.2)
    assert receipt.status == "pending"
    await bob.reject(new, "not now")
    await alice.wait_phase(new, ["rejected"], 5)
    await until(alice, lambda: alice.channel(channel).amounts == (3, 5))


async def test_what_cannot_be_resized_is_said_and_goes_on(scene: Scene) -> None:
    alice, bob = (await scene.start()).nodes
    plain = await alice.open_channel(scene.request(fund="none"))
    await alice.wait_phase(plain, ["running"], 5)
    channel = await alice.open_channel(scene.request())
    await scene.until(channel, "running")
    for where, amount, reason in [(plain, 1, "directly funded"), (channel, 6, "it has 5"), (channel, 0, "takes out 0")]:
        with pytest.raises(LocalError, match=reason):
            await alice.resize(where, {ZERO_ADDRESS: amount})
    with pytest.raises(LocalError, match="nobody takes anything out"):
        await alice.resize(channel, {})
    (receipt,) = await bob.submit(channel, [b"move:0:1:2"])
    assert receipt.status == "accepted"


async def test_a_settled_channel_stays_on_the_disk_and_one_that_still_owes_does_not(scene: Scene) -> None:
    """Closed is not over where deposits are; paid out and confirmed is, and nobody watches it after a restart."""
    alice, bob = (await scene.start()).nodes
    channel = await alice.open_channel(scene.request())
    await scene.until(channel, "running")
    await bob.submit(channel, [b"move:0:1:2"])
    await bob.close_channel(channel)
    await scene.until(channel, "closed")
    bob = await scene.restart(1)
    assert [info.phase for info in bob.channels()] == ["closed"]
    await scene.until(channel, "settled")
    await scene.block()
    before = bob.channel(channel)
    bob = await scene.restart(1)
    assert (bob.channels(), list(bob.archived())) == ([], [channel])
    assert bob.archived()[channel].phase == "settled"
    assert bob.channel(channel) == before
    await scene.block()
    assert not scene.services[1].watched
    with pytest.raises(LocalError, match="settled"):
        await bob.challenge(channel)
    assert bob.was_archived(channel)
    assert bob.channel(channel) == before
    await scene.block()
    assert scene.gains() == [-2, 2]


async def test_a_payout_that_is_not_confirmed_yet_may_be_undone_and_keeps_the_channel(scene: Scene) -> None:
    """After restarts at both times it is loaded, watched, and goes to the disk only once the chain cannot go back."""
    alice, bob = (await scene.start()).nodes
    channel = await alice.open_channel(scene.request())
    await scene.until(channel, "running")
    await bob.close_channel(channel)
    await scene.until(channel, "closed")
    await scene.happens(lambda: bob.channel(channel).waiting_for == "the payout to be confirmed")
    bob = await scene.restart(1)
    assert [info.phase for info in bob.channels()] == ["closed"]
    assert bob.archived() == {}
    await scene.until(channel, "settled")


async def test_a_channel_stays_in_memory_as_long_as_its_successor_lives(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is loaded with it at a start; once both are over, both go."""
    alice, bob = (await scene.start()).nodes
    channel = await alice.open_channel(scene.request())
    await scene.until(channel, "running")
    new = await alice.resize(channel, {ZERO_ADDRESS: 1})
    assert new is not None
    await scene.until(new, "running")
    await scene.until(channel, "settled")
    await scene.block()
    before = bob.channel(channel)
    for _ in range(2):
        bob = await scene.restart(1)
        assert {info.channel_id for info in bob.channels()} == {channel, new}
        await bob._putting_away.round()
        assert (bob.channel(channel), bob.archived()) == (before, {})
    await bob.close_channel(new)
    await scene.until(new, "settled")
    await scene.block()
    bob = await scene.restart(1)
    assert (bob.channels(), set(bob.archived())) == ([], {channel, new})
    assert (bob.channel(channel).successor, bob.channel(new).renews) == (new, channel)
    monkeypatch.setattr(putting_away, "UNUSED_MS", -1)
    async with asyncio.timeout(10):
        while set(alice.archived()) != {channel, new}:
            await scene.block()
            await alice._putting_away.round()
        await alice._putting_away.finish()
    assert not alice._succession._renewed, "nothing is kept of channels that have gone"
