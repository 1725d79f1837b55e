"""A simulated chain with the plainest service there can be: for tests of channels, not of the chain service.

It does what `onchain` asks for and no more: a transaction once per purpose, deposits read before they are sent, views
at the newest block and some blocks below. Blocks are mined by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from scapp.channels.chain import calls
from scapp.channels.chain.contract_events import ChallengeRegistered
from scapp.channels.chain.judging import channel_of, digest_of
from scapp.channels.chain.model import Token, World
from scapp.channels.chain.model_chain import GAS_USED, ModelChain, ModelTransaction, Rejected
from scapp.channels.chain.port import ChainStatus, TransactionInfo
from scapp.channels.chain.support import App
from scapp.channels.crypto import keccak256
from scapp.channels.onchain import (
    ChainView,
    Challenge,
    ChannelOnChain,
    Checkpoint,
    Conclude,
    Deposit,
    Protection,
    Purpose,
    Reclaim,
    Reveal,
    Revealed,
    Transaction,
    Transfer,
    TransferAll,
    purpose_of,
)
from scapp.channels.outcome import encode_outcome
from scapp.channels.reading import SignedState
from scapp.channels.signing import Signer
from scapp.channels.state import challenge_hash, encode_state_of_outcome
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId, Hash
from tests.support.node_cast import START_MS

ADJUDICATOR = Address(b"\xad" * 20)
CONSENSUS = Address(b"\xc0" * 20)
TOKEN = Address(b"\x70" * 20)
CONFIRMATIONS = 3
RICH = 10**24


def account_of(address: Address) -> Address:
    """The account on chain of whoever has that channel key; it is not the key's own."""
    return Address(keccak256(b"account" + address)[12:])


class PlainChain:
    """Accounts of the given channel keys are rich; the adjudicator may take their tokens. `apps` are those beside the
    ConsensusApp."""

    def __init__(
        self,
        signers: Sequence[Signer],
        time_s: int,
        consensus: Address = CONSENSUS,
        apps: Mapping[bytes, App] | None = None,
    ) -> None:
        world = World(ADJUDICATOR, consensus, dict(apps or {}))
        world.tokens[TOKEN] = Token({}, {})
        for signer in signers:
            account = account_of(signer.address)
            world.balances[account] = RICH
            world.tokens[TOKEN].balances[account] = RICH
            world.tokens[TOKEN].allowances[account, ADJUDICATOR] = RICH
        self.chain = ModelChain(world, time_s)
        self.sent: dict[tuple[bytes, Purpose, bytes], Hash] = {}
        self._lock_app = Address(next((at for at, app in world.apps.items() if app == "hash-lock"), bytes(20)))
        self._named = 0  # transactions so far, for their hashes

    def held(self, channel: bytes, asset: Address = ZERO_ADDRESS) -> int:
        return self.chain.world.held(asset, ChannelId(channel))

    def gain(self, account: Address, asset: Address = ZERO_ADDRESS) -> int:
        """What the account has more or less than at the beginning, fees left out."""
        world = self.chain.world
        if asset != ZERO_ADDRESS:
            return world.tokens[asset].balances[account] - RICH
        fees = sum(
            receipt.fee * GAS_USED
            for block in self.chain.blocks
            for transaction, receipt in zip(block.transactions, block.receipts, strict=True)
            if transaction.sender == account
        )
        return world.balances[account] + fees - RICH

    def view(self, channel: bytes, assets: Sequence[Address]) -> ChainView:
        head = self.chain.head.number
        return ChainView(self._at(channel, assets, head), self._at(channel, assets, max(0, head - CONFIRMATIONS)))

    def _at(self, channel: bytes, assets: Sequence[Address], number: int) -> ChannelOnChain:
        block = self.chain.block(number)
        assert block is not None
        status = block.world.status_of(ChannelId(channel))
        registered: SignedState | None = None
        proof: tuple[SignedState, ...] = ()
        for each in self.chain.blocks[: number + 1] if status.finalizes_at else ():
            for log in each.logs:
                if isinstance(log.event, ChallengeRegistered) and log.event.channel == channel:
                    registered, proof = log.event.candidate, log.event.proof
        if not status.finalizes_at and status.turn_record:
            registered, proof = self._checkpointed(channel, status.turn_record, number)
        holdings = tuple(block.world.held(asset, ChannelId(channel)) for asset in assets)
        return ChannelOnChain(number, block.hash, holdings, status, registered, proof)

    def _checkpointed(
        self, channel: bytes, turn: int, number: int
    ) -> tuple[SignedState | None, tuple[SignedState, ...]]:
        """The candidate of the transaction that recorded the turn, with its proof."""
        for block in self.chain.blocks[: number + 1]:
            for transaction, receipt in zip(block.transactions, block.receipts, strict=True):
                call = transaction.call
                if not isinstance(call, calls.Checkpoint) or receipt.reason is not None:
                    continue
                if (channel_of(call.candidate), call.candidate.turn) == (channel, turn):
                    return call.candidate, call.proof
        return None, ()

    def carry_out(self, signer: Signer, channel: bytes, wanted: Transaction) -> bool:
        """Once per purpose and content, unless the transaction was refused or has been taken back. Was it sent now?"""
        key = (signer.address, purpose_of(ChannelId(channel), wanted), digest_of(wanted))
        before = self.sent.get(key)
        if before is not None:
            found = self.chain.found(before)
            waits = any(item.hash == before for item in self.chain.mempool)
            if waits or (found is not None and found[1].reason is None and not isinstance(wanted, Deposit)):
                return False
        call, value = call_for(signer, ChannelId(channel), wanted, lambda asset: self.held(channel, asset))
        if call is not None:
            to = self._lock_app if isinstance(call, calls.Reveal) else ADJUDICATOR
            self.sent[key] = self.raw(account_of(signer.address), call, value, to)
        return call is not None

    def raw(self, account: Address, call: calls.Call, value: int = 0, to: Address = ADJUDICATOR) -> Hash:
        """Put a transaction into the mempool, whatever it is."""
        nonce = self.chain.world.nonces.get(account, 0)
        waiting = {item.nonce for item in self.chain.mempool if item.sender == account}
        while nonce in waiting:  # a reorganisation may have left gaps
            nonce += 1
        self._named += 1
        name = Hash(keccak256(b"transaction" + self._named.to_bytes(8, "big")))
        try:
            self.chain.send(ModelTransaction(name, account, nonce, to, call, value))
        except Rejected as refused:
            raise AssertionError(f"0x{account.hex()}: {refused}") from refused
        return name


def challenger(signer: Signer, channel: bytes, candidate: SignedState) -> bytes:
    """The challenger's signature under the candidate."""
    encoded = encode_state_of_outcome(
        ChannelId(channel), candidate.app_data, candidate.outcome, candidate.turn, is_final=candidate.is_final
    )
    return signer.sign(challenge_hash(Hash(keccak256(encoded))))


def call_for(
    signer: Signer, channel: ChannelId, wanted: Transaction, held: Callable[[Address], int]
) -> tuple[calls.Call | None, int]:
    """The call that carries a wanted transaction out, and its value; None for a deposit that is not to be made now."""
    match wanted:
        case Deposit(asset, safety, target, amount_max):
            amount = min(target - held(asset), amount_max)
            if held(asset) < safety or amount <= 0:
                return None, 0
            call = calls.Deposit(asset, channel, held(asset), amount)
            return call, amount if asset == ZERO_ADDRESS else 0
        case Conclude(state, pays):
            return calls.ConcludeAndTransfer(state) if pays else calls.Conclude(state), 0
        case Challenge(candidate, proof):
            return calls.Challenge(proof, candidate, challenger(signer, channel, candidate)), 0
        case Checkpoint(candidate, proof):
            return calls.Checkpoint(proof, candidate), 0
        case TransferAll(outcome, state_hash):
            return calls.TransferAll(channel, outcome, state_hash), 0
        case Transfer(asset_index, outcome, state_hash, indices):
            return calls.Transfer(asset_index, channel, encode_outcome(outcome), state_hash, indices), 0
        case Reveal(preimage):
            return calls.Reveal((preimage,)), 0
        case Reclaim(outcome, state_hash, asset_index, guarantee_index, target_outcome, target_hash, target_index):
            return calls.Reclaim(
                channel, state_hash, encode_outcome(outcome), asset_index, guarantee_index, target_hash,
                encode_outcome(target_outcome), target_index,
            ), 0  # fmt: skip


class PlainService:
    """`chain.port.ChainService` over a `PlainChain`; `look` after each block. `sparse`: tell a view only when it says
    something else than the last one, as the real service does, which reads a channel again when it was touched."""

    sparse = False
    pending: tuple[Purpose, ...] = ()  # what transactions are said to be under way for

    def __init__(self, chain: PlainChain, signer: Signer) -> None:
        self.chain_id = 31_337
        self.adjudicator, self.consensus_app = ADJUDICATOR, CONSENSUS
        self.head_time_s: int | None = None
        self.followed_ms: int | None = None
        self.protection: Protection | None = Protection()
        self.confirming_s: int | None = None
        self.gas_price = 0
        self.watched: dict[ChannelId, tuple[Address, ...]] = {}
        self.wants: dict[ChannelId, tuple[Transaction, ...]] = {}
        self._chain, self._signer = chain, signer
        self._told: dict[ChannelId, object] = {}
        self.unanswered: set[ChannelId] = set()  # channels with a view that no wants have answered yet
        self._on_view: Callable[[ChannelId, ChainView], None] | None = None
        self._on_head: Callable[[int], None] | None = None

    async def start(self, on_view: Callable[[ChannelId, ChainView], None], on_head: Callable[[int], None]) -> None:
        self._on_view, self._on_head = on_view, on_head
        self.look()

    async def stop(self) -> None:
        self._on_view = self._on_head = None
        self.unanswered.clear()

    async def quiet(self) -> None: ...

    async def funds(self, asset: Address) -> int:
        world, account = self._chain.chain.world, account_of(self._signer.address)
        return world.balances.get(account, 0) if asset == ZERO_ADDRESS else world.tokens[asset].balances.get(account, 0)

    def look(self) -> None:
        """Tell the newest block, and what has changed."""
        if self._on_view is None or self._on_head is None:
            return
        self.head_time_s = self._chain.chain.head.time_s
        for channel, assets in list(self.watched.items()):
            view = self._chain.view(channel, assets)
            said = [(at.holdings, at.status, at.registered, at.proof) for at in (view.latest, view.confirmed)]
            if self._told.get(channel) != (said if self.sparse else view):
                self._told[channel] = said if self.sparse else view
                self.unanswered.add(channel)
                self._on_view(channel, view)
        self.followed_ms = START_MS  # tests let their nodes' clocks stand still, nearly
        self._on_head(self.head_time_s)

    def send(self) -> None:
        """Carry out what is wanted now."""
        for channel, wants in self.wants.items():
            for wanted in wants:
                self._chain.carry_out(self._signer, channel, wanted)

    def watch(
        self, channel: ChannelId, assets: Sequence[Address], since_block: int = 0, fed_by: ChannelId | None = None
    ) -> None:
        self.watched[channel] = tuple(assets)

    def unwatch(self, channel: ChannelId) -> None:
        self.watched.pop(channel, None)
        self._told.pop(channel, None)  # who watches it again is told again
        self.unanswered.discard(channel)

    def want(self, channel: ChannelId, wanted: Sequence[Transaction]) -> None:
        self.wants[channel] = tuple(wanted)
        self.unanswered.discard(channel)

    async def revealed(self, hashes: Sequence[bytes]) -> Revealed:
        chain = self._chain.chain
        block = chain.block(max(0, chain.head.number - CONFIRMATIONS))
        assert block is not None
        return Revealed(block.time_s, tuple(block.world.revealed.get(each, 0) for each in hashes))

    def transactions(self, channel: ChannelId) -> list[TransactionInfo]:
        return [TransactionInfo(each, "pending") for each in self.pending if each.channel == channel]

    def status(self) -> ChainStatus:
        raise AssertionError("nobody asks")


async def answered(services: Collection[PlainService]) -> None:
    """Until the nodes have answered all that they were told; one that does not answer is left alone after a second."""
    for _ in range(1_000):
        if not any(service.unanswered for service in services):
            return
        await asyncio.sleep(0.001)
