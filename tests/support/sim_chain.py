"""The simulated network on a simulated chain: everybody sends what it wants, a block is mined, everybody sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scapp.channels.chain import calls
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.drafting import draft_successor
from scapp.channels.entries import Kind
from scapp.channels.onchain import ChainView, Transaction
from scapp.channels.succession_link import SuccessionLink
from scapp.channels.types import ZERO_ADDRESS, Address, Hash
from tests.support.plain_chain import CONSENSUS, PlainChain, account_of
from tests.support.sim import START_MS, Sim, SimNode

DURATION_S = 600
TERMS = ChainTerms(margin_s=60, conclude_delay_s=120, funding_timeout_s=1_200, silence_timeout_s=0)


class ChainSim(Sim):
    """`mute` are nodes that no longer do anything: their messages and transactions are lost (see `silence`)."""

    def __init__(
        self,
        count: int = 2,
        *,
        assets: Sequence[Address] = (ZERO_ADDRESS,),
        terms: ChainTerms = TERMS,
        seed: int = 0,
    ) -> None:
        self.terms = terms
        super().__init__(count, seed=seed)
        self.assets = tuple(assets)
        self.mute: set[int] = set()
        self.transactions: list[tuple[int, Transaction]] = []
        self.around_block: Callable[[], None] = lambda: None  # called before and after each
        self.plain = PlainChain([node.signer for node in self.nodes], START_MS // 1_000)
        self.chain = self.plain.chain
        self.tap = self._unmuted
        self.links: dict[int, tuple[object, SuccessionLink]] = {}  # by node: of which start, and its link
        self.after_input = lambda node, channel: self.link(node).update(node.engine(channel))
        self.proposal_fault = lambda node, setup: self.link(node).proposal_fault(setup)

    def link(self, node: SimNode) -> SuccessionLink:
        """Through it a node's channels and their successors hear of each other, as in the real node."""
        found = self.links.get(node.index)
        if found is None or found[0] is not node.drivers:  # it has started anew
            drivers = node.drivers
            new = SuccessionLink(lambda each: drivers[each].engine if each in drivers else None, node.input)
            found = self.links[node.index] = (drivers, new)
        return found[1]

    def resize(self, channel: bytes, withdrawn: Mapping[int, Mapping[Address, int]], params: Any = None) -> bytes:
        """The sequencer proposes a successor in which each has so much less of an asset; its id."""
        node = self.nodes[0]
        nonce = self.random.getrandbits(63)
        return node.begin(draft_successor(node.engine(channel).state, withdrawn, params, nonce, node.now()))

    def _unmuted(self, sender: int, to: Address, data: bytes) -> bytes | None:
        return None if sender in self.mute else data

    @staticmethod
    def account(node: SimNode) -> Address:
        """The node's account on chain; not its channel key."""
        return account_of(node.signer.address)

    def fund(self, *amounts: Sequence[int]) -> bytes:
        """Open a channel into which participant i brings `amounts[i][k]` of asset k, paid to its account."""
        slots = tuple(
            (asset, bytes(12) + self.account(node), amounts[node.index][k].to_bytes(32, "big"))
            for k, asset in enumerate(self.assets)
            for node in self.nodes
        )
        return self.nodes[0].open(self.nodes[1:], made=slots, app_definition=CONSENSUS, challenge_duration=DURATION_S)

    def paid(self, node: SimNode) -> tuple[int, ...]:
        """What the account has more or less than at the beginning, per asset, fees left out."""
        return tuple(self.plain.gain(self.account(node), asset) for asset in self.assets)

    # The chain's side

    def view(self, channel: bytes) -> ChainView:
        return self.plain.view(channel, self.assets)

    def block(self, seconds: int = 12) -> None:
        """Everybody sends what it wants, a block is mined, everybody sees it; messages run until all is quiet."""
        self.around_block()
        self.send_wants()
        self.chain.mine(self.chain.head.time_s + seconds)
        self.now_ms += 1_000 * seconds
        self.show()
        self.around_block()

    def blocks(self, count: int, seconds: int = 12) -> None:
        for _ in range(count):
            self.block(seconds)

    def show(self) -> None:
        """The chain as it is, to everybody, and what follows among them."""
        for node in self.nodes:
            if node.up and node.index not in self.mute:
                for channel in list(node.drivers):
                    self.show_to(node, channel)
        self.run()
        for node in self.nodes:
            if node.up and node.index not in self.mute:
                node.tick()
        self.run()

    def show_to(self, node: SimNode, channel: bytes) -> None:
        view, time_s = self.view(channel), self.chain.head.time_s
        node.input(channel, lambda engine, _: engine.on_chain(view, time_s))

    def send_wants(self) -> None:
        for node in self.nodes:
            if node.up and node.index not in self.mute:
                for channel, driver in list(node.drivers.items()):
                    for wanted in driver.engine.wanted(self.chain.head.time_s, node.now()):
                        if self.plain.carry_out(node.signer, channel, wanted):
                            self.transactions.append((node.index, wanted))

    def raw(self, node: SimNode, call: calls.Call, value: int = 0) -> Hash:
        """A transaction of the node's account, whatever it is."""
        return self.plain.raw(self.account(node), call, value)

    def head_time_s(self) -> int:
        return self.chain.head.time_s

    # Stories

    def silence(self, node: SimNode) -> None:
        """From now on the node says and does nothing."""
        self.mute.add(node.index)

    def unsilence(self, node: SimNode) -> None:
        """The node speaks again, and first of all looks at the chain."""
        self.mute.discard(node.index)
        for channel in list(node.drivers) if node.up else ():
            self.show_to(node, channel)

    def until(self, happened: Callable[[], bool], blocks: int = 200, seconds: int = 12) -> None:
        """Mine until it happens."""
        for _ in range(blocks):
            if happened():
                return
            self.block(seconds)
        raise AssertionError("it never happened")

    def phases(self, channel: bytes) -> list[str]:
        return [node.engine(channel).phase if channel in node.drivers else "" for node in self.nodes]


def running(
    brought: Sequence[Sequence[int]], *, assets: Sequence[Address] = (ZERO_ADDRESS,), terms: ChainTerms = TERMS
) -> tuple[ChainSim, bytes]:
    """A channel that is fully funded and runs; participant i has brought `brought[i][k]` of asset k."""
    sim = ChainSim(len(brought), assets=assets, terms=terms)
    channel = sim.fund(*brought)
    sim.run()
    sim.until(lambda: set(sim.phases(channel)) == {"running"})
    return sim, channel


def play(sim: ChainSim, channel: bytes, *payloads: bytes) -> None:
    """The last participant says each in a batch of its own."""
    for payload in payloads:
        sim.nodes[-1].submit(channel, payload)
        sim.run()


def close(sim: ChainSim, channel: bytes) -> None:
    """Everybody signs the final state."""
    sim.nodes[1].submit(channel, b"", kind=Kind.CLOSE)
    sim.run()
