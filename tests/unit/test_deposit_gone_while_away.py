"""A ledger whose announced deposit is missing after its node was away: reorganisation or payout? ADR 0046."""

from __future__ import annotations

import msgspec
import pytest

from scapp.channels.adjudicator_status import Status, fingerprint
from scapp.channels.books.step import Context
from scapp.channels.chain.calls import decode_outcome
from scapp.channels.chain.judging import state_hash_of
from scapp.channels.channel.ended import given_up
from scapp.channels.crypto import keccak256
from scapp.channels.ledger import chain_view, closing, settling
from scapp.channels.ledger.crank import crank
from scapp.channels.ledger.events import CloseRequested
from scapp.channels.ledger.proposals import Expand, Proposal, Retract, apply
from scapp.channels.ledger.record import LedgerRecord, evolve
from scapp.channels.ledger.session import LedgerSession
from scapp.channels.ledger.signed import signed_state
from scapp.channels.ledger.standing import waiting_for
from scapp.channels.onchain import ChainView, ChannelOnChain, Deposit, Transaction
from scapp.channels.outcome import encode_outcome
from scapp.channels.payouts import transfer_effects
from scapp.channels.types import ZERO_ADDRESS, Hash
from tests.support.dispute_net import DURATION_S, START_S, model_net

OPEN = Status(0, 0, bytes(20))
AWAY_S = START_S + DURATION_S


class Story:
    """The leader of a ledger of 1000 and 1000 has announced 5 more."""

    def __init__(self) -> None:
        net = model_net(2, leads=(True,))
        self.side = net.side(net.parties[0])
        (record,) = self.side.ledgers.values()
        self.record = msgspec.structs.replace(record, chain=None)
        self.now_s = START_S
        self.change(Expand(ZERO_ADDRESS, 5, self.record.setup.my_index))

    def change(self, change: Proposal) -> None:
        """Both sign it, and what follows is done."""
        ledger = self.record.ledger
        assert ledger is not None
        after = msgspec.structs.replace(apply(ledger.current, change), turn=ledger.current.turn + 1)
        ledger = msgspec.structs.replace(ledger, current=after)
        self.record = msgspec.structs.replace(self.record, ledger=ledger)
        for event in crank(self.record, self._context()).events:
            self.record = evolve(self.record, event)

    def see(self, at_s: int, latest: int, confirmed: int, status: Status = OPEN) -> LedgerRecord:
        self.now_s = at_s
        found = [ChannelOnChain(50, b"\x32" * 32, (held,), status) for held in (latest, confirmed)]
        for event in chain_view.on_view(self.record, ChainView(*found), {}, self._context()).events:
            self.record = evolve(self.record, event)
        return self.record

    def wanted(self) -> tuple[Transaction, ...]:
        return settling.wanted(self.record, {}, self._context())

    def waits(self) -> str:
        return waiting_for(self.record, LedgerSession())

    def missing(self) -> tuple[int, ...]:
        assert self.record.chain is not None
        return given_up(self.record.chain)

    def _context(self) -> Context:
        return msgspec.structs.replace(self.side.context, head_time_s=self.now_s)


@pytest.fixture
def story() -> Story:
    """Its deposit is in the newest block."""
    story = Story()
    story.see(START_S, 2_000, 2_000)
    (wanted,) = story.wanted()
    assert isinstance(wanted, Deposit)
    story.see(START_S, 2_005, 2_000)
    return story


def test_within_a_challenge_it_was_taken_back_and_is_made_again(story: Story) -> None:
    story.see(AWAY_S - 1, 2_000, 2_000)
    assert [type(each) for each in story.wanted()] == [Deposit]
    assert story.missing() == (0,)


def test_after_it_the_ledger_goes_on_and_the_deposit_is_not_made_again(story: Story) -> None:
    assert story.see(AWAY_S, 2_000, 2_000).phase == "running"
    assert story.wanted() == ()
    assert "`scapp ledger cancel-top-up` takes it back" in story.waits()
    story.see(AWAY_S + 12, 2_001, 2_000)  # a stranger's
    assert story.missing() == (2_005,), "it is remembered"
    story.see(AWAY_S + 24, 2_001, 2_001)
    assert story.wanted() == ()


def test_a_challenge_that_was_seen_last_does_not_end_it_either(story: Story) -> None:
    """Its end passes while the node is away; a checkpoint has cleared it, and all that was confirmed is there."""
    story.see(START_S, 2_005, 2_000, Status(2, START_S + 100, b"\x01" * 20))
    chain = story.see(AWAY_S, 2_000, 2_000).chain
    assert chain is not None
    assert not chain.ended
    assert story.missing() == (2_005,)


def test_of_what_was_there_only_what_is_announced_can_be_missed(story: Story) -> None:
    """Not what a stranger has brought, and a reorganisation taken back."""
    story.see(START_S, 2_007, 2_000)
    story.see(AWAY_S, 2_000, 2_000)
    assert story.missing() == (2_005,)


def test_when_it_comes_all_the_same_it_counts(story: Story) -> None:
    story.see(AWAY_S, 2_000, 2_000)
    story.see(AWAY_S + 12, 2_005, 2_000)
    assert story.missing() == (0,)
    assert [type(each) for each in story.wanted()] == [Deposit], "until it is confirmed"


def test_once_it_is_taken_back_the_next_one_is_made(story: Story) -> None:
    story.see(AWAY_S, 2_000, 2_000)
    me = story.record.setup.my_index
    story.change(Retract(ZERO_ADDRESS, me))
    assert not story.waits()
    story.change(Expand(ZERO_ADDRESS, 3, me))
    (wanted,) = story.wanted()
    assert wanted == Deposit(ZERO_ADDRESS, 2_000, 2_003, 3)


@pytest.mark.parametrize(("latest", "confirmed"), [(0, 0), (1, 1), (1_999, 1_999), (0, 2_000), (2_000, 0), (2_005, 5)])
def test_where_anything_confirmed_has_gone_it_was_paid_out(story: Story, latest: int, confirmed: int) -> None:
    chain = story.see(AWAY_S, latest, confirmed).chain
    assert chain is not None
    assert chain.ended
    assert not any(isinstance(each, Deposit) for each in story.wanted())


def test_a_first_deposit_is_not_made_again_either_and_the_ledger_can_be_closed() -> None:
    net = model_net(2, leads=(True,))
    story = Story()
    story.side = net.side(net.parties[1])  # the follower, who deposits last
    (record,) = story.side.ledgers.values()
    signatures = tuple(party.signer.sign(record.setup.stage(0).state_hash(record.channel)) for party in net.parties)
    story.record = msgspec.structs.replace(record, ledger=None, prefund=signatures, chain=None)
    story.see(START_S, 1_000, 1_000)
    assert [type(each) for each in story.wanted()] == [Deposit]
    story.see(START_S, 2_000, 1_000)
    assert story.see(AWAY_S, 1_000, 1_000).phase == "funding"
    assert story.wanted() == ()
    assert "lacks this node's deposit" in story.waits()
    assert [type(each) for each in closing.close(story.record).events] == [CloseRequested]


def test_a_deposit_of_which_nothing_was_ever_confirmed_is_no_reason_to_go_on() -> None:
    """With nothing left there is nothing that shows it."""
    story = Story()
    story.see(START_S, 5, 0)
    chain = story.see(AWAY_S, 0, 0).chain
    assert chain is not None
    assert chain.settled


def test_what_such_a_ledger_still_owes_after_its_payout_is_found(story: Story) -> None:
    """It was paid out of what was there, a stranger's wei included, not of what was given up."""
    story.see(AWAY_S, 2_001, 2_001)
    assert story.record.ledger is not None
    newest = signed_state(story.record.setup, story.record.ledger.current, (b"", b""))
    (exit_,) = decode_outcome(newest.outcome)
    left = (msgspec.structs.replace(exit_, allocations=transfer_effects(2_001, exit_.allocations).remaining),)
    ends = AWAY_S + 100
    mark = fingerprint(state_hash_of(newest), Hash(keccak256(encode_outcome(left))))
    chain = story.see(ends + 1, 0, 0, Status(newest.turn, ends, mark)).chain
    assert chain is not None
    assert chain.ended
    assert chain.owed is not None
    assert chain.owed[1] == encode_outcome(left)
