"""How a ledger ends by both parties' wish, grows by deposits, and is paid out."""

from __future__ import annotations

import msgspec
import pytest

from scapp.channels.books.step import Step
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.ledger import closing, consensus, opening, receiving
from scapp.channels.ledger.consensus import QUEUE_MAX
from scapp.channels.ledger.events import CloseRequested, Countersigned
from scapp.channels.ledger.funding import wanted
from scapp.channels.ledger.messages import AskClose, SignFinal
from scapp.channels.ledger.proposals import Add, Expand, Merge, Part, Transfer
from scapp.channels.ledger.resending import pending, waits_for_peer
from scapp.channels.ledger.signed import final_hash, newest_enforceable
from scapp.channels.ledger.standing import waiting_for
from scapp.channels.ledger.updating import updates_message
from scapp.channels.onchain import Conclude, Deposit
from scapp.channels.types import ChannelId
from tests.support.ledger_pair import COIN, LedgerPair, Party
from tests.support.plain_chain import CONFIRMATIONS, TOKEN, account_of

V = ChannelId(b"\xff" * 32)


@pytest.fixture
def pair() -> LedgerPair:
    made = LedgerPair()
    made.run()
    return made


def ends(pair: LedgerPair) -> list[str]:
    pair.collect()
    pair.quiet()
    return [party.it.phase for party in pair.parties]


def refuses(party: Party, message: SignFinal | AskClose, says: str) -> None:
    record = party.it
    with pytest.raises(PeerError, match=says):
        party.commit(receiving.receive(record, party.session, message, party.context))
    assert party.it == record


def final(pair: LedgerPair, turn: int, signer: int = 0) -> SignFinal:
    record = pair.leader.it
    return SignFinal(pair.channel, turn, pair.parties[signer].signer.sign(final_hash(record, turn)), answer=True)


def guarantee(pair: LedgerPair) -> None:
    parties = pair.leader.it.setup.opening.parties
    add = Add(V, parties.leader, parties.follower, (Part(COIN, 30, 30),))
    for party in pair.parties:
        party.wants = [add]
        party.settle()
    pair.collect()
    pair.quiet()


@pytest.mark.parametrize("who", [0, 1])
def test_either_party_ends_the_ledger(pair: LedgerPair, who: int) -> None:
    """The leader concludes at once; both are paid what the last update said."""
    pair.leader.request(Transfer(COIN, 40, 0))
    pair.collect()
    pair.quiet()
    pair.parties[who].close()
    assert ends(pair) == ["closed", "closed"]
    assert [type(each) for each in wanted(pair.leader.it, pair.leader.context)] == [Conclude]
    assert wanted(pair.follower.it, pair.follower.context) == ()
    pair.mine(1 + CONFIRMATIONS)
    assert [party.it.phase for party in pair.parties] == ["settled", "settled"]
    assert [pair.chain.gain(account_of(party.address), COIN) for party in pair.parties] == [-40, 40]
    assert [pending(party.it) for party in pair.parties] == [(), ()]
    assert not any(party.it.is_open for party in pair.parties)


def test_the_follower_concludes_when_the_leader_does_not(pair: LedgerPair) -> None:
    pair.leader.close()
    assert ends(pair) == ["closed", "closed"]
    pair.follower.now_ms += 30_000
    assert [type(each) for each in wanted(pair.follower.it, pair.follower.context)] == [Conclude]


def test_a_lost_signature_of_the_final_state_is_asked_for(pair: LedgerPair) -> None:
    """Either message may be lost, and after the end nobody goes on talking."""
    pair.leader.close()
    pair.leader.outbox.clear()
    assert waits_for_peer(pair.leader.it)
    assert waiting_for(pair.leader.it, pair.leader.session).endswith("to sign the final state")
    pair.leader.say_again()
    pair.collect()
    pair.deliver()
    pair.bag.clear()
    assert pair.leader.it.phase == "closing"
    pair.leader.say_again()
    assert ends(pair) == ["closed", "closed"]
    assert not any(waits_for_peer(party.it) for party in pair.parties)


def test_the_final_state_leaves_no_signed_change_out(pair: LedgerPair) -> None:
    """The leader signs it with an empty queue only: it could be concluded whatever else both sign."""
    pair.leader.request(Transfer(COIN, 5, 0))
    pair.leader.outbox.clear()
    pair.leader.close()
    assert pair.leader.it.final is None
    assert waiting_for(pair.leader.it, pair.leader.session).endswith("to countersign turn 2")
    with pytest.raises(LocalError, match="closing"):
        pair.leader.request(Transfer(COIN, 5, 0))
    pair.leader.say_again()
    assert ends(pair) == ["closed", "closed"]
    assert pair.leader.it.final is not None
    assert pair.leader.it.final.balances.turn == 3


def test_a_ledger_with_guarantees_does_not_end(pair: LedgerPair) -> None:
    """Neither by the leader's signature nor by the follower's wish; it ends once they are gone."""
    guarantee(pair)
    for party in pair.parties:
        with pytest.raises(LocalError, match="guarantees"):
            party.close()
    refuses(pair.follower, final(pair, 3), "guarantees stand")
    pair.leader.hear(pair.follower.address, msgspec.msgpack.encode(AskClose(pair.channel)))
    assert pair.leader.it.phase == "closing"
    assert waiting_for(pair.leader.it, pair.leader.session) == "the virtual channels in it to be closed"
    assert pair.leader.it.final is None


@pytest.mark.parametrize(
    ("turn", "signer", "says"),
    [(1, 0, "stands at 1"), (0, 0, "stands at 1"), (2**47, 0, "stands at 1"), (2, 1, "wrong signature")],
)
def test_a_final_state_that_does_not_follow_is_refused(pair: LedgerPair, turn: int, signer: int, says: str) -> None:
    refuses(pair.follower, final(pair, turn, signer), says)


def test_a_final_state_of_older_money_is_refused(pair: LedgerPair) -> None:
    stale = final(pair, 9)
    pair.leader.request(Transfer(COIN, 5, 0))
    pair.collect()
    pair.quiet()
    refuses(pair.follower, stale, "wrong signature")


def test_the_leader_ends_with_its_own_final_state_only(pair: LedgerPair) -> None:
    refuses(pair.leader, final(pair, 2, 1), "which this node has not")
    pair.leader.close()
    refuses(pair.leader, final(pair, 3, 1), "which this node has not")
    refuses(pair.leader, final(pair, 2, 0), "wrong signature")
    refuses(pair.follower, AskClose(pair.channel), "asks the follower")


def test_a_follower_that_has_signed_an_end_signs_another_only_far_above_it(pair: LedgerPair) -> None:
    """As a restored leader does; any number would fill its log."""
    pair.leader.close()
    ends(pair)
    follower = pair.follower
    near, far, forged = final(pair, 2 + QUEUE_MAX - 1), final(pair, 2 + QUEUE_MAX), final(pair, 2 + QUEUE_MAX, 1)
    assert not receiving.receive(follower.it, follower.session, near, follower.context).events
    refuses(follower, forged, "wrong signature")
    assert len(receiving.receive(follower.it, follower.session, far, follower.context).events) == 2


def test_nothing_is_signed_after_the_final_state(pair: LedgerPair) -> None:
    """Updates that come late are left alone, though they were signed before."""
    pair.leader.request(Transfer(COIN, 5, 0))
    ledger = pair.leader.it.ledger
    assert ledger is not None
    late = updates_message(consensus.propose(ledger, Transfer(COIN, 5, 0), pair.leader.signer)[0])
    pair.collect()
    pair.quiet()
    pair.leader.close()
    assert ends(pair) == ["closed", "closed"]
    before = len(pair.follower.log)
    pair.follower.commit(receiving.receive(pair.follower.it, pair.follower.session, late, pair.follower.context))
    assert pair.follower.session.queue == ()
    pair.follower.settle()
    assert len(pair.follower.log) == before
    with pytest.raises(LocalError, match="closed"):
        pair.follower.request(Transfer(COIN, 5, 1))


def test_a_ledger_may_end_before_it_runs() -> None:
    """What was deposited by then comes back; where nothing was, there is nothing to conclude."""
    empty = LedgerPair()
    empty.quiet()
    for party in empty.parties:
        party.see()
    empty.follower.close()
    assert ends(empty) == ["settled", "settled"]
    half = LedgerPair()
    half.quiet()
    half.mine(2)
    assert half.chain.held(half.channel) == 100
    half.leader.close()
    assert ends(half) == ["closed", "closed"]
    half.mine(2 + CONFIRMATIONS)
    assert [party.it.phase for party in half.parties] == ["settled", "settled"]
    assert half.chain.held(half.channel) == 0
    assert [half.chain.gain(account_of(party.address), COIN) for party in half.parties] == [0, 0]


@pytest.mark.parametrize("who", [0, 1])
def test_a_ledger_that_ends_before_it_runs_takes_no_requests(who: int) -> None:
    pair = LedgerPair()
    pair.quiet()
    party = pair.parties[who]
    party.close()
    assert party.it.phase == "closing"
    with pytest.raises(LocalError, match="ledger is closing, it takes no changes"):
        party.request(Transfer(COIN, 5, who))


def test_what_is_only_proposed_is_not_closed() -> None:
    pair = LedgerPair()
    with pytest.raises(LocalError, match="opening"):
        pair.leader.close()
    pair.follower.hear(pair.leader.address, pair.bag.pop()[1], accepts=False)
    refuses(pair.follower, final(pair, 2), "that is proposed")
    assert opening.accept(pair.follower.it, pair.follower.context).events


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("asset", [COIN, TOKEN])
def test_a_deposit_is_announced_made_and_merged(pair: LedgerPair, who: int, asset: bytes) -> None:
    """Announced first and signed by both, so that the money is the depositor's at every moment."""
    at = 0 if asset == COIN else 1
    before = pair.leader.it.balances.assets[at].total
    pair.parties[who].request(Expand(asset, 25, who))  # type: ignore[arg-type]
    pair.collect()
    assert wanted(pair.parties[who].it, pair.parties[who].context) == ()
    pair.quiet()
    assert pair.leader.it.balances == pair.follower.it.balances
    share = Deposit(asset, before, before + 25, 25)  # type: ignore[arg-type]
    assert wanted(pair.parties[who].it, pair.parties[who].context) == (share,)
    assert wanted(pair.parties[1 - who].it, pair.parties[1 - who].context) == ()
    text = waiting_for(pair.leader.it, pair.leader.session)
    assert text.startswith("the deposit of")
    assert text.endswith(": 25 wei" if asset == COIN else f": 25 of token 0x{asset.hex()}")
    pair.mine(CONFIRMATIONS)
    assert pair.leader.it.balances.assets[at].total == before
    assert wanted(pair.parties[who].it, pair.parties[who].context) == (share,)
    pair.mine(1)
    assert pair.leader.it.balances.assets[at].total == before + 25
    assert pair.leader.it.balances == pair.follower.it.balances
    assert wanted(pair.parties[who].it, pair.parties[who].context) == ()
    assert pair.chain.held(pair.channel, asset) == before + 25  # type: ignore[arg-type]


def test_a_deposit_announced_later_waits_for_the_earlier_one(pair: LedgerPair) -> None:
    """Else the money would pay what ranks before it."""
    pair.leader.request(Expand(COIN, 10, 0))
    pair.follower.request(Expand(COIN, 20, 1))
    pair.collect()
    pair.quiet()
    pair.leader.act()
    pair.follower.act()
    assert [each.target for each in wanted(pair.leader.it, pair.leader.context) if isinstance(each, Deposit)] == [170]
    assert wanted(pair.follower.it, pair.follower.context) == ()
    pair.mine(4 * CONFIRMATIONS)
    assets = pair.follower.it.balances.assets[0]
    assert (assets.leader, assets.follower, assets.trailing) == (110, 80, ())


def test_an_announced_deposit_takes_nothing_while_it_is_not_made(pair: LedgerPair) -> None:
    """The ledger ends and pays everybody else in full; the money that came in the meantime is its depositor's."""
    pair.follower.request(Expand(COIN, 20, 1))
    pair.collect()
    pair.quiet()
    pair.leader.close()
    assert ends(pair) == ["closed", "closed"]
    assert wanted(pair.follower.it, pair.follower.context) == ()
    pair.mine(2)
    assert [pair.chain.gain(account_of(party.address), COIN) for party in pair.parties] == [0, 0]
    made = LedgerPair()
    made.run()
    made.follower.request(Expand(COIN, 20, 1))
    made.collect()
    made.quiet()
    made.mine(1)
    assert made.chain.held(made.channel) == 180
    made.leader.close()
    assert ends(made) == ["closed", "closed"]
    made.mine(2)
    assert [made.chain.gain(account_of(party.address), COIN) for party in made.parties] == [0, 0]


def test_the_follower_merges_what_its_own_chain_confirms(pair: LedgerPair) -> None:
    """A leader that claims a deposit gets no signature for it."""
    pair.leader.request(Expand(COIN, 10, 0))
    pair.collect()
    pair.quiet()
    ledger = pair.leader.it.ledger
    assert ledger is not None
    claim = updates_message(consensus.propose(ledger, Merge(COIN, 0), pair.leader.signer)[0])
    follower = pair.follower
    follower.commit(receiving.receive(follower.it, follower.session, claim, follower.context))
    follower.settle()
    assert follower.it.balances.turn == 2
    assert "not confirmed yet" in waiting_for(follower.it, follower.session)


def test_the_newest_state_is_the_one_to_enforce(pair: LedgerPair) -> None:
    early = LedgerPair()
    assert newest_enforceable(early.leader.it) is None
    early.quiet()
    first = newest_enforceable(early.leader.it)
    assert first is not None
    assert (first.turn, first.is_final) == (0, False)
    pair.leader.close()
    ends(pair)
    last = newest_enforceable(pair.follower.it)
    assert last is not None
    assert (last.turn, last.is_final) == (2, True)


def test_a_wish_to_close_is_said_again(pair: LedgerPair) -> None:
    step = closing.close(pair.follower.it)
    assert step.events == (CloseRequested(pair.channel, 1),)
    pair.follower.commit(Step(step.events))
    assert pending(pair.follower.it)[-1] == AskClose(pair.channel)
    assert closing.close(pair.follower.it) == Step()
    assert not any(isinstance(event, Countersigned) for event in step.events)
