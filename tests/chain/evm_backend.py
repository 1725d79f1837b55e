"""`dispute_net.Backend` over the compiled contracts on an EVM in this process."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from scapp.channels.adjudicator_status import unpack_status
from scapp.channels.chain import calls, contracts
from scapp.channels.chain.contract_events import ChallengeRegistered, decode_event
from scapp.channels.chain.judging import digest_of
from scapp.channels.onchain import ChainView, ChannelOnChain, Purpose, Transaction, purpose_of
from scapp.channels.reading import SignedState
from scapp.channels.signing import Signer
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId, Hash
from tests.chain.cast import DEPLOYER, World, deploy
from tests.support.dispute_net import START_S
from tests.support.plain_chain import call_for
from tests.support.virtual_net import APPS, CONSENSUS_APP

STRANGER = b"\x5e" * 20
RICH = 10**6


class EvmBackend:
    """One block confirms another. `refused` are the reasons of transactions that reverted."""

    def __init__(self) -> None:
        self.world = World()
        evm = self.world.evm
        evm.timestamp = START_S
        two_party = deploy(evm, contracts.load("TwoPartyApp"))
        evm.place(CONSENSUS_APP, self.world.consensus.address)  # where the net's channels say that they are
        evm.place(APPS.payment, self.world.payments.address)
        evm.place(APPS.app, two_party.address)
        self.token = Address(self.world.token.address)
        self.world.give(STRANGER, RICH)
        assert self.world.token.send(STRANGER, "approve", self.world.adjudicator.address, RICH).ok
        self.refused: list[str] = []
        self._waiting: list[tuple[bytes, calls.Call, int, tuple[bytes, Purpose, bytes] | None]] = []
        self._done: set[tuple[bytes, Purpose, bytes]] = set()
        self._registered: dict[bytes, ChallengeRegistered] = {}
        self._before: dict[tuple[bytes, tuple[bytes, ...]], ChannelOnChain] = {}
        self._number = 1

    @property
    def now_s(self) -> int:
        return self.world.evm.timestamp

    def deposit(self, channel: ChannelId, asset: Address, amount: int) -> None:
        held = self.world.holdings(asset, channel)
        self._send(STRANGER, calls.Deposit(asset, channel, held, amount), amount if asset == ZERO_ADDRESS else 0)
        assert self.world.holdings(asset, channel) == held + amount, self.refused

    def carry_out(self, signer: Signer, channel: ChannelId, wanted: Transaction) -> None:
        key = (signer.address, purpose_of(channel, wanted), digest_of(wanted))
        call, value = call_for(signer, channel, wanted, lambda asset: self.world.holdings(asset, channel))
        if key not in self._done and call is not None:
            self._waiting.append((DEPLOYER, call, value, key))

    def call(self, call: calls.Call) -> None:
        self._waiting.append((STRANGER, call, 0, None))

    def mine(self, seconds: int) -> None:
        for key in list(self._before):
            channel, assets = key
            self._before[key] = self._read(ChannelId(channel), tuple(map(Address, assets)))
        self.world.evm.timestamp += seconds
        self._number += 1
        waiting, self._waiting = self._waiting, []
        for sender, call, value, key in waiting:
            if self._send(sender, call, value) and key is not None:
                self._done.add(key)

    def _send(self, sender: bytes, call: calls.Call, value: int) -> bool:
        receipt = self.world.evm.send(sender, self.world.adjudicator.address, calls.encode_call(call), value)
        if not receipt.ok:
            self.refused.append(f"{type(call).__name__}: {receipt.reason}")
        for log in receipt.logs:
            if log.address == self.world.adjudicator.address:
                event = decode_event(log.topics, log.data)
                if isinstance(event, ChallengeRegistered):
                    self._registered[event.channel] = event
        return receipt.ok

    def view(self, channel: ChannelId, assets: Sequence[Address]) -> ChainView:
        latest = self._read(channel, tuple(assets))
        return ChainView(latest, self._before.setdefault((channel, tuple(assets)), latest))

    def _read(self, channel: ChannelId, assets: tuple[Address, ...]) -> ChannelOnChain:
        status = unpack_status(Hash(self.world.status(channel)))
        holdings = tuple(self.world.holdings(asset, channel) for asset in assets)
        shown = self._registered.get(channel)
        candidate: SignedState | None = None
        if shown is not None and (shown.candidate.turn, shown.finalizes_at) == (
            status.turn_record,
            status.finalizes_at,
        ):
            candidate = shown.candidate
        found = ChannelOnChain(self._number, self._number.to_bytes(32, "big"), holdings, status, candidate)
        return (
            msgspec.structs.replace(found, proof=shown.proof) if candidate is not None and shown is not None else found
        )

    def held(self, channel: ChannelId, asset: Address) -> int:
        return self.world.holdings(asset, channel)

    def balance(self, address: Address, asset: Address) -> int:
        if asset == ZERO_ADDRESS:
            return self.world.evm.balance(address)
        balance: int = self.world.token.read("balanceOf", address)
        return balance
