"""A ledger after one of its nodes was restored from a backup: nothing is signed twice, nothing newer is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import pytest

from scapp.channels.errors import LocalError, PeerError
from scapp.channels.ledger import receiving
from scapp.channels.ledger.consensus import QUEUE_MAX
from scapp.channels.ledger.messages import ASKS_MAX, Agree, AskStanding, OpenLedger, RejectLedger, TellStanding
from scapp.channels.ledger.proposals import Add, Expand, Part, Remove, Transfer
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.resending import pending
from scapp.channels.ledger.standing import waiting_for
from scapp.channels.ledger.wire import balances_to_wire
from scapp.channels.types import ChannelId
from tests.support.ledger_pair import COIN, LedgerPair, Party, decode_message, encode
from tests.support.plain_chain import CONFIRMATIONS

TOKEN_A, TOKEN_B = b"a" * 16, b"b" * 16
_replace = msgspec.structs.replace


@pytest.fixture
def pair() -> LedgerPair:
    made = LedgerPair()
    made.run()
    return made


def pay(pair: LedgerPair, who: int, amount: int = 10) -> None:
    pair.parties[who].request(Transfer(COIN, amount, who))
    pair.collect()
    pair.quiet()


def reunite(pair: LedgerPair) -> None:
    for party in pair.parties:
        party.say_again()
    pair.collect()
    pair.quiet()


@pytest.mark.parametrize("who", [0, 1])
def test_a_restored_party_takes_over_what_it_has_forgotten(pair: LedgerPair, who: int) -> None:
    party = pair.parties[who]
    backup = len(party.log)
    for index in (0, 1, 0):
        pay(pair, index)
    newest = party.it.balances
    party.restore(backup, TOKEN_A)
    assert party.it.phase == "recovering"
    assert "was restored" in waiting_for(party.it, party.session)
    assert pending(party.it) == (AskStanding(pair.channel, TOKEN_A),)
    reunite(pair)
    assert party.it.balances == newest
    pay(pair, 0)
    pay(pair, 1)
    assert pair.leader.it.balances == pair.follower.it.balances
    assert pair.refused == []


def test_a_recovering_party_does_nothing(pair: LedgerPair) -> None:
    """It takes no messages and no requests, ends nothing and deposits nothing."""
    party = pair.follower
    pay(pair, 0)
    party.restore(len(party.log) - 1, TOKEN_A)
    log = len(party.log)
    pair.leader.request(Transfer(COIN, 5, 0))
    pair.collect()
    pair.quiet()
    for act in (lambda: party.request(Transfer(COIN, 5, 1)), party.close, party.accept):
        with pytest.raises(LocalError, match="recovering"):
            act()
    party.settle()
    assert len(party.log) == log
    assert not party.outbox


def test_a_leader_goes_on_above_all_that_it_may_have_signed(pair: LedgerPair) -> None:
    """A change that it signed and forgot, and that only the follower has, is never countersigned after that."""
    leader, follower = pair.parties
    backup = len(leader.log)
    leader.request(Transfer(COIN, 30, 0))
    forgotten = leader.outbox.pop()[1]
    leader.restore(backup, TOKEN_A)
    reunite(pair)
    floor = 1 + QUEUE_MAX
    assert leader.it.floor == follower.it.floor == floor
    follower.hear(leader.address, forgotten)
    assert follower.it.balances.turn == 1
    pay(pair, 0, 7)
    assert follower.it.balances.turn == leader.it.balances.turn == floor + 1
    assert leader.signed.keys() == {0, 1, 2, floor + 1}


def test_every_restore_of_a_leader_leaves_out_more_turns(pair: LedgerPair) -> None:
    """The same question is answered the same, another is told more; at last there are too many."""
    follower = pair.follower
    ask = AskStanding(pair.channel, TOKEN_A)
    floors = []
    for message in (ask, ask, AskStanding(pair.channel, TOKEN_B)):
        follower.commit(receiving.receive(follower.it, follower.session, message, follower.context))
        told = decode_message(follower.outbox[0][1])
        assert isinstance(told, TellStanding)
        floors.append(told.floor)
        follower.outbox.clear()
    assert floors == [1 + QUEUE_MAX, 1 + QUEUE_MAX, 1 + 2 * QUEUE_MAX]
    asks = (AskStanding(pair.channel, number.to_bytes(16, "big")) for number in range(200))
    with pytest.raises(PeerError, match="restored too often"):
        _hear_all(follower, asks)


def test_a_leader_remembers_only_so_many_restores_of_its_follower(pair: LedgerPair) -> None:
    """Each question with another token is a fact; they would fill memory and disk."""
    leader = pair.leader
    asks = (AskStanding(pair.channel, number.to_bytes(16, "big")) for number in range(2_000))
    with pytest.raises(PeerError, match="was restored 1024 times"):
        _hear_all(leader, asks)
    assert len(leader.it.peer_restores) == 1_024


def _hear_all(party: Party, asks: Iterable[AskStanding]) -> None:
    for message in asks:
        party.commit(receiving.receive(party.it, party.session, message, party.context))


def test_a_leader_whose_operator_overrides_is_followed(pair: LedgerPair) -> None:
    """The follower was never asked, and finds the gap in the turns by itself."""
    pair.leader.restore(len(pair.leader.log), TOKEN_A)
    pair.leader.override()
    with pytest.raises(LocalError, match="nothing to recover"):
        pair.leader.override()
    pay(pair, 0)
    pay(pair, 1, 4)
    assert pair.follower.it.balances == pair.leader.it.balances
    assert pair.leader.it.balances.turn == 1 + QUEUE_MAX + 2


def test_two_restored_parties_wait_for_an_operator(pair: LedgerPair) -> None:
    for party in pair.parties:
        party.restore(len(party.log), TOKEN_A)
    reunite(pair)
    assert all(party.it.recovering for party in pair.parties)
    pair.follower.override()
    reunite(pair)
    assert not any(party.it.recovering for party in pair.parties)
    pay(pair, 0)
    assert pair.follower.it.balances == pair.leader.it.balances


@pytest.mark.parametrize("who", [0, 1])
def test_a_final_state_is_not_forgotten(pair: LedgerPair, who: int) -> None:
    party = pair.parties[who]
    backup = len(party.log)
    pay(pair, 1)
    pair.leader.close()
    pair.collect()
    pair.quiet()
    party.restore(backup, TOKEN_A)
    reunite(pair)
    assert party.it.final == _replace(pair.parties[1 - who].it.final, time_ms=party.it.final.time_ms)  # type: ignore[type-var, union-attr]
    assert party.it.phase == "closed"


def test_a_final_state_that_the_leader_alone_has_signed_is_signed_later(pair: LedgerPair) -> None:
    pair.follower.restore(len(pair.follower.log), TOKEN_A)
    pair.leader.close()
    reunite(pair)
    reunite(pair)
    assert [party.it.phase for party in pair.parties] == ["closed", "closed"]


def paid_out_in_silence(pair: LedgerPair) -> int:
    """The follower signs the final state and concludes it, and its answer is lost; how long its log was before that."""
    backup = len(pair.follower.log)
    pair.leader.close()
    pair.collect()
    pair.deliver()
    pair.bag.clear()
    pair.mine(4 + CONFIRMATIONS)
    assert [party.it.phase for party in pair.parties] == ["settled", "settled"]
    assert pair.leader.it.final is not None
    assert not pair.leader.it.final.complete
    return backup


def test_a_follower_that_forgot_the_end_it_was_paid_by_learns_of_it(pair: LedgerPair) -> None:
    """The leader, for which all is settled, does not say its final state again; the answer to the restored has it."""
    pair.follower.restore(paid_out_in_silence(pair), TOKEN_A)
    pair.follower.see()
    pair.follower.say_again()
    pair.collect()
    pair.deliver()  # to the leader
    pair.deliver()  # its answer; what else it says is lost
    pair.bag.clear()
    assert pair.follower.it.phase == "settled"
    assert waiting_for(pair.follower.it, pair.follower.session) == ""


def test_a_follower_that_was_not_told_of_the_end_gets_it_when_it_wants_to_end(pair: LedgerPair) -> None:
    pair.follower.restore(paid_out_in_silence(pair), TOKEN_A)
    pair.follower.override()
    pair.follower.see()
    assert pair.follower.it.phase == "running"
    pair.follower.close()
    pair.collect()
    pair.quiet()
    assert [party.it.phase for party in pair.parties] == ["settled", "settled"]
    assert pair.leader.it.final is not None
    assert pair.leader.it.final.complete


@pytest.mark.parametrize("overrides", [False, True])
def test_a_leader_restored_to_an_end_that_never_arrived_signs_it_above_the_floor(
    pair: LedgerPair, overrides: bool
) -> None:
    """The follower signs nothing at or below the floor that it has told, so the old end would wait for ever."""
    leader = pair.leader
    leader.close()
    leader.outbox.clear()
    leader.restore(len(leader.log), TOKEN_A)
    if overrides:
        leader.override()
    reunite(pair)
    reunite(pair)
    assert [party.it.phase for party in pair.parties] == ["closed", "closed"]
    assert leader.it.final == _replace(pair.follower.it.final, time_ms=leader.it.final.time_ms)  # type: ignore[type-var, union-attr]
    pair.mine(2 + CONFIRMATIONS)
    assert [party.it.phase for party in pair.parties] == ["settled", "settled"]


@pytest.mark.parametrize("forgets", [False, True])
def test_a_leader_whose_operator_overrides_ends_what_its_follower_has_ended(pair: LedgerPair, forgets: bool) -> None:
    """The follower signs a later end of the same money, too: neither signs a turn that it may have signed before."""
    leader, follower = pair.parties
    backup = len(leader.log) if forgets else len(leader.log) + 2
    leader.close()
    pair.collect()
    pair.deliver()
    pair.bag.clear()  # the follower's signature, and what it says later, is lost
    pair.mine(4 + CONFIRMATIONS)
    assert follower.it.phase == "settled"
    leader.restore(backup, TOKEN_A)
    leader.override()
    leader.see()
    if forgets:
        leader.close()
    pair.bag.clear()
    leader.say_again()
    pair.collect()
    pair.quiet()
    assert leader.it.final is not None
    assert leader.it.final.complete
    assert leader.it.phase == "settled"
    assert leader.it.final.balances == follower.it.final.balances  # type: ignore[union-attr]
    assert leader.it.final.balances.turn > QUEUE_MAX
    assert follower.it.phase == "settled"


def test_a_final_state_under_other_money_is_not_signed_with_the_rest_of_the_answer(pair: LedgerPair) -> None:
    """As of a leader whose operator has overridden: what it tells else counts, and the ledger does not wait for it."""
    leader = pair.leader
    pair.follower.restore(paid_out_in_silence(pair), TOKEN_A)
    said = receiving.receive(leader.it, leader.session, AskStanding(pair.channel, TOKEN_A), leader.context)
    told = next(send.message for send in said.sends if isinstance(send.message, TellStanding))
    wrong = _replace(told, final=(leader.it.prefund[0], b""))
    pair.follower.hear(leader.address, encode(wrong))
    assert pair.follower.it.phase == "running"
    assert pair.follower.it.final is None


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("who", [0, 1])
def test_a_backup_from_the_opening_is_enough(pair: LedgerPair, who: int, length: int) -> None:
    pay(pair, 0)
    party = pair.parties[who]
    party.restore(length, TOKEN_A)
    reunite(pair)
    assert party.it.balances == pair.parties[1 - who].it.balances
    pair.mine(1)
    pay(pair, 0)
    assert pair.follower.it.balances == pair.leader.it.balances


def test_a_proposal_that_never_arrived_comes_again() -> None:
    """Its leader was restored before the follower had heard of the ledger."""
    pair = LedgerPair()
    pair.bag.clear()
    pair.leader.restore(1, TOKEN_A)
    assert [type(each) for each in pending(pair.leader.it)] == [OpenLedger, AskStanding]
    reunite(pair)
    pair.mine(12)
    assert [party.it.phase for party in pair.parties] == ["running", "running"]


def test_requests_are_neither_done_twice_nor_lost(pair: LedgerPair) -> None:
    """A follower that forgot a request signs it when its operator stands by it; a new one is another request."""
    follower = pair.follower
    backup = len(follower.log)
    pay(pair, 1, 3)
    follower.request(Transfer(COIN, 5, 1))
    pair.collect()
    pair.deliver()  # the leader proposes; its message is lost
    pair.bag.clear()
    follower.restore(backup, TOKEN_A)
    reunite(pair)
    assert "as request 2 of this node" in waiting_for(follower.it, follower.session)
    assert "make the same request again" in waiting_for(follower.it, follower.session)
    assert follower.it.balances.assets[0].follower == 57
    follower.request(Transfer(COIN, 7, 1))
    assert follower.it.requests[0].number == 2 + ASKS_MAX + 1
    pair.collect()
    pair.quiet()
    assert follower.it.balances.assets[0].follower == 57
    follower.request(Transfer(COIN, 5, 1))
    pair.collect()
    pair.quiet()
    assert follower.it.balances.assets[0].follower == 45
    assert not follower.it.requests
    assert pair.leader.it.balances == follower.it.balances


def test_a_closing_ledger_names_the_forgotten_request_that_holds_up_its_guarantees(pair: LedgerPair) -> None:
    """The guarantee ends behind it: the channel's own node can only wait."""
    leader, follower = pair.parties
    parties = leader.it.setup.opening.parties
    add = Add(ChannelId(b"\xff" * 32), parties.leader, parties.follower, (Part(COIN, 5, 5),), 0)
    leader.wants = [add]
    leader.settle()
    leader.outbox.clear()
    backup = len(follower.log)
    follower.request(Transfer(COIN, 5, 1))
    pair.collect()
    pair.deliver()
    pair.bag.clear()
    follower.restore(backup, TOKEN_A)
    reunite(pair)
    follower.close()
    follower.wants = [add]
    follower.settle()
    assert follower.it.has_guarantees
    assert follower.it.phase == "closing"
    assert "make the same request again" in waiting_for(follower.it, follower.session)
    remove = Remove(add.target, (Part(COIN, 5, 5),))
    leader.wants = follower.wants = [remove]
    follower.request(Transfer(COIN, 5, 1))
    leader.settle()
    reunite(pair)
    reunite(pair)
    assert [party.it.phase for party in pair.parties] == ["closed", "closed"]


def test_a_restored_leader_decides_open_requests_again(pair: LedgerPair) -> None:
    leader = pair.leader
    pair.follower.request(Transfer(COIN, 5, 1))
    pair.collect()
    pair.deliver()
    pair.bag.clear()
    leader.restore(len(leader.log), TOKEN_A)
    reunite(pair)
    assert pair.follower.it.balances.assets[0].follower == leader.it.balances.assets[0].follower == 55
    assert not pair.follower.it.requests


def told(pair: LedgerPair, party: Party) -> TellStanding:
    """What the other party answers."""
    other = pair.parties[1 - party.index]
    other.outbox.clear()
    ask = AskStanding(pair.channel, TOKEN_A)
    other.commit(receiving.receive(other.it, other.session, ask, other.context))
    message = decode_message(other.outbox[0][1])
    assert isinstance(message, TellStanding)
    return message


def _poorer(record: LedgerRecord, message: TellStanding) -> TellStanding:
    balances = record.balances
    changed = _replace(balances, assets=(_replace(balances.assets[0], leader=0), *balances.assets[1:]))
    return _replace(message, balances=balances_to_wire(changed))


WRONG: dict[str, Callable[[LedgerPair, TellStanding], TellStanding]] = {
    "under the told turn 3": lambda pair, message: _poorer(pair.leader.it, message),
    "of 0x.* under the told turn": lambda _, message: _replace(message, signatures=message.signatures[::-1]),
    "with other assets": lambda _, message: _replace(
        message,
        balances=_replace(message.balances, assets=message.balances.assets[:1]),  # type: ignore[type-var, union-attr]
    ),
    "go on above turn": lambda _, message: _replace(message, floor=2**40),
    "under the final state": lambda _, message: _replace(message, final_turn=4, final=(bytes(65), bytes(65))),
}


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("says", WRONG)
def test_a_restored_party_believes_nothing_that_is_not_signed(pair: LedgerPair, who: int, says: str) -> None:
    party = pair.parties[who]
    backup = len(party.log)
    pay(pair, 0)
    pay(pair, 1)
    party.restore(backup, TOKEN_A)
    wrong = WRONG[says](pair if who else _swapped(pair), told(pair, party))
    record = party.it
    with pytest.raises(PeerError, match=says):
        receiving.receive(record, party.session, wrong, party.context)
    stale = _replace(told(pair, party), token=TOKEN_B)
    assert receiving.receive(record, party.session, stale, party.context).events == ()
    reunite(pair)
    assert party.it.balances == pair.parties[1 - who].it.balances


def _swapped(pair: LedgerPair) -> LedgerPair:
    """For `WRONG`, which reads the newest balances from the leader: here the follower has them."""
    newest = LedgerPair.__new__(LedgerPair)
    newest.parties = [pair.follower, pair.leader]
    return newest


def test_an_old_state_from_the_other_changes_nothing(pair: LedgerPair) -> None:
    """A restored party keeps the newest it has, whatever the other tells; prefund signatures are checked as well."""
    party = pair.follower
    old = told(pair, party)
    pay(pair, 0)
    newest = party.it.balances
    party.restore(len(party.log), TOKEN_A)
    step = receiving.receive(party.it, party.session, old, party.context)
    party.commit(step)
    assert party.it.balances == newest
    fresh = LedgerPair()
    fresh.quiet()
    fresh.follower.restore(1, TOKEN_A)
    forged = _replace(told(fresh, fresh.follower), prefund=(b"", bytes(65)))
    with pytest.raises(PeerError, match="under the prefund state"):
        receiving.receive(fresh.follower.it, fresh.follower.session, forged, fresh.follower.context)


def test_guarantees_and_announced_deposits_are_taken_over(pair: LedgerPair) -> None:
    """With their bytes: the next update is signed over the same encoding."""
    parties = pair.leader.it.setup.opening.parties
    wants = [
        Add(ChannelId(bytes((255, number)) * 16), parties.leader, parties.follower, (Part(COIN, 5, 5),), 1)
        for number in range(3)
    ]
    for party in pair.parties:
        party.wants = list(wants)
        party.settle()
    pair.leader.request(Expand(COIN, 9, 0))
    pair.collect()
    pair.quiet()
    pair.follower.restore(4, TOKEN_A)
    reunite(pair)
    assert pair.follower.it.balances == pair.leader.it.balances
    pay(pair, 0, 1)
    assert pair.follower.it.balances.turn == pair.leader.it.balances.turn == 6


def test_old_countersignatures_mean_nothing_after_a_restore(pair: LedgerPair) -> None:
    pay(pair, 0)
    pair.leader.restore(len(pair.leader.log), TOKEN_A)
    reunite(pair)
    old = Agree(pair.channel, 5, bytes(65))
    assert receiving.receive(pair.leader.it, pair.leader.session, old, pair.leader.context).events == ()


def test_two_that_were_restored_say_so_and_an_override_at_one_frees_both(pair: LedgerPair) -> None:
    """Neither waits for what the other cannot tell without naming the way out."""
    pay(pair, 0)
    for party, token in zip(pair.parties, (TOKEN_A, TOKEN_B), strict=True):
        party.restore(len(party.log), token)
    pair.collect()
    for party in pair.parties:
        assert "to tell where the ledger stands" in waiting_for(party.it, party.session)
        party.say_again()
    pair.collect()
    pair.quiet()
    command = f"scapp ledger recover 0x{pair.channel.hex()} --override"
    for party in pair.parties:
        text = waiting_for(party.it, party.session)
        assert "was restored as well" in text
        assert command in text
    pair.leader.override()
    pair.follower.say_again()
    pair.collect()
    pair.quiet()
    assert [party.it.phase for party in pair.parties] == ["running", "running"]


@pytest.mark.parametrize("who", [0, 1])
def test_a_restored_party_whose_ledger_the_other_does_not_know_names_the_way_out(who: int) -> None:
    """It believes nobody that there is no ledger: it may have deposited and forgotten that. Its operator decides."""
    pair = LedgerPair()
    pair.quiet()
    party, other = pair.parties[who], pair.parties[1 - who]
    party.restore(len(party.log), TOKEN_A)
    log = len(party.log)
    party.hear(other.address, encode(RejectLedger(pair.channel, "opened after a backup")))
    assert (party.it.phase, len(party.log)) == ("recovering", log)
    text = waiting_for(party.it, party.session)
    assert "has no such ledger (opened after a backup)" in text
    assert f"scapp ledger recover 0x{pair.channel.hex()} --override" in text
    reunite(pair)  # it has only forgotten for a while
    assert party.it.phase == "funding"
    assert party.session.denied == ""


def test_a_ledger_that_was_rejected_is_rejected_once_the_operator_has_ended_the_recovery() -> None:
    pair = LedgerPair()
    pair.leader.restore(1, TOKEN_A)
    refused = encode(RejectLedger(pair.channel, "no thanks"))
    pair.leader.hear(pair.follower.address, refused)
    assert "has no such ledger (no thanks)" in waiting_for(pair.leader.it, pair.leader.session)
    pair.leader.override()
    pair.leader.hear(pair.follower.address, refused)
    assert pair.leader.it.phase == "rejected"
