"""Two nodes with one ledger, as values: their logs, what lies between them, and a simulated chain.

A party folds what it reads back from its log, so everything it knows has been through bytes. `Watched` checks on the
way that no turn is signed twice and that no signature leaves before it is stored. Which virtual channels there are is
told from outside (`wants`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from scapp.channels.books.step import BooksTerms, Context, Send, Step
from scapp.channels.errors import ScappError
from scapp.channels.ledger import asking, closing, opening, receiving, recovery, resending
from scapp.channels.ledger import record as ledger_record
from scapp.channels.ledger.chain_view import on_view
from scapp.channels.ledger.consensus import FOLLOWER, LEADER
from scapp.channels.ledger.crank import crank
from scapp.channels.ledger.events import (
    Countersigned,
    FinalStateSigned,
    LedgerCreated,
    LedgerEvent,
    LedgerRestored,
    ProposalSigned,
    StageSigned,
)
from scapp.channels.ledger.messages import LedgerMessage, OpenLedger
from scapp.channels.ledger.opening import LedgerOrder, LedgerRules
from scapp.channels.ledger.proposals import Proposal
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.session import LedgerSession
from scapp.channels.ledger.settling import wanted
from scapp.channels.ledger.signed import final_hash, stage_hash
from scapp.channels.ledger.updating import Impossible, pursue
from scapp.channels.outcome import address_to_destination
from scapp.channels.signing import Signer
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId, Hash, Signature
from tests.support.plain_chain import CONSENSUS, TOKEN, PlainChain, account_of

START_S = 1_700_000_000
COIN = ZERO_ADDRESS
FUNDS = ((COIN, 100, 60), (TOKEN, 0, 40))
RULES = LedgerRules(app_definition=CONSENSUS, challenge_duration_min_s=60, challenge_duration_max_s=10_000)
TERMS = BooksTerms(conclude_delay_s=30)

_events: msgspec.msgpack.Decoder[LedgerEvent] = msgspec.msgpack.Decoder(LedgerEvent)
_messages: msgspec.msgpack.Decoder[LedgerMessage] = msgspec.msgpack.Decoder(LedgerMessage)
encode = msgspec.msgpack.encode


def decode_message(data: bytes) -> LedgerMessage:
    return _messages.decode(data)


class Watched:
    """A signer that remembers what it has signed."""

    def __init__(self, secret: bytes) -> None:
        self._signer = Signer(secret)
        self.address = self._signer.address
        self.made: set[bytes] = set()

    def sign(self, digest: Hash, /) -> Signature:
        signature = self._signer.sign(digest)
        self.made.add(signature)
        return signature


class Party:
    """One node: its log, what it has folded of it, and its session. `wants` are its virtual channels' changes."""

    def __init__(self, index: int, chain: PlainChain) -> None:
        self.index = index
        self.chain = chain
        self.signer = Watched(bytes((index + 1,)) * 32)
        self.log: list[bytes] = []
        self.appended: list[int] = []  # lengths of the log between its atomic appends
        self.record: LedgerRecord | None = None
        self.session = LedgerSession()
        self.wants: list[Proposal] = []
        self.impossible: list[Impossible] = []
        self.outbox: list[tuple[Address, bytes]] = []
        self.signed: dict[int, bytes] = {}  # turn: the hash under this party's signature, also of before a restore
        self.now_ms = START_S * 1_000
        self.checks = True
        self.seen_s = 0  # up to when the chain has been followed since the start

    @property
    def address(self) -> Address:
        return self.signer.address

    @property
    def it(self) -> LedgerRecord:
        """The record, which is there."""
        assert self.record is not None
        return self.record

    @property
    def context(self) -> Context:
        return Context(self.signer, self.now_ms, self.chain.chain.head.time_s, TERMS)

    def commit(self, step: Step) -> None:
        """Store and fold, then say."""
        for event in step.events:
            data = encode(event)
            self.log.append(data)
            self._fold(_events.decode(data))
        if step.events:
            self.appended.append(len(self.log))
        for send in step.sends:
            data = encode(send.message)
            if self.checks:
                self._check_stored(data)
            self.outbox.append((send.peer, data))

    def _fold(self, event: LedgerEvent) -> None:
        if isinstance(event, LedgerCreated):
            self.record = ledger_record.create(event)
            if self.index == LEADER:
                self._sign(0, stage_hash(self.it.setup, 0))
            return
        self.record = ledger_record.evolve(self.it, event)
        match event:
            case StageSigned(turn=turn, index=index) if index == self.index:
                self._sign(turn, stage_hash(self.it.setup, turn))
            case ProposalSigned(turn=turn, state_hash=state_hash):
                self._sign(turn, state_hash)
            case Countersigned(turn=turn) if self.checks:
                ledger = self.it.ledger
                assert ledger is not None
                self._sign(turn, ledger.current.state_hash(self.it.channel))
            case FinalStateSigned(turn=turn, index=index) if index == self.index:
                self._sign(turn, final_hash(self.it, turn))

    def _sign(self, turn: int, state_hash: bytes) -> None:
        if not self.checks:
            return
        assert self.signed.setdefault(turn, state_hash) == state_hash, f"two states of turn {turn} were signed"

    def _check_stored(self, message: bytes) -> None:
        stored = b"".join(self.log)
        for signature in self.signer.made:
            assert signature not in message or signature in stored, "a signature left before it was stored"

    def settle(self) -> None:
        """Turn the crank until nothing follows any more."""
        while self.record is not None:
            step = crank(self.record, self.context)
            self.commit(step)
            pursuit = pursue(self.it, self.session, self.wants, self.context)
            self.impossible += pursuit.impossible
            self.commit(pursuit.step)
            if not step.events and not pursuit.step.events:
                return

    def hear(self, peer: Address, data: bytes, *, accepts: bool = True) -> None:
        """A message; raises what a decider raises, and then nothing has changed."""
        message = decode_message(data)
        if isinstance(message, OpenLedger):
            known = [self.record] if self.record is not None else []
            self.commit(opening.receive_open(message, peer, known, RULES, self.context))
            if accepts and self.record is not None and self.it.phase == "proposed":
                self.commit(opening.accept(self.it, self.context))
        else:
            self.commit(receiving.receive(self.it, self.session, message, self.context))
        self.settle()

    def accept(self) -> None:
        self.commit(opening.accept(self.it, self.context))
        self.settle()

    def request(self, proposal: Proposal) -> None:
        self.commit(asking.request(self.it, self.session, proposal, self.context))
        self.settle()

    def close(self) -> None:
        self.commit(closing.close(self.it))
        self.settle()

    def say_again(self) -> None:
        """As when a link comes up."""
        if self.record is not None:
            self.commit(Step(sends=tuple(Send(self.it.peer, each) for each in resending.pending(self.record))))

    def restart(self) -> None:
        """All that is volatile is gone; the log is read again."""
        before, self.record, self.session, self.seen_s = self.record, None, LedgerSession(), 0
        for data in self.log:
            self._fold(_events.decode(data))
        assert self.record == before, "the fold of the log is not the record"
        self.settle()

    def restore(self, length: int, token: bytes) -> None:
        """The log as a backup had it, `length` events long, with the mark of the restore. Two facts of one append are
        never torn apart."""
        length = max(each for each in self.appended if each <= length)
        del self.log[length:]
        self.appended = [each for each in self.appended if each <= length]
        created = _events.decode(self.log[0])
        self.log.append(encode(LedgerRestored(created.channel, token, self.now_ms, self.now_ms - 1)))
        self.appended.append(len(self.log))
        self.record, self.session, self.seen_s = None, LedgerSession(), 0
        for data in self.log:
            self._fold(_events.decode(data))
        self.settle()

    def override(self) -> None:
        self.commit(recovery.override(self.it))
        self.settle()

    def see(self) -> None:
        """The chain's newest view, as a fact when anything has changed."""
        if self.record is None:
            return
        view = self.chain.view(self.it.channel, self.it.setup.assets)
        self.commit(on_view(self.it, view, {}, self.context, self.seen_s))
        self.seen_s = self.chain.chain.head.time_s
        self.settle()

    def act(self) -> None:
        """Send the transactions that are wanted now."""
        if self.record is not None:
            for transaction in wanted(self.record, {}, self.context):
                self.chain.carry_out(self.signer, self.record.channel, transaction)  # type: ignore[arg-type]


class LedgerPair:
    """`parties[0]` leads. `bag` holds what lies between them: who hears it, and the bytes."""

    def __init__(self, funds: Sequence[tuple[Address, int, int]] = FUNDS) -> None:
        self.funds = tuple(funds)
        self.chain = PlainChain([Signer(bytes((index + 1,)) * 32) for index in range(2)], START_S)
        self.parties = [Party(index, self.chain) for index in range(2)]
        self.bag: list[tuple[int, bytes]] = []
        self.refused: list[str] = []
        leader, follower = self.parties
        order = LedgerOrder(
            peer=follower.address,
            nonce=7,
            challenge_duration_s=600,
            funds=self.funds,
            pays_to=(
                address_to_destination(account_of(leader.address)),
                address_to_destination(account_of(follower.address)),
            ),
        )
        leader.commit(opening.propose(order, (), RULES, leader.context))
        self.collect()

    @property
    def leader(self) -> Party:
        return self.parties[LEADER]

    @property
    def follower(self) -> Party:
        return self.parties[FOLLOWER]

    @property
    def channel(self) -> ChannelId:
        return self.leader.it.channel

    def collect(self) -> None:
        """What the parties have said falls into the bag."""
        for party in self.parties:
            for peer, data in party.outbox:
                assert peer == self.parties[1 - party.index].address
                self.bag.append((1 - party.index, data))
            party.outbox.clear()

    def deliver(self, at: int = 0, *, keep: bool = False) -> None:
        """One message of the bag, which stays in it with `keep`."""
        to, data = self.bag[at] if keep else self.bag.pop(at)
        party = self.parties[to]
        if party.record is None and not isinstance(decode_message(data), OpenLedger):
            return  # of a ledger that is not known
        log, record = list(party.log), party.record
        try:
            party.hear(self.parties[1 - to].address, data)
        except ScappError as error:
            self.refused.append(f"{decode_message(data)}: {error}")
            assert (party.log, party.record) == (log, record), "a refused message has changed something"
        self.collect()

    def quiet(self) -> None:
        """Everything arrives, in order."""
        while self.bag:
            self.deliver()

    def mine(self, blocks: int = 1) -> None:
        """Everybody sends what it wants, and sees the block."""
        for _ in range(blocks):
            for party in self.parties:
                party.act()
            head = self.chain.chain.mine()
            for party in self.parties:
                party.now_ms = head.time_s * 1_000
                party.see()
            self.collect()
            self.quiet()

    def run(self) -> None:
        """From the proposal to a ledger that runs."""
        self.quiet()
        self.mine(12)
        assert [party.it.phase for party in self.parties] == ["running", "running"]
