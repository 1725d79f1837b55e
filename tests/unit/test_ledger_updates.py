"""The changes of a running ledger: who proposes and signs what, what is declined, and what a hostile party gets."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from scapp.channels.books.step import Step
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.ledger import asking, consensus, receiving
from scapp.channels.ledger.consensus import QUEUE_MAX
from scapp.channels.ledger.events import AskDeclined, LedgerExitStarted, RequestDropped
from scapp.channels.ledger.messages import ASKS_MAX, Agree, Ask, Decline, LedgerMessage, Update, Updates
from scapp.channels.ledger.proposals import Add, Expand, Merge, Part, Proposal, Remove, Transfer
from scapp.channels.ledger.resending import pending, waits_for_peer
from scapp.channels.ledger.standing import waiting_for
from scapp.channels.ledger.updating import pursue, updates_message, with_ask
from scapp.channels.ledger.wire import to_wire
from scapp.channels.types import ChannelId
from tests.support.ledger_pair import COIN, LedgerPair, Party, decode_message
from tests.support.plain_chain import TOKEN

V, W = ChannelId(b"\xff" * 32), ChannelId(b"\xee" * 32)
_replace = msgspec.structs.replace


@pytest.fixture
def pair() -> LedgerPair:
    made = LedgerPair()
    made.run()
    return made


def add(pair: LedgerPair, target: ChannelId = V, amount: int = 30, fee: int = 0) -> Add:
    parties = pair.leader.it.setup.opening.parties
    return Add(target, parties.leader, parties.follower, (Part(COIN, amount, amount),), fee)


def remove(target: ChannelId = V, amount: int = 30, share: int = 10) -> Remove:
    return Remove(target, (Part(COIN, amount, share),))


def want(pair: LedgerPair, *wants: Proposal, parties: tuple[int, ...] = (0, 1)) -> None:
    """These parties want that now, and no more."""
    for index in parties:
        pair.parties[index].wants = list(wants)
        pair.parties[index].settle()
    pair.collect()


def coins(party: Party) -> tuple[int, int]:
    return party.it.balances.assets[0].leader, party.it.balances.assets[0].follower


def hear(party: Party, message: LedgerMessage) -> None:
    party.commit(receiving.receive(party.it, party.session, message, party.context))
    party.settle()


def unchanged(party: Party, message: LedgerMessage, says: str) -> None:
    """The message is refused and leaves no trace."""
    record, queue, log = party.it, party.session.queue, len(party.log)
    with pytest.raises(PeerError, match=says):
        hear(party, message)
    assert (party.it, party.session.queue, len(party.log)) == (record, queue, log)


def test_a_guarantee_comes_and_goes(pair: LedgerPair) -> None:
    want(pair, add(pair, fee=2))
    pair.quiet()
    assert all(party.it.holds(V) for party in pair.parties)
    assert coins(pair.leader) == coins(pair.follower) == (68, 62)
    want(pair, remove())
    pair.quiet()
    assert not any(party.it.holds(V) for party in pair.parties)
    assert coins(pair.leader) == coins(pair.follower) == (78, 82)
    assert pair.refused == []


def test_the_follower_signs_nothing_that_it_does_not_want(pair: LedgerPair) -> None:
    """It waits, and says for what; what comes behind waits with it."""
    want(pair, add(pair), parties=(0,))
    pair.quiet()
    pair.leader.request(Transfer(COIN, 5, 0))
    pair.collect()
    pair.quiet()
    assert pair.follower.it.balances.turn == 1
    assert "a guarantee for 0xff" in waiting_for(pair.follower.it, pair.follower.session)
    assert waiting_for(pair.leader.it, pair.leader.session).endswith("to countersign turn 3")
    want(pair, add(pair, amount=31), parties=(1,))
    pair.quiet()
    assert pair.follower.it.balances.turn == 1
    want(pair, add(pair), parties=(1,))
    pair.quiet()
    assert pair.leader.it.balances.turn == pair.follower.it.balances.turn == 3


def test_a_want_that_the_ledger_cannot_pay_is_reported(pair: LedgerPair) -> None:
    """And keeps none of the others."""
    want(pair, add(pair, amount=101), add(pair, W), parties=(0,))
    assert {each.want for each in pair.leader.impossible} == {add(pair, amount=101)}
    assert "insufficient funds" in pair.leader.impossible[0].reason
    assert [queued.proposal for queued in pair.leader.it.ledger.queue] == [add(pair, W)]  # type: ignore[union-attr]


def test_what_is_proposed_or_done_is_not_proposed_again(pair: LedgerPair) -> None:
    want(pair, add(pair))
    want(pair, add(pair))
    assert len(pair.leader.it.ledger.queue) == 1  # type: ignore[union-attr]
    pair.quiet()
    want(pair, add(pair), remove(W))
    assert not pair.leader.it.ledger.queue  # type: ignore[union-attr]
    assert not pair.leader.impossible


def test_a_channel_that_is_given_up_is_not_begun(pair: LedgerPair) -> None:
    """But what the leader has signed already is signed by the follower too, and taken back."""
    want(pair, add(pair), remove())
    assert not pair.leader.it.ledger.queue  # type: ignore[union-attr]
    want(pair, add(pair), parties=(0,))
    want(pair, add(pair), remove())
    pair.quiet()
    assert [party.it.balances.turn for party in pair.parties] == [3, 3]
    assert not pair.leader.it.has_guarantees


def test_a_refund_that_cannot_be_paid_yet_waits_for_money(pair: LedgerPair) -> None:
    """The guarantee stands until right has it again; nothing else is held up."""
    parties = pair.leader.it.setup.opening.parties
    want(pair, Add(V, parties.leader, parties.follower, (Part(TOKEN, 40, 0),), 0))
    pair.quiet()
    want(pair, add(pair, W, 20, fee=5))
    pair.quiet()
    pair.follower.request(Transfer(COIN, 65, 1))
    pair.collect()
    pair.quiet()
    back = Remove(W, (Part(COIN, 20, 20),), 5)
    want(pair, back)
    pair.quiet()
    assert pair.leader.it.holds(W)
    assert not pair.leader.impossible
    pair.leader.request(Transfer(COIN, 4, 0))
    pair.collect()
    pair.quiet()
    assert pair.leader.it.holds(W)
    pair.leader.request(Transfer(COIN, 1, 0))
    pair.collect()
    pair.quiet()
    assert not pair.leader.it.holds(W)
    assert coins(pair.leader) == coins(pair.follower) == (160, 0)


def test_requests_of_virtual_channels_only_are_pursued(pair: LedgerPair) -> None:
    with pytest.raises(LocalError, match="requested, not pursued"):
        want(pair, Transfer(COIN, 5, 0), parties=(0,))


def test_a_full_queue_waits(pair: LedgerPair) -> None:
    """What does not fit is proposed once there is room, and the follower takes all of it."""
    targets = [ChannelId(b"\xff" + number.to_bytes(31, "big")) for number in range(QUEUE_MAX + 5)]
    want(pair, *(add(pair, target, 0) for target in targets), parties=(0,))
    assert len(pair.leader.it.ledger.queue) == QUEUE_MAX  # type: ignore[union-attr]
    with pytest.raises(LocalError, match="wait for the follower"):
        pair.leader.request(Transfer(COIN, 5, 0))
    want(pair, *(add(pair, target, 0) for target in targets), parties=(1,))
    pair.quiet()
    assert pair.leader.it.balances == pair.follower.it.balances
    assert len(pair.leader.it.balances.assets[0].guarantees) == QUEUE_MAX + 5


def test_either_party_pays_the_other(pair: LedgerPair) -> None:
    pair.leader.request(Transfer(COIN, 40, 0))
    pair.follower.request(Transfer(TOKEN, 15, 1))
    pair.collect()
    pair.quiet()
    for party in pair.parties:
        assert coins(party) == (60, 100)
        assert party.it.balances.assets[1].leader == 15
    assert not pair.follower.it.requests


@pytest.mark.parametrize(
    ("index", "change", "says"),
    [
        (0, Transfer(COIN, 5, 1), "its own payments"),
        (1, Transfer(COIN, 5, 0), "its own payments"),
        (0, Expand(COIN, 5, 1), "its own payments"),
        (1, Merge(COIN, 1), "its own payments"),
        (0, Transfer(COIN, 101, 0), "insufficient funds"),
        (1, Transfer(COIN, 61, 1), "insufficient funds"),
        (1, Transfer(COIN, -1, 1), "allowed are"),
        (0, Expand(COIN, 2**256, 0), "allowed are"),
    ],
)
def test_what_may_not_be_requested(pair: LedgerPair, index: int, change: Proposal, says: str) -> None:
    with pytest.raises(LocalError, match=says):
        pair.parties[index].request(change)
    assert not pair.parties[index].outbox


def test_a_request_that_comes_twice_is_done_once(pair: LedgerPair) -> None:
    """However often and late it is said again: its number has been decided."""
    pair.follower.request(Transfer(COIN, 10, 1))
    pair.follower.request(Transfer(COIN, 10, 1))
    pair.collect()
    asks = [data for to, data in pair.bag if to == 0]
    pair.quiet()
    for data in asks * 2:
        pair.leader.hear(pair.follower.address, data)
    pair.collect()
    pair.quiet()
    assert coins(pair.leader) == coins(pair.follower) == (120, 40)


def test_a_request_that_cannot_be_done_is_declined_for_ever(pair: LedgerPair) -> None:
    """Two payments that each could be made, but not both; the answer is given again when it was lost."""
    pair.follower.request(Transfer(COIN, 40, 1))
    pair.follower.request(Transfer(COIN, 30, 1))
    pair.collect()
    asks = [data for to, data in pair.bag if to == 0]
    pair.bag.clear()
    for data in asks:
        pair.leader.hear(pair.follower.address, data)
    pair.leader.outbox.clear()  # its answers are lost
    assert pair.leader.it.declined == ((2, "insufficient funds"),)
    assert waits_for_peer(pair.follower.it)
    for party in pair.parties:
        party.say_again()
    pair.collect()
    pair.quiet()
    assert not pair.follower.it.requests
    assert coins(pair.leader) == coins(pair.follower) == (140, 20)
    hear(pair.leader, Ask(pair.channel, ((2, to_wire(Transfer(COIN, 1, 1))),)))
    assert coins(pair.leader) == (140, 20)
    assert not pair.leader.it.ledger.queue  # type: ignore[union-attr]


def test_requests_wait_for_their_turn(pair: LedgerPair) -> None:
    """There are only so many at a time, and each message has all of them."""
    for _ in range(ASKS_MAX):
        pair.follower.request(Transfer(COIN, 1, 1))
    with pytest.raises(LocalError, match="wait for the leader"):
        pair.follower.request(Transfer(COIN, 1, 1))
    message = pending(pair.follower.it)[-1]
    assert isinstance(message, Ask)
    assert [number for number, _ in message.asks] == list(range(1, ASKS_MAX + 1))


@pytest.mark.parametrize(
    "change", [Transfer(COIN, 5, 0), Expand(COIN, 5, 0), Merge(COIN, 1), Remove(V, (Part(COIN, 1, 1),))]
)
def test_the_follower_cannot_ask_for_the_leaders_money(pair: LedgerPair, change: Proposal) -> None:
    unchanged(
        pair.leader, Ask(pair.channel, ((1, to_wire(Transfer(COIN, 1, 1))), (2, to_wire(change)))), "something else"
    )


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("change", [Transfer(COIN, 30, 1), Expand(COIN, 30, 1)])
def test_the_leader_cannot_take_the_followers_money(pair: LedgerPair, number: int, change: Proposal) -> None:
    """It may sign what it likes: without that request of that number the follower does not."""
    ledger = pair.leader.it.ledger
    assert ledger is not None
    after, _ = consensus.propose(ledger, change, pair.leader.signer)
    hear(pair.follower, updates_message(with_ask(after, number)))
    assert coins(pair.follower) == (100, 60)
    assert waiting_for(pair.follower.it, pair.follower.session).startswith("this node to want")
    pair.follower.request(Transfer(COIN, 29, 1))
    assert pair.follower.it.balances.turn == 1


def test_only_the_first_request_is_dropped(pair: LedgerPair) -> None:
    pair.follower.request(Transfer(COIN, 5, 1))
    hear(pair.follower, Decline(pair.channel, 7, "no"))
    assert len(pair.follower.it.requests) == 1
    step = asking.receive_declined(pair.follower.it, Decline(pair.channel, 1, "no"))
    assert step.events == (RequestDropped(pair.channel, 1, "no"),)
    unchanged(pair.leader, Decline(pair.channel, 1, "no"), "has not asked for")
    unchanged(pair.follower, Ask(pair.channel, ((1, to_wire(Transfer(COIN, 1, 1))),)), "asks the follower")


def proposed(pair: LedgerPair) -> Updates:
    """The leader's queue of one guarantee, which has not arrived."""
    want(pair, add(pair))
    data = next(data for to, data in pair.bag if to == 1)
    pair.bag.clear()
    message = decode_message(data)
    assert isinstance(message, Updates)
    return message


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"signature": bytes(64) + b"\x1b"}, "invalid signature"),
        ({"turn": 3}, "invalid signature"),
        ({"turn": 2**47}, "proposes turn"),
        ({"proposal": to_wire(Transfer(COIN, 101, 0))}, "insufficient funds"),
        ({"proposal": to_wire(Merge(COIN, 0))}, "no deposit of that party"),
        ({"proposal": to_wire(Remove(V, (Part(COIN, 1, 1),)))}, "guarantee not found"),
        ({"proposal": to_wire(Transfer(COIN, 1, 0))}, "invalid signature"),
    ],
)
def test_hostile_updates_change_nothing(pair: LedgerPair, changed: dict[str, Any], says: str) -> None:
    """Wrong signatures, turns and changes, alone and behind a good one; the good one is signed afterwards."""
    good = proposed(pair)
    hostile = _replace(good.updates[0], **changed)
    unchanged(pair.follower, Updates(pair.channel, (hostile,)), says)
    if "turn" not in changed:  # behind a good one
        behind = Updates(pair.channel, (good.updates[0], _replace(hostile, turn=3)))
        unchanged(pair.follower, behind, "could not add|invalid signature")
    hear(pair.follower, good)
    assert pair.follower.it.holds(V)


def test_an_update_with_a_gap_is_refused(pair: LedgerPair) -> None:
    good = proposed(pair).updates[0]
    later = _replace(good, turn=4)
    unchanged(pair.follower, Updates(pair.channel, (good, later)), "not the next turn number")


def test_what_comes_again_changes_nothing_and_is_answered(pair: LedgerPair) -> None:
    message = proposed(pair)
    hear(pair.follower, message)
    pair.follower.outbox.clear()
    log = len(pair.follower.log)
    hear(pair.follower, message)
    assert len(pair.follower.log) == log
    said = [decode_message(data) for _, data in pair.follower.outbox]
    assert [type(each) for each in said] == [Agree]
    hear(pair.leader, said[0])
    assert pair.leader.it.balances == pair.follower.it.balances


@pytest.mark.parametrize("turn", [3, 9, 2**47])
def test_a_countersignature_of_another_turn_is_refused(pair: LedgerPair, turn: int) -> None:
    proposed(pair)
    unchanged(pair.leader, Agree(pair.channel, turn, bytes(65)), "has not proposed")
    unchanged(pair.leader, Agree(pair.channel, 2, bytes(64) + b"\x1b"), "incorrectly signed")
    unchanged(pair.leader, Agree(pair.channel, 2, pair.leader.it.ledger.queue[0].signature), "incorrectly")  # type: ignore[union-attr]
    hear(pair.leader, Agree(pair.channel, 1, bytes(65)))
    assert pair.leader.it.balances.turn == 1


def test_one_countersignature_confirms_what_is_before_it(pair: LedgerPair) -> None:
    want(pair, add(pair), add(pair, W))
    pair.quiet()
    assert len(pair.leader.log) == len({*pair.leader.log})
    assert pair.leader.it.balances.turn == 3
    assert sum(b"l:agreed.1" in data for data in pair.leader.log) == 1


def test_nothing_is_signed_while_the_ledger_is_disputed(pair: LedgerPair) -> None:
    want(pair, add(pair), parties=(0,))
    pair.quiet()
    for party in pair.parties:
        party.commit(Step((LedgerExitStarted(pair.channel, "silence"),)))
    want(pair, add(pair), add(pair, W))
    pair.quiet()
    assert not pair.follower.it.holds(V)
    assert {each.reason for each in pair.leader.impossible} == {"the ledger is disputed"}
    with pytest.raises(LocalError, match="disputed"):
        pair.leader.request(Transfer(COIN, 5, 0))


def test_the_bytes_of_an_update_have_bounds(pair: LedgerPair) -> None:
    """Shapes are checked before anything is looked at: lengths, parties, counts."""
    good = msgspec.msgpack.decode(msgspec.msgpack.encode(proposed(pair)))
    update = good[2][0]
    assert isinstance(decode_message(msgspec.msgpack.encode(good)), Updates)
    for at, wrong in [(0, -1), (0, 2**48), (1, ["add"]), (1, ["transfer", COIN, bytes(31), 0]), (2, bytes(64)), (3, -1),
                      (1, ["transfer", COIN, bytes(32), 2]), (1, ["expand", bytes(19), bytes(32), 0])]:  # fmt: skip
        changed = [*update[:at], wrong, *update[at + 1 :]]
        with pytest.raises(msgspec.DecodeError):
            decode_message(msgspec.msgpack.encode([good[0], good[1], [changed]]))
    with pytest.raises(msgspec.DecodeError):
        decode_message(msgspec.msgpack.encode([good[0], good[1], []]))


def test_a_closing_ledger_takes_no_new_guarantee(pair: LedgerPair) -> None:
    want(pair, add(pair))
    pair.quiet()
    with pytest.raises(LocalError, match="guarantees for virtual channels stand"):
        pair.follower.close()
    pursuit = pursue(_replace(pair.leader.it, closing_by=1), pair.leader.session, [add(pair, W)], pair.leader.context)
    assert [each.reason for each in pursuit.impossible] == ["the ledger is closing"]


def test_an_update_keeps_its_shape() -> None:
    update = Update(2, to_wire(Merge(COIN, 1)), bytes(65), 3)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(update), type=Update) == update
    assert AskDeclined(V, 1, "no").number == 1
