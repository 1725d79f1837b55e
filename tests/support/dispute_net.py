"""A `virtual_net` on a chain: its ledgers are funded there, and whoever has reason to goes there.

What a node's engine does with ledgers and virtual channels on chain is done here in the plainest way: views become
facts, facts wanted transactions, and those go to the chain. The chain is a port: the model here, the compiled contracts
in `tests/chain/evm_backend.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from scapp.channels.books.step import BooksTerms, Context, Step
from scapp.channels.books.wire import to_wire_amount
from scapp.channels.chain import calls
from scapp.channels.chain.support import App
from scapp.channels.errors import LocalError
from scapp.channels.ledger import chain_view as ledger_chain
from scapp.channels.ledger import leaving as ledger_leaving
from scapp.channels.ledger import settling as ledger_settling
from scapp.channels.ledger.chain_facts import Enforceable
from scapp.channels.ledger.consensus import Ledger, SignedProposal
from scapp.channels.ledger.events import LedgerCreated
from scapp.channels.ledger.owed import Settled
from scapp.channels.ledger.proposals import Proposal
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.record import evolve as evolve_ledger
from scapp.channels.ledger.setup import setup_of
from scapp.channels.onchain import ChainView, Transaction
from scapp.channels.outcome import encode_outcome
from scapp.channels.payments.vouchers import Voucher
from scapp.channels.reading import SignedState
from scapp.channels.signing import Signer
from scapp.channels.state import VariablePart, state_hash, voucher_hash
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from scapp.channels.virtual import chain_view as virtual_chain
from scapp.channels.virtual import defunding
from scapp.channels.virtual import leaving as virtual_leaving
from scapp.channels.virtual import settling as virtual_settling
from scapp.channels.virtual.agreement import Amounts
from tests.support import virtual_net
from tests.support.plain_chain import TOKEN as MODEL_TOKEN
from tests.support.plain_chain import PlainChain, account_of
from tests.support.virtual_net import APPS, CONSENSUS_APP, Net, Party

START_S = virtual_net.NOW_MS // 1_000
DURATION_S = 86_400
TERMS = BooksTerms(virtual_timeout_s=60, silence_timeout_s=7_200, conclude_delay_s=600)
STRANGER = Signer(b"\x5e" * 32)
_ACCOUNT = account_of(STRANGER.address)


class Backend(Protocol):
    """A chain for tests. Transactions wait until the next block."""

    @property
    def now_s(self) -> int: ...

    @property
    def token(self) -> Address: ...

    def deposit(self, channel: ChannelId, asset: Address, amount: int) -> None: ...

    def carry_out(self, signer: Signer, channel: ChannelId, wanted: Transaction) -> None: ...

    def call(self, call: calls.Call) -> None:
        """A stranger's."""
        ...

    def mine(self, seconds: int) -> None: ...

    def view(self, channel: ChannelId, assets: Sequence[Address]) -> ChainView: ...

    def balance(self, address: Address, asset: Address) -> int: ...

    def held(self, channel: ChannelId, asset: Address) -> int: ...


class ModelBackend:
    """The chain's model."""

    def __init__(self, signers: Sequence[Signer]) -> None:
        apps: dict[bytes, App] = {APPS.payment: "payment", APPS.app: "two-party"}
        self.plain = PlainChain([*signers, STRANGER], START_S, CONSENSUS_APP, apps)
        self.token = MODEL_TOKEN

    @property
    def now_s(self) -> int:
        return self.plain.chain.head.time_s

    def deposit(self, channel: ChannelId, asset: Address, amount: int) -> None:
        value = amount if asset == ZERO_ADDRESS else 0
        self.plain.raw(_ACCOUNT, calls.Deposit(asset, channel, self.plain.held(channel, asset), amount), value)
        self.mine(12)

    def carry_out(self, signer: Signer, channel: ChannelId, wanted: Transaction) -> None:
        self.plain.carry_out(signer, channel, wanted)

    def call(self, call: calls.Call) -> None:
        self.plain.raw(_ACCOUNT, call)

    def mine(self, seconds: int) -> None:
        self.plain.chain.mine(self.now_s + seconds)

    def view(self, channel: ChannelId, assets: Sequence[Address]) -> ChainView:
        return self.plain.view(channel, assets)

    def held(self, channel: ChannelId, asset: Address) -> int:
        return self.plain.held(channel, asset)

    def balance(self, address: Address, asset: Address) -> int:
        world = self.plain.chain.world
        if asset == ZERO_ADDRESS:
            return world.balances.get(address, 0)
        return world.tokens[asset].balances.get(address, 0)


class OnChain:
    """One party's side of the chain: its ledgers as records, beside its virtual channels in the net."""

    def __init__(self, party: Party, net: DisputeNet) -> None:
        self.party, self.net = party, net
        self.ledgers: dict[Address, LedgerRecord] = {}
        self.frozen: set[Address] = set()  # neighbours with whom no update is signed any more
        self.vouchers: dict[ChannelId, int] = {}
        self.redeemed: dict[ChannelId, Enforceable] = {}
        self.apps: dict[ChannelId, Enforceable] = {}
        self.waits: dict[bytes, tuple[str, int]] = {}
        self.answers = True  # does it act on the chain?

    @property
    def context(self) -> Context:
        chain = self.net.chain
        return Context(self.party.signer, self.party.now_ms, chain.now_s, TERMS)

    def adopt(self, peer: Address, ledger: Ledger) -> None:
        """The net's ledger as a record that is funded on chain."""
        balances, fixed = ledger.current, ledger.fixed
        funds = tuple(
            (each.asset, to_wire_amount(each.leader), to_wire_amount(each.follower)) for each in balances.assets
        )
        created = LedgerCreated(
            ledger.channel_id, ledger.my_index, (fixed.participants[0], fixed.participants[1]), fixed.nonce,
            fixed.app_definition, fixed.challenge_duration, (balances.parties.leader, balances.parties.follower), funds,
            0, b"",
        )  # fmt: skip
        self.ledgers[peer] = LedgerRecord(setup=setup_of(created), created_ms=0, prefund=(b"", b""), ledger=ledger)

    def sync(self) -> None:
        """What the net has co-signed since."""
        for peer, record in self.ledgers.items():
            if peer not in self.frozen:
                self.ledgers[peer] = msgspec.structs.replace(record, ledger=self.party.ledgers[peer])
            if self.ledgers[peer].phase == "disputed":
                self.freeze(peer)

    def freeze(self, peer: Address) -> None:
        self.frozen.add(peer)
        self.party.ledgers.pop(peer, None)

    # The chain

    def settled(self) -> dict[ChannelId, Settled]:
        now_s = self.net.chain.now_s
        found = {
            channel: virtual_chain.settled(record, self.enforceable(channel), now_s)
            for channel, record in self.party.records.items()
        }
        return {channel: each for channel, each in found.items() if each is not None}

    def enforceable(self, channel: ChannelId) -> Enforceable | None:
        return self.redeemed.get(channel) or self.apps.get(channel)

    def look(self) -> None:
        """Views become facts, and the records turn on."""
        chain = self.net.chain
        for channel in list(self.party.records):
            self.party.take(virtual_chain.on_view(self.party.records[channel], chain.view(channel, ()), self.context))
            self.party.take(virtual_chain.on_head(self.party.records[channel], self.enforceable(channel), self.context))
        settled = self.settled()
        for peer, record in list(self.ledgers.items()):
            view = chain.view(record.channel, record.setup.assets)
            self._commit(peer, ledger_chain.on_view(record, view, settled, self.context, chain.now_s))
        self._settle_guarantees()
        self._close_payments()
        self._leave_the_silent()
        self.sync()
        self.party.settle()

    def _commit(self, peer: Address, step: Step) -> None:
        for event in step.events:
            self.ledgers[peer] = evolve_ledger(self.ledgers[peer], event)
        self.sync()

    def needs(self) -> dict[ChannelId, int]:
        found: dict[ChannelId, int] = {}
        for record in self.ledgers.values():
            for channel, since in ledger_settling.needs(record, self.context).items():
                found[channel] = min(since, found.get(channel, since))
        return found

    def _settle_guarantees(self) -> None:
        """Those that a ledger on chain no longer has are gone."""
        for channel in list(self.party.records):
            for at, side in self.party.records[channel].sides:
                ledger = self.ledgers[Address(side.peer)]
                if ledger_settling.is_reclaimed(ledger, channel):
                    self.party.take(defunding.ledger_settled(self.party.records[channel], at))

    def _close_payments(self) -> None:
        """The payee's one redemption, once it must be made."""
        needs = self.needs()
        for channel, record in self.party.records.items():
            amount = self.vouchers.get(channel, 0)
            ends = virtual_settling.closes_payments(record, needs.get(channel))
            if ends and amount and record.funded and channel not in self.redeemed and record.right is None:
                payer = self.net.by_address[record.agreement.participants[0]].signer
                voucher = Voucher(channel, amount, payer.sign(voucher_hash(channel, amount)))
                self.redeemed[channel] = virtual_settling.redemption(record, voucher, self.party.signer)

    def _leave_the_silent(self) -> None:
        for channel, record in list(self.party.records.items()):
            if self._overdue(channel, virtual_leaving.waits_for_others(record)):
                self.party.take(virtual_leaving.leave(record, "silence"))
            for ledger in virtual_leaving.held_up(record):
                peer = next(peer for peer, each in self.ledgers.items() if each.channel == ledger)
                if self._overdue(ledger + channel, "the guarantee's removal"):
                    self.leave(peer)
        for peer, each in list(self.ledgers.items()):
            if self._overdue(each.channel, ledger_leaving.waits_for_peer(each)):
                self.leave(peer)

    def _overdue(self, key: bytes, waits: str) -> bool:
        now_s = self.net.chain.now_s
        known, since = self.waits.get(key, ("", now_s))
        if known != waits:
            since = now_s
        self.waits[key] = (waits, since)
        return bool(ledger_leaving.exit_due(waits, since, self.context))

    def leave(self, peer: Address) -> None:
        """The operator, or its terms, give this neighbour up."""
        try:
            self._commit(peer, ledger_leaving.leave(self.ledgers[peer], "silence"))
        except LocalError:
            return

    def act(self) -> None:
        """What is wanted goes to the chain."""
        if self.answers:
            self.act_but()

    def act_but(self, *kinds: type) -> None:
        """The same without some kinds of transactions."""
        needs, settled = self.needs(), self.settled()
        for channel, record in self.party.records.items():
            wants = virtual_settling.wanted(record, self.enforceable(channel), needs.get(channel), self.context)
            for wanted in wants:
                self._send(channel, wanted)
        for record in self.ledgers.values():
            for wanted in ledger_settling.wanted(record, settled, self.context):
                if not isinstance(wanted, kinds):
                    self._send(record.channel, wanted)

    def _send(self, channel: ChannelId, wanted: Transaction) -> None:
        self.net.chain.carry_out(self.party.signer._signer, channel, wanted)
        self.net.sent.append((self.party.address, channel, wanted))


class _Frozen(Party):
    """A party that signs nothing in a ledger that the chain has."""

    def _pursue(self, peer: Address, wants: Sequence[Proposal]) -> dict[ChannelId, str]:
        return super()._pursue(peer, wants) if peer in self.ledgers else {}

    def _hear_ledger(self, peer: Address, message: SignedProposal) -> None:
        if peer in self.ledgers:
            super()._hear_ledger(peer, message)


class DisputeNet(Net):
    """`chain` after `fund`. `sent` has what was wanted: by whom, for which channel."""

    chain: Backend

    def fund(self, chain: Backend) -> None:
        """Deposit what the ledgers hold."""
        self.chain = chain
        self.sent: list[tuple[Address, ChannelId, Transaction]] = []
        self.sides = [OnChain(party, self) for party in self.parties]
        for side in self.sides:
            side.party.__class__ = _Frozen  # made by the net before it knew of a chain
            for peer, ledger in side.party.ledgers.items():
                side.adopt(peer, ledger)
                if ledger.my_index == 0:
                    for each in ledger.current.assets:
                        chain.deposit(ledger.channel_id, each.asset, each.leader + each.follower)
        addresses = [party.address for party in self.parties]
        self.before = {(who, asset): chain.balance(who, asset) for who in addresses for asset in self.assets}
        for side in self.sides:
            side.look()

    def side(self, party: Party) -> OnChain:
        return self.sides[self.parties.index(party)]

    def silence(self, party: Party) -> None:
        """It says and does nothing from now on."""
        self.silent.add(party.address)
        self.side(party).answers = False

    def block(self, seconds: int = 3_600) -> None:
        """Everybody sends what it wants; a block; everybody sees it, and talks."""
        for side in self.sides:
            side.sync()
            side.act()
        self.chain.mine(seconds)
        for side in self.sides:
            side.party.now_ms = self.chain.now_s * 1_000
            if side.party.address not in self.silent:
                side.look()
        self.flush()
        self.run(rounds=2, check=False)

    def blocks(self, count: int, seconds: int = 3_600) -> None:
        for _ in range(count):
            self.block(seconds)

    def until_settled(self, *, blocks: int = 120) -> None:
        """Until nobody who speaks has money left in a ledger that is on chain, nor a guarantee anywhere."""
        for side in self.sides:
            side.sync()
        for _ in range(blocks):
            if all(self._done(side) for side in self.sides if side.party.address not in self.silent):
                return
            self.block()
        raise AssertionError(self.describe())

    @staticmethod
    def _done(side: OnChain) -> bool:
        return all(
            each.phase == "settled" or (each.phase == "running" and not each.has_guarantees)
            for each in side.ledgers.values()
        )

    def describe(self) -> str:
        lines = [virtual_net.describe(self)]
        for side in self.sides:
            for record in side.ledgers.values():
                latest = record.chain.latest if record.chain is not None else None
                lines.append(f"{side.party.address.hex()[:4]} {record.phase} {record.exit_reason!r} {latest}")
        return "\n".join(lines)

    def has(self, party: Party, asset: Address = ZERO_ADDRESS) -> int:
        """What it was paid on chain, and what its ledgers that still run would pay it at least."""
        paid = self.chain.balance(party.address, asset) - self.before[party.address, asset]
        running = [each.ledger for each in self.side(party).ledgers.values() if each.phase != "settled"]
        return paid + sum(party._part(each.current, asset) for each in running if each is not None)

    # Stories

    def pay(self, channel: ChannelId, total: int) -> None:
        """The payee holds a voucher for so much."""
        people = self.parties[0].records[channel].agreement.participants
        payer, payee = self.by_address[people[0]], self.by_address[people[-1]]
        self.side(payee).vouchers[channel] = total
        payer.promised[channel] = payee.promised[channel] = total

    def app_turn(self, channel: ChannelId, turn: int, amounts: Amounts, parties: Sequence[Party]) -> Enforceable:
        """Both app parties have signed it; those given know it."""
        record = self.parties[0].records[channel]
        agreement, people = record.agreement, record.agreement.participants
        variable = VariablePart(agreement.outcome(amounts), b"app", turn, False)
        digest = state_hash(channel, variable)
        ends = (people[0], people[-1])
        signatures = tuple(self.by_address[who].signer.sign(digest) if who in ends else b"" for who in people)
        fixed = agreement.fixed
        state = SignedState(
            fixed.participants, fixed.nonce, fixed.app_definition, fixed.challenge_duration, b"app",
            encode_outcome(variable.outcome), turn, False, signatures,
        )  # fmt: skip
        postfund = virtual_chain.milestone_state(record, "postfund")
        assert postfund is not None
        found = Enforceable(state, (postfund,))
        for party in parties:
            self.side(party).apps[channel] = found
        return found


def model_net(count: int, seed: object = 0, **given: object) -> DisputeNet:
    """Parties in a row with funded ledgers on the model."""
    net = DisputeNet(count, seed, **given)  # type: ignore[arg-type]
    net.fund(ModelBackend([party.signer._signer for party in net.parties]))
    return net
