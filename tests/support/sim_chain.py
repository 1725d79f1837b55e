"""The simulated network on a simulated chain: `chain.model_chain` mined by hand, and a plain service for each node.

The service does what `onchain` asks for and no more: a transaction once per purpose, deposits read before they are
sent, views at the newest block and some blocks below. Mallory sends what she likes through `raw`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scapp.channels.chain import calls
from scapp.channels.chain.contract_events import ChallengeRegistered
from scapp.channels.chain.model import Token, World
from scapp.channels.chain.model_chain import ModelChain, ModelTransaction, Rejected
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.crypto import keccak256
from scapp.channels.entries import Kind
from scapp.channels.onchain import (
    ChainView,
    Challenge,
    ChannelOnChain,
    Checkpoint,
    Conclude,
    Deposit,
    Purpose,
    Transaction,
    TransferAll,
    purpose_of,
)
from scapp.channels.reading import SignedState
from scapp.channels.signing import Signer
from scapp.channels.state import challenge_hash, encode_state_of_outcome
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId, Hash
from tests.support.sim import START_MS, Sim, SimNode

ADJUDICATOR = Address(b"\xad" * 20)
CONSENSUS = Address(b"\xc0" * 20)
TOKEN = Address(b"\x70" * 20)
RICH = 10**24
DURATION_S = 600
CONFIRMATIONS = 3
TERMS = ChainTerms(margin_s=60, conclude_delay_s=120, funding_timeout_s=1_200, silence_timeout_s=0)


class ChainSim(Sim):
    """`mute` are nodes that no longer do anything: their messages and transactions are lost (see `silence`)."""

    def __init__(
        self,
        count: int = 2,
        *,
        assets: Sequence[Address] = (ZERO_ADDRESS,),
        terms: ChainTerms = TERMS,
        confirmations: int = CONFIRMATIONS,
        seed: int = 0,
    ) -> None:
        self.terms = terms
        super().__init__(count, seed=seed)
        self.assets = tuple(assets)
        self.confirmations = confirmations
        self.mute: set[int] = set()
        self.sent: dict[tuple[int, Purpose], Hash] = {}
        self.transactions: list[tuple[int, Transaction]] = []
        self.clean = 0  # node that may send a transaction, counted for nonces
        world = World(ADJUDICATOR, CONSENSUS)
        if TOKEN in assets:
            world.tokens[TOKEN] = Token({}, {})
        for node in self.nodes:
            world.balances[self.account(node)] = RICH
            if TOKEN in assets:
                world.tokens[TOKEN].balances[self.account(node)] = RICH
                world.tokens[TOKEN].allowances[self.account(node), ADJUDICATOR] = RICH
        self.chain = ModelChain(world, START_MS // 1_000)
        self.tap = self._unmuted

    def _unmuted(self, sender: int, to: Address, data: bytes) -> bytes | None:
        return None if sender in self.mute else data

    @staticmethod
    def account(node: SimNode) -> Address:
        """The node's account on chain; not its channel key."""
        return Address(keccak256(b"account" + node.signer.address)[12:])

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
        world = self.chain.world
        found = []
        for asset in self.assets:
            if asset == ZERO_ADDRESS:
                fees = sum(
                    receipt.fee * 60_000
                    for block in self.chain.blocks
                    for transaction, receipt in zip(block.transactions, block.receipts, strict=True)
                    if transaction.sender == self.account(node)
                )
                found.append(world.balances[self.account(node)] + fees - RICH)
            else:
                found.append(world.tokens[asset].balances[self.account(node)] - RICH)
        return tuple(found)

    # The chain's side

    def view(self, channel: bytes) -> ChainView:
        head = self.chain.head.number
        return ChainView(self._at(channel, head), self._at(channel, max(0, head - self.confirmations)))

    def _at(self, channel: bytes, number: int) -> ChannelOnChain:
        block = self.chain.block(number)
        assert block is not None
        status = block.world.status_of(ChannelId(channel))
        registered: SignedState | None = None
        for each in self.chain.blocks[: number + 1]:
            for log in each.logs:
                if isinstance(log.event, ChallengeRegistered) and log.event.channel == channel:
                    registered = log.event.candidate
        if not status.finalizes_at:
            registered = None
        holdings = tuple(block.world.held(asset, ChannelId(channel)) for asset in self.assets)
        return ChannelOnChain(number, block.hash, holdings, status, registered)

    def block(self, seconds: int = 12) -> None:
        """Everybody sends what it wants, a block is mined, everybody sees it; messages run until all is quiet."""
        self.send_wants()
        self.chain.mine(self.chain.head.time_s + seconds)
        self.now_ms += 1_000 * seconds
        self.show()

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
                        self.carry_out(node, channel, wanted)

    def carry_out(self, node: SimNode, channel: bytes, wanted: Transaction) -> None:
        """Once per purpose, unless the transaction was refused or has been taken back."""
        key = (node.index, purpose_of(ChannelId(channel), wanted))
        before = self.sent.get(key)
        if before is not None:
            found = self.chain.found(before)
            waits = any(item.hash == before for item in self.chain.mempool)
            if waits or (found is not None and found[1].reason is None and not isinstance(wanted, Deposit)):
                return
        call, value = self._call(node, channel, wanted)
        if call is not None:
            self.sent[key] = self.raw(node, call, value)
            self.transactions.append((node.index, wanted))

    def _call(self, node: SimNode, channel: bytes, wanted: Transaction) -> tuple[calls.Call | None, int]:
        match wanted:
            case Deposit(asset, safety, target, amount_max):
                held = self.chain.world.held(asset, ChannelId(channel))
                amount = min(target - held, amount_max)
                if held < safety or amount <= 0:
                    return None, 0
                call = calls.Deposit(asset, ChannelId(channel), held, amount)
                return call, amount if asset == ZERO_ADDRESS else 0
            case Conclude(state):
                return calls.ConcludeAndTransfer(state), 0
            case Challenge(candidate, proof):
                return calls.Challenge(
                    proof, candidate, challenger(node.signer, node.engine(channel).state, candidate)
                ), 0
            case Checkpoint(candidate, proof):
                return calls.Checkpoint(proof, candidate), 0
            case TransferAll(outcome, state_hash):
                return calls.TransferAll(ChannelId(channel), outcome, state_hash), 0
            case _:
                raise AssertionError(f"{wanted} is never wanted")

    def raw(self, node: SimNode, call: calls.Call, value: int = 0) -> Hash:
        """Put a transaction of the node's account into the mempool."""
        account = self.account(node)
        nonce = self.chain.world.nonces.get(account, 0)
        waiting = {item.nonce for item in self.chain.mempool if item.sender == account}
        while nonce in waiting:
            nonce += 1
        self.clean += 1
        name = Hash(keccak256(b"transaction" + self.clean.to_bytes(8, "big")))
        try:
            self.chain.send(ModelTransaction(name, account, nonce, ADJUDICATOR, call, value))
        except Rejected as refused:
            raise AssertionError(f"{node.name}: {refused}") from refused
        return name

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


def challenger(signer: Signer, state: ChannelState, candidate: SignedState) -> bytes:
    """The challenger's signature under the candidate."""
    encoded = encode_state_of_outcome(
        state.setup.channel_id, candidate.app_data, candidate.outcome, candidate.turn, is_final=candidate.is_final
    )
    return signer.sign(challenge_hash(Hash(keccak256(encoded))))
