"""A node's virtual channels at its ledgers: what each is told, restarts included; a double for the ledgers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from scapp.channels.backing import Backing, Stage, VirtualTerms
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.errors import LocalError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.node import Node
from scapp.channels.reading import SignedState
from scapp.channels.service import OpenRequest
from scapp.channels.signing import Signer
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from tests.support.node_cast import DEPLOYMENT, Cast
from tests.support.sim_backing import TWO_PARTY_APP, hash_of, signers_of

HUB = Signer(b"\x60" * 32)


class Ledgers:
    """Implements `backing.BackingSource`: writes down what it hears, says what it is told to say."""

    def __init__(self, fault: str = "") -> None:
        self.refusal = fault
        self.heard: list[tuple[str, object]] = []
        self.news = asyncio.Event()
        self.milestones: dict[int, SignedState] = {}
        self.say: Callable[[ChannelId, Backing], None] = lambda channel, backing: None

    @property
    def app_definition(self) -> Address:
        return TWO_PARTY_APP

    def start(self, on_backing: Callable[[ChannelId, Backing], None]) -> None:
        self.say = on_backing

    def fault(self, terms: VirtualTerms) -> str:
        return self.refusal

    def open(self, terms: VirtualTerms, states: tuple[SignedState, ...]) -> None:
        self._keep(states)
        self._hear("open", terms.fees)

    def offer(self, channel: ChannelId, states: tuple[SignedState, ...]) -> None:
        self._keep(states)
        self._hear("offer", tuple(state.turn for state in states))

    def give_up(self, channel: ChannelId, reason: str) -> None:
        self._hear("give up", reason)

    def dispute(self, channel: ChannelId, reason: str) -> None:
        self._hear("dispute", reason)

    def _hear(self, what: str, of_it: object) -> None:
        self.heard.append((what, of_it))
        self.news.set()

    def _keep(self, states: tuple[SignedState, ...]) -> None:
        self.milestones.update({state.turn: state for state in states})

    def answer(self, channel: ChannelId, stage: Stage, detail: str = "") -> None:
        signed = tuple(
            (turn, tuple(HUB.sign(hash_of(state)) if p == HUB.address else s for p, s in _pairs(state)))
            for turn, state in sorted(self.milestones.items())
        )
        self.say(channel, Backing(stage, detail, signed))


def _pairs(state: SignedState) -> list[tuple[bytes, bytes]]:
    return list(zip(state.participants, state.signatures, strict=True))


class Scene:
    """Alice and Bob, each with ledgers of its own."""

    def __init__(self) -> None:
        self.cast = Cast()
        self.logs = (MemoryLog(), MemoryLog())
        self.ledgers = [Ledgers(), Ledgers()]
        self.nodes: list[Node] = []

    async def start(self) -> Scene:
        self.nodes = [await self.node(0), await self.node(1)]
        return self

    async def node(self, index: int) -> Node:
        terms = ChainTerms(challenge_duration_min_s=600)
        return await self.cast.node(index + 1, log=self.logs[index], backing=self.ledgers[index], terms=terms)

    async def restart(self, index: int) -> None:
        await self.nodes[index].stop()
        self.ledgers[index].heard.clear()
        self.nodes[index] = await self.node(index)

    def request(self, **changes: object) -> OpenRequest:
        slots = tuple(
            (bytes(ZERO_ADDRESS), bytes(12) + Signer(bytes([key]) * 32).address, amount)
            for key, amount in ((1, 7), (2, 3))
        )
        fields: dict[str, object] = {
            "peers": (self.nodes[1].address,),
            "deployment": DEPLOYMENT,
            "slots": slots,
            "challenge_duration": 3_600,
            "fund": "virtual",
            "via": (HUB.address,),
            "fees": (2,),
        }
        return OpenRequest(**{**fields, **changes})  # type: ignore[arg-type]

    async def open(self) -> ChannelId:
        channel = await self.nodes[0].open_channel(self.request())
        for index in (0, 1):
            await self.heard(index, "open")
        return channel

    async def heard(self, index: int, what: str, times: int = 1) -> None:
        async with asyncio.timeout(10):
            while [name for name, _ in self.ledgers[index].heard].count(what) < times:
                self.ledgers[index].news.clear()
                await self.ledgers[index].news.wait()

    async def running(self) -> ChannelId:
        channel = await self.open()
        for ledgers in self.ledgers:
            ledgers.answer(channel, "guaranteed")
        for index in (0, 1):
            await self.heard(index, "offer")
            self.ledgers[index].answer(channel, "complete")
        for node in self.nodes:
            await node.wait_phase(channel, ("running",), 5)
        return channel


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = await Scene().start()
    yield made
    await made.cast.end()


async def test_a_virtual_channel_from_open_to_settled(scene: Scene) -> None:
    """Ledgers hear of each milestone once; local callers see hubs, fees and stage."""
    channel = await scene.running()
    (receipt,) = await scene.nodes[1].submit(channel, [b"move:0:1:2"])
    assert (receipt.status, receipt.turn) == ("accepted", 2)
    info = scene.nodes[1].channel(channel).backing
    assert info is not None
    assert (info.hubs, info.fees, info.stage) == ((HUB.address,), (2,), "complete")
    stack = scene.nodes[1].enforceable_stack(channel)
    assert stack is not None
    assert (stack[0].turn, signers_of(stack[1][0])) == (2, {0, 1, 2})
    assert scene.nodes[0].enforceable_state(channel) is None
    await scene.nodes[0].close_channel(channel)
    for index in (0, 1):
        await scene.nodes[index].wait_phase(channel, ("closed",), 5)
        await scene.heard(index, "offer", 2)
        scene.ledgers[index].answer(channel, "released")
        await scene.nodes[index].wait_phase(channel, ("settled",), 5)
        names = [name for name, _ in scene.ledgers[index].heard]
        assert (names.count("open"), names.count("offer")) == (1, 2)


async def test_a_restarted_node_tells_its_ledgers_everything_again(scene: Scene) -> None:
    """And nothing of a channel that is released."""
    channel = await scene.running()
    for index in (0, 1):
        await scene.restart(index)
        assert scene.ledgers[index].heard == [("open", (2,))]
        assert set(scene.ledgers[index].milestones) == {0, 1}
        assert scene.nodes[index].channel(channel).phase == "running"
    scene.ledgers[0].answer(channel, "released")
    await scene.nodes[0].wait_phase(channel, ("settled",), 5)
    await scene.restart(0)
    assert scene.ledgers[0].heard == []


async def test_a_failed_funding_is_given_up_at_both(scene: Scene) -> None:
    channel = await scene.open()
    scene.ledgers[0].answer(channel, "failed", "the hub would not")
    for index in (0, 1):
        info = await scene.nodes[index].wait_phase(channel, ("rejected",), 5)
        assert "the hub would not" in info.reason
        await scene.heard(index, "give up")
    await scene.restart(0)
    assert scene.ledgers[0].heard == [("give up", "the hub would not")]


async def test_who_leaves_tells_its_ledgers_once_and_after_a_restart_again(scene: Scene) -> None:
    channel = await scene.running()
    await scene.nodes[0].challenge(channel)
    await scene.heard(0, "dispute")
    assert scene.nodes[0].channel(channel).phase == "disputed"
    await scene.restart(0)
    assert scene.ledgers[0].heard == [("open", (2,)), ("dispute", "the operator's decision")]


async def test_what_cannot_be_is_passed_over(scene: Scene) -> None:
    """Ledgers that contradict themselves stop nothing and change nothing."""
    channel = await scene.running()
    scene.ledgers[0].answer(channel, "failed", "never")
    scene.ledgers[0].say(channel, Backing("disputed", "", ((1, (b"", bytes(65), b"")),)))
    scene.ledgers[0].say(ChannelId(bytes(32)), Backing("complete"))
    (receipt,) = await scene.nodes[0].submit(channel, [b"still here"])
    assert receipt.status == "accepted"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"challenge_duration": 10}, "challenge duration 10 s; this node wants 600 s"),
        ({"via": (), "fees": (1,)}, "1 fees for 0 hubs"),
        ({"fees": (-1,)}, "amount -1"),
        ({"fees": (2**256,)}, "allowed are 0 to 2\\^256"),
        ({"slots": ()}, "two in each of 1 to 16 assets"),
        ({"fund": "none"}, "belong to virtual channels"),
    ],
)
async def test_what_no_virtual_channel_can_be_is_not_opened(
    scene: Scene, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(LocalError, match=reason):
        await scene.nodes[0].open_channel(scene.request(**changes))
    assert scene.nodes[0].channels() == []


async def test_without_a_ledger_it_is_neither_opened_nor_accepted(scene: Scene) -> None:
    scene.ledgers[1].refusal = "there is no ledger with the hub"
    channel = await scene.nodes[0].open_channel(scene.request())
    info = await scene.nodes[0].wait_phase(channel, ("rejected",), 5)
    assert "no ledger with the hub" in info.reason
    assert scene.nodes[1].channels() == []
    scene.ledgers[0].refusal = "no money"
    with pytest.raises(LocalError, match="no money"):
        await scene.nodes[0].open_channel(scene.request())
    poor = await scene.cast.node(7)
    with pytest.raises(LocalError, match="no ledgers"):
        await poor.open_channel(scene.request())


async def test_what_is_on_no_chain_is_not_withdrawn_or_checkpointed(scene: Scene) -> None:
    channel = await scene.running()
    for call in (scene.nodes[0].withdraw, scene.nodes[0].checkpoint):
        with pytest.raises(LocalError, match="virtual: its ledgers settle it"):
            await call(channel)
