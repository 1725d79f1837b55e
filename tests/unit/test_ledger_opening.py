"""A ledger from its proposal to its first update: who may propose what, and what is deposited when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from scapp.channels.errors import CorruptionError, LocalError, PeerError
from scapp.channels.ledger import opening, receiving
from scapp.channels.ledger.funding import wanted
from scapp.channels.ledger.messages import Agree, OpenLedger, RejectLedger, SignStage, Updates
from scapp.channels.ledger.opening import LedgerOrder
from scapp.channels.ledger.record import create, evolve
from scapp.channels.ledger.standing import waiting_for
from scapp.channels.onchain import Deposit
from scapp.channels.signing import Signer
from scapp.channels.types import Destination
from tests.support.ledger_pair import COIN, RULES, LedgerPair, Party, decode_message
from tests.support.plain_chain import TOKEN

_replace = msgspec.structs.replace


def proposal(pair: LedgerPair) -> OpenLedger:
    message = decode_message(pair.bag[0][1])
    assert isinstance(message, OpenLedger)
    return message


def order(party: Party, **changed: Any) -> LedgerOrder:
    """An order of `party` to the other."""
    other = Signer(bytes((2 - party.index,)) * 32).address
    here, there = (Destination(bytes(12) + letter * 20) for letter in (b"\xaa", b"\xbb"))
    made = LedgerOrder(peer=other, nonce=9, challenge_duration_s=600, funds=((COIN, 10, 5),), pays_to=(here, there))
    return _replace(made, **changed)


AMOUNT = (5).to_bytes(32, "big")
HOSTILE: dict[str, Callable[[LedgerPair], OpenLedger]] = {
    "is not between its leader": lambda pair: _replace(proposal(pair), participants=proposal(pair).participants[::-1]),
    "which is not ConsensusApp": lambda pair: _replace(proposal(pair), app_definition=bytes(20)),
    "allowed are 60 to 10000": lambda pair: _replace(proposal(pair), challenge_duration=59),
    "does not follow from the proposal": lambda pair: _replace(proposal(pair), nonce=8),
    "wrong signature": lambda pair: _replace(proposal(pair), signature=bytes(64) + b"\x1b"),
    "an asset is named twice": lambda pair: _replace(proposal(pair), funds=((COIN, AMOUNT, AMOUNT),) * 2),
    "2\\^256-1 together": lambda pair: _replace(proposal(pair), funds=((COIN, b"\xff" * 32, AMOUNT),)),
    "begins with nothing": lambda pair: _replace(proposal(pair), funds=((COIN, bytes(32), bytes(32)),)),
    "both parties are paid": lambda pair: _replace(proposal(pair), destinations=(proposal(pair).destinations[0],) * 2),
    "paid into channel": lambda pair: _replace(proposal(pair), destinations=(b"\xff" * 32, b"\xee" * 32)),
}


@pytest.mark.parametrize("says", HOSTILE)
def test_a_ledger_that_may_not_be_is_refused(says: str) -> None:
    """Whatever a stranger proposes, nothing is stored and nothing is said."""
    pair = LedgerPair()
    follower = pair.follower
    with pytest.raises(PeerError, match=says):
        opening.receive_open(HOSTILE[says](pair), pair.leader.address, (), RULES, follower.context)


def test_a_proposal_for_somebody_else_is_refused() -> None:
    """A peer cannot propose in another's name, nor to a third."""
    pair = LedgerPair()
    for peer, me in ((pair.follower.address, pair.follower), (pair.leader.address, pair.leader)):
        with pytest.raises(PeerError, match="is not between"):
            opening.receive_open(proposal(pair), peer, (), RULES, me.context)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"challenge_duration_s": 0}, "duration 0"),
        ({"challenge_duration_s": 20_000}, "allowed are 60 to 10000"),
        ({"funds": ()}, "0 assets"),
        ({"funds": ((COIN, -1, 5),)}, "between 0"),
        ({"funds": ((COIN, 2**256, 5),)}, "between 0"),
        ({"funds": ((COIN, 0, 0),)}, "nothing to deposit"),
        ({"peer": Signer(b"\x01" * 32).address}, "more than once"),
        ({"nonce": 2**64}, "nonce"),
    ],
)
def test_an_order_that_may_not_be_is_refused(changed: dict[str, Any], says: str) -> None:
    leader = Party(0, LedgerPair().chain)
    with pytest.raises(LocalError, match=says):
        opening.propose(order(leader, **changed), (), RULES, leader.context)


def test_two_parties_have_one_ledger() -> None:
    """A second one is refused here, and rejected when the other proposes it; a rejected one is no hindrance."""
    pair = LedgerPair()
    pair.quiet()
    for party in pair.parties:
        with pytest.raises(LocalError, match="one is enough"):
            opening.propose(order(party), (party.it,), RULES, party.context)
    created = opening.propose(order(pair.leader), (), RULES, pair.leader.context).sends[0].message
    step = opening.receive_open(created, pair.leader.address, (pair.follower.it,), RULES, pair.follower.context)
    assert not step.events
    assert isinstance(step.sends[0].message, RejectLedger)


def test_a_rejected_ledger_makes_way_for_another() -> None:
    pair = LedgerPair()
    pair.follower.hear(pair.leader.address, pair.bag.pop()[1], accepts=False)
    pair.follower.commit(opening.reject(pair.follower.it, "no money"))
    pair.collect()
    pair.quiet()
    assert [party.it.phase for party in pair.parties] == ["rejected", "rejected"]
    assert pair.leader.it.reject_reason == "no money"
    assert opening.propose(order(pair.leader), (pair.leader.it,), RULES, pair.leader.context).events
    with pytest.raises(LocalError, match="nothing to accept"):
        pair.follower.accept()


def test_when_both_propose_the_smaller_address_leads() -> None:
    """Each withdraws or rejects by itself, so that both end with the same one."""
    chain = LedgerPair().chain
    parties = sorted((Party(index, chain) for index in range(2)), key=lambda party: party.address)
    steps = [opening.propose(order(party), (), RULES, party.context) for party in parties]
    records = [create(step.events[0]) for step in steps]
    small, large = parties
    at_large = opening.receive_open(steps[0].sends[0].message, small.address, (records[1],), RULES, large.context)
    withdrawn = evolve(records[1], at_large.events[0])
    assert withdrawn.phase == "rejected"
    assert create(at_large.events[1]).phase == "proposed"
    at_small = opening.receive_open(steps[1].sends[0].message, large.address, (records[0],), RULES, small.context)
    assert not at_small.events
    assert isinstance(at_small.sends[0].message, RejectLedger)


def test_the_leader_may_withdraw_until_the_follower_has_signed() -> None:
    """A follower that has signed and not deposited takes the withdrawal; one that may have deposited does not."""
    pair = LedgerPair()
    pair.leader.commit(opening.reject(pair.leader.it, "changed our mind"))
    pair.collect()
    pair.quiet()  # the follower accepts first
    assert [party.it.phase for party in pair.parties] == ["rejected", "rejected"]
    running = LedgerPair()
    running.run()
    for party in running.parties:
        with pytest.raises(PeerError, match="that is running"):
            receiving.receive(party.it, party.session, RejectLedger(running.channel, "no"), party.context)
        with pytest.raises(LocalError, match="no longer be rejected"):
            opening.reject(party.it, "late")


def test_a_follower_that_deposits_first_is_not_left() -> None:
    pair = LedgerPair([(COIN, 0, 5)])
    pair.follower.hear(pair.leader.address, pair.bag.pop()[1])
    pair.follower.see()
    assert [type(each) for each in wanted(pair.follower.it, pair.follower.context)] == [Deposit]
    with pytest.raises(PeerError, match="that is funding"):
        opening.receive_rejected(pair.follower.it, pair.follower.session, RejectLedger(pair.channel, "no"))


def test_signatures_of_the_first_states_are_checked() -> None:
    pair = LedgerPair()
    for turn in (0, 1):
        with pytest.raises(PeerError, match=f"under turn {turn}"):
            opening.receive_stage(pair.leader.it, SignStage(pair.channel, turn, bytes(64) + b"\x1b"))
    own = SignStage(pair.channel, 0, pair.leader.it.prefund[0])
    with pytest.raises(PeerError, match="wrong signature"):
        opening.receive_stage(pair.leader.it, own)


def test_nobody_answers_an_answer() -> None:
    """A lost signature is asked for and said again; what is known already is not talked about for ever."""
    pair = LedgerPair()
    pair.run()
    for party in pair.parties:
        party.say_again()
    pair.collect()
    assert pair.bag
    pair.quiet()
    again = SignStage(pair.channel, 1, pair.leader.it.postfund[1], answer=True)
    assert len(opening.receive_stage(pair.leader.it, again).sends) == 1


def test_deposits_follow_each_other_and_come_after_the_signatures() -> None:
    """Nothing before the prefund is signed by both; the follower only when the leader's share is confirmed."""
    pair = LedgerPair()
    pair.leader.see()
    assert wanted(pair.leader.it, pair.leader.context) == ()
    pair.quiet()
    for party in pair.parties:
        party.see()
    assert wanted(pair.leader.it, pair.leader.context) == (Deposit(COIN, 0, 100, 100),)
    assert wanted(pair.follower.it, pair.follower.context) == ()
    assert waiting_for(pair.follower.it, pair.follower.session).startswith("the deposit of 0x")
    assert waiting_for(pair.leader.it, pair.leader.session) == "this node's deposit"
    pair.mine(2)
    assert wanted(pair.follower.it, pair.follower.context) == ()
    assert pair.leader.it.postfund == (b"", b"")
    pair.mine(4)
    targets = {each.target for each in wanted(pair.follower.it, pair.follower.context) if isinstance(each, Deposit)}
    assert targets <= {160, 40}
    assert not any(pair.leader.it.postfund)
    pair.mine(6)
    assert [party.it.phase for party in pair.parties] == ["running", "running"]
    assert [waiting_for(party.it, party.session) for party in pair.parties] == ["", ""]
    assert pair.chain.held(pair.channel, COIN) == 160
    assert pair.chain.held(pair.channel, TOKEN) == 40


def test_nothing_is_deposited_before_the_chain_is_seen() -> None:
    pair = LedgerPair()
    pair.quiet()
    assert wanted(pair.leader.it, pair.leader.context) == ()
    assert waiting_for(pair.leader.it, pair.leader.session) == "the chain to be read"


def test_updates_of_a_ledger_that_does_not_run_change_nothing() -> None:
    pair = LedgerPair()
    pair.quiet()
    leader, follower = pair.parties
    assert not receiving.receive(leader.it, leader.session, Agree(pair.channel, 5, bytes(65)), leader.context).events
    update = msgspec.msgpack.decode(
        msgspec.msgpack.encode(["l:update", pair.channel, [[2, ["merge", COIN, 0], bytes(65), 0]]]), type=Updates
    )
    assert not receiving.receive(follower.it, follower.session, update, follower.context).events
    assert follower.session.queue == ()
    with pytest.raises(PeerError, match="to the leader"):
        receiving.receive(leader.it, leader.session, update, leader.context)
    with pytest.raises(PeerError, match="to the follower"):
        receiving.receive(follower.it, follower.session, Agree(pair.channel, 5, bytes(65)), follower.context)


@pytest.mark.parametrize("step", range(1, 9))
def test_a_restart_at_any_step_changes_nothing(step: int) -> None:
    """Both nodes forget what is volatile after `step` messages and blocks; what was lost is said again."""
    pair = LedgerPair()
    for _ in range(step):
        if pair.bag:
            pair.deliver()
        else:
            pair.mine(2)
    pair.bag.clear()
    for party in pair.parties:
        if party.record is not None:
            party.restart()
        party.say_again()
    pair.collect()
    pair.run()


def test_a_fact_that_does_not_follow_halts_the_fold() -> None:
    pair = LedgerPair()
    other = opening.propose(order(pair.leader), (), RULES, pair.leader.context).events[0]
    for event in (other, _replace(other, channel=pair.channel)):
        with pytest.raises(CorruptionError):
            evolve(pair.leader.it, event)
