"""Leader and follower of a ledger under lost, doubled, reordered and forged messages: equal ends, no unit lost."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scapp.channels.errors import LocalError
from scapp.channels.ledger import consensus
from scapp.channels.ledger.balances import Parties, opening_balances
from scapp.channels.ledger.consensus import Ledger, LedgerRefused, SignedProposal
from scapp.channels.ledger.proposals import Add, Part, Proposal, ProposalRefused, Remove, apply
from scapp.channels.outcome import AllocationType, address_to_destination, encode_outcome
from scapp.channels.signing import Signer, Verifier
from scapp.channels.state import FixedPart, channel_id
from scapp.channels.types import Address, ChannelId

KEYS = (Signer(b"\x01" * 32), Signer(b"\x02" * 32))
FIXED = FixedPart(tuple(key.address for key in KEYS), 7, Address(b"\x11" * 20), 100)
CHANNEL = channel_id(FIXED)
PARTIES = Parties(*(address_to_destination(key.address) for key in KEYS))
COIN, TOKEN = Address(bytes(20)), Address(b"\x70" * 20)
FUNDS = [(COIN, 100, 60), (TOKEN, 0, 40)]
TARGETS = [ChannelId(bytes((255, number)) * 16) for number in range(5)]


def both() -> list[Ledger]:
    balances = opening_balances(PARTIES, FUNDS)
    state_hash = balances.state_hash(CHANNEL)
    signatures = (KEYS[0].sign(state_hash), KEYS[1].sign(state_hash))
    return [consensus.begin(FIXED, index, balances, signatures) for index in range(2)]


@st.composite
def adds(draw: st.DrawFn) -> Add:
    """Mostly possible ones, in one asset or in both, and some that nothing can pay."""
    left, right = draw(st.permutations([PARTIES.leader, PARTIES.follower]))
    assets = draw(st.sampled_from([(COIN,), (TOKEN,), (COIN, TOKEN)]))
    parts = tuple(Part(asset, draw(st.integers(0, 60)), draw(st.integers(0, 40))) for asset in assets)
    return Add(draw(st.sampled_from(TARGETS)), left, right, parts)


def _received(follower: Ledger, message: SignedProposal) -> Ledger:
    """The follower after a message that the leader did send: it fits, or is early or known already."""
    try:
        return consensus.receive_proposal(follower, message)
    except LedgerRefused as error:
        if not error.stale:
            raise
        return follower


class LedgerMachine(RuleBasedStateMachine):
    """Messages lie in two bags and are taken from them in any order, any number of times."""

    def __init__(self) -> None:
        super().__init__()
        self.leader, self.follower = both()
        self.to_follower: list[SignedProposal] = []
        self.to_leader: list[SignedProposal] = []
        self.signed: dict[tuple[int, int], bytes] = {}  # (who, turn): the hash that was signed

    @initialize()
    def begin(self) -> None:
        self.leader, self.follower = both()

    def _sign(self, who: int, turn: int, state_hash: bytes) -> None:
        assert self.signed.setdefault((who, turn), state_hash) == state_hash, "two states of one turn were signed"

    @rule(proposal=adds())
    def add(self, proposal: Add) -> None:
        self._propose(proposal)

    @rule(channel=st.sampled_from(TARGETS), share=st.integers(0, 70))
    def remove(self, channel: ChannelId, share: int) -> None:
        standing = {a.asset: g.amount for a in self.leader.proposed.assets if (g := a.find(channel)) is not None}
        parts = tuple(Part(asset, amount, min(share, amount + 1)) for asset, amount in standing.items())
        self._propose(Remove(channel, parts))

    def _propose(self, proposal: Proposal) -> None:
        before = self.leader
        try:
            self.leader, message = consensus.propose(before, proposal, KEYS[0])
        except LocalError:
            assert self.leader is before
            with pytest.raises(ProposalRefused):
                apply(before.proposed, proposal)
            return
        self._sign(0, message.turn, self.leader.queue[-1].state_hash)
        self.to_follower.extend(consensus.redundant_queue(self.leader))

    @rule(data=st.data())
    def deliver_to_follower(self, data: st.DataObject) -> None:
        if not self.to_follower:
            return
        self.follower = _received(self.follower, data.draw(st.sampled_from(self.to_follower)))

    @rule()
    def countersign(self) -> None:
        if not self.follower.queue:
            return
        first = self.follower.queue[0]
        self._sign(1, first.after.turn, first.state_hash)
        self.follower, message = consensus.sign_next(self.follower, first.proposal, KEYS[1])
        self.to_leader.append(message)

    @rule(data=st.data())
    def deliver_to_leader(self, data: st.DataObject) -> None:
        if not self.to_leader:
            return
        self.leader = consensus.receive_countersigned(self.leader, data.draw(st.sampled_from(self.to_leader)))

    @rule(data=st.data())
    def forge(self, data: st.DataObject) -> None:
        """A message with another signature, change or turn number changes nothing."""
        bag, receive, ledger = data.draw(
            st.sampled_from(
                [
                    (self.to_follower, consensus.receive_proposal, self.follower),
                    (self.to_leader, consensus.receive_countersigned, self.leader),
                ]
            )
        )
        if not bag:
            return
        message = data.draw(st.sampled_from(bag))
        changes: dict[str, object] = {
            "signature": message.signature[:40] + bytes((message.signature[40] ^ 1,)) + message.signature[41:],
            "proposal": data.draw(adds()),
            "turn": message.turn + data.draw(st.integers(1, 3)),
            "ledger": TARGETS[0],
        }
        name = data.draw(st.sampled_from(sorted(changes)))
        if changes[name] == getattr(message, name):
            return
        forged = msgspec.structs.replace(message, **{name: changes[name]})
        with contextlib.suppress(LedgerRefused):
            assert receive(ledger, forged) == ledger

    @invariant()
    def nothing_is_lost(self) -> None:
        for ledger in (self.leader, self.follower):
            for balances in (ledger.current, ledger.proposed):
                assert [(a.asset, a.total) for a in balances.assets] == [(a, lead + fol) for a, lead, fol in FUNDS]
                assert all(a.leader >= 0 and a.follower >= 0 for a in balances.assets)

    @invariant()
    def both_signed_what_holds(self) -> None:
        for ledger in (self.leader, self.follower):
            state_hash = ledger.current.state_hash(CHANNEL)
            for key, signature in zip(KEYS, ledger.signatures, strict=True):
                assert Verifier(key.address).matches(state_hash, signature)
            turns = [queued.after.turn for queued in ledger.queue]
            assert turns == list(range(ledger.current.turn + 1, ledger.current.turn + 1 + len(turns)))
        assert self.leader.current.turn <= self.follower.current.turn <= self.leader.proposed.turn

    @invariant()
    def the_kept_encoding_is_the_encoding(self) -> None:
        balances = self.leader.proposed
        assert balances.encode_outcome() == encode_outcome(balances.outcome())

    def teardown(self) -> None:
        """Once everything arrives, both agree."""
        for message in consensus.redundant_queue(self.leader):
            self.follower = _received(self.follower, message)
        messages = list(self.to_leader)
        while self.follower.queue:
            self.follower, message = consensus.sign_next(self.follower, self.follower.queue[0].proposal, KEYS[1])
            messages.append(message)
        for message in messages:
            self.leader = consensus.receive_countersigned(self.leader, message)
        assert self.leader.current == self.follower.current
        assert not self.leader.queue


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(stateful_step_count=30)


def test_what_is_no_ledger() -> None:
    """Three participants, a foreign signature, money for nobody."""
    ledger = both()[0]
    with pytest.raises(LocalError, match="two participants"):
        consensus.begin(
            msgspec.structs.replace(FIXED, participants=FIXED.participants * 2), 0, ledger.current, (b"", b"")
        )
    with pytest.raises(Exception, match="not signed by"):
        consensus.begin(FIXED, 0, ledger.current, (ledger.signatures[1], ledger.signatures[0]))


@pytest.mark.parametrize(
    ("proposal", "says"),
    [
        (Add(TARGETS[0], PARTIES.leader, PARTIES.leader, (Part(COIN, 1, 1),)), "between the two parties"),
        (Add(ChannelId(PARTIES.leader), PARTIES.leader, PARTIES.follower, (Part(COIN, 1, 1),)), "is no channel"),
        (Add(TARGETS[0], PARTIES.leader, PARTIES.follower, ()), "1 to 16"),
        (Add(TARGETS[0], PARTIES.leader, PARTIES.follower, (Part(COIN, 1, 1), Part(COIN, 1, 1))), "different assets"),
        (Add(TARGETS[0], PARTIES.leader, PARTIES.follower, (Part(Address(b"\x09" * 20), 1, 1),)), "holds no asset"),
        (Add(TARGETS[0], PARTIES.leader, PARTIES.follower, (Part(COIN, -50, -60),)), "allowed are"),
        (Add(TARGETS[0], PARTIES.leader, PARTIES.follower, (Part(COIN, 2**256, 0),)), "allowed are"),
        (Remove(TARGETS[0], (Part(COIN, 1, 1),)), "guarantee not found"),
    ],
)
def test_what_go_nitro_lets_pass(proposal: Proposal, says: str) -> None:
    """Negative amounts, foreign destinations, assets that are not there."""
    with pytest.raises(ProposalRefused, match=says):
        apply(both()[0].current, proposal)


def test_a_removal_names_the_guarantee_as_it_stands() -> None:
    balances = apply(both()[0].current, Add(TARGETS[0], PARTIES.leader, PARTIES.follower, (Part(COIN, 10, 4),)))
    with pytest.raises(ProposalRefused, match="the guarantee has 10"):
        apply(balances, Remove(TARGETS[0], (Part(COIN, 9, 4),)))
    with pytest.raises(ProposalRefused, match="names others"):
        apply(balances, Remove(TARGETS[0], (Part(TOKEN, 10, 4),)))


def test_guarantees_are_of_the_type_that_the_contracts_pay() -> None:
    balances = apply(both()[0].current, Add(TARGETS[0], PARTIES.leader, PARTIES.follower, (Part(COIN, 10, 4),)))
    types = [allocation.allocation_type for allocation in balances.outcome()[0].allocations]
    assert types == [AllocationType.SIMPLE, AllocationType.SIMPLE, AllocationType.GUARANTEE]
