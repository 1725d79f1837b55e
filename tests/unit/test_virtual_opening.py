"""What is no virtual channel: wrong people, amounts, fees, apps, ledgers, signatures and times."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from scapp.channels.abi import InvalidValue
from scapp.channels.books.step import Step
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.outcome import address_to_destination
from scapp.channels.state import FixedPart, channel_id
from scapp.channels.types import U256_MAX, ZERO_ADDRESS, Address, Destination
from scapp.channels.virtual import opening
from scapp.channels.virtual.agreement import Agreement, Asset, check_agreement, nonce_at, to_message
from scapp.channels.virtual.messages import Proposed
from scapp.channels.virtual.record import VirtualRecord, create, evolve
from tests.support.virtual_net import APPS, NOW_MS, TOKEN, Net, Party

replace = msgspec.structs.replace


def fixed(agreement: Agreement, **changes: Any) -> Agreement:
    return replace(agreement, fixed=replace(agreement.fixed, **changes))


def proposal(net: Net, agreement: Agreement) -> Proposed:
    """As the first participant would send it, whatever it is."""
    channel = channel_id(agreement.fixed)
    record_hash = record_of(agreement).hash_of("prefund", 0, agreement.start, agreement.app_data)
    signature = net.parties[0].signer.sign(record_hash)
    return to_message(channel, agreement, (signature, *[b""] * (agreement.count - 1)))


def record_of(agreement: Agreement) -> VirtualRecord:
    net = Net(3)
    party = net.parties[0]
    step = opening.propose(net.agreement(), None, party.side(net.parties[1].address), APPS, party.context)
    return replace(create(step.events[0]), agreement=agreement, channel_id=channel_id(agreement.fixed))


def received(net: Net, message: Proposed, by: int = 1, peer: int = 0, not_before_ms: int = 0) -> Step:
    """At participant `by`, from participant `peer`."""
    party = net.parties[by]
    left, right = opening.neighbours_of(message, party.address)
    return opening.receive_proposal(
        net.parties[peer].address, message, party.side(left), party.side(right), APPS, party.context, not_before_ms
    )


CROWD = tuple(Address(bytes([number]) * 20) for number in range(10))
INVALID: dict[str, tuple[Any, str]] = {
    "a hub twice": (lambda a: fixed(a, participants=(a.participants[0], *[a.participants[1]] * 2)), "more than once"),
    "its own hub": (lambda a: fixed(a, participants=(*a.participants[:2], a.participants[0])), "more than once"),
    "one participant": (lambda a: fixed(a, participants=a.participants[:1]), "1 participants"),
    "too many": (
        lambda a: replace(
            fixed(a, participants=(*a.participants[:1], *(Address(bytes([n]) * 20) for n in range(10)))), fees=(0,) * 9
        ),
        "11 participants",
    ),
    "another app": (lambda a: fixed(a, app_definition=APPS.app), "app definition"),
    "no app": (lambda a: fixed(a, app_definition=ZERO_ADDRESS), "app definition"),
    "no time to answer": (lambda a: fixed(a, challenge_duration=0), "challenge duration 0"),
    "a duration of more than 32 bits": (lambda a: fixed(a, challenge_duration=2**32), "challenge duration"),
    "a nonce of more than 64 bits": (lambda a: fixed(a, nonce=2**64), "nonce"),
    "nothing in it": (lambda a: replace(a, assets=(Asset(ZERO_ADDRESS, 0, 0),)), "0 and 0"),
    "no asset": (lambda a: replace(a, assets=()), "0 assets"),
    "negative": (lambda a: replace(a, assets=(Asset(ZERO_ADDRESS, 150, -50),)), "150 and -50"),
    "above 2^256": (lambda a: replace(a, assets=(Asset(ZERO_ADDRESS, U256_MAX, 1),)), "together 1 to"),
    "an asset twice": (lambda a: replace(a, assets=(Asset(TOKEN, 1, 0),) * 2), "different ones"),
    "a payee with money": (lambda a: replace(a, assets=(Asset(ZERO_ADDRESS, 99, 1),)), "begins with 0"),
    "two assets to pay in": (
        lambda a: replace(a, assets=(Asset(ZERO_ADDRESS, 9, 0), Asset(TOKEN, 9, 0))),
        "one asset",
    ),
    "app data in a payment channel": (lambda a: replace(a, app_data=b"x"), "no app data"),
    "a fee too few": (lambda a: replace(a, fees=()), "0 fees for 1 hubs"),
    "a negative fee": (lambda a: replace(a, fees=(-1,)), "a fee is negative"),
    "fees above 2^256": (lambda a: replace(a, fees=(U256_MAX,)), "2\\^256-1"),
    "paid at one address": (lambda a: replace(a, destinations=(a.destinations[0],) * 2), "different addresses"),
    "paid into a channel": (
        lambda a: replace(a, destinations=(a.destinations[0], Destination(b"\x01" * 32))),
        "not into channels",
    ),
}


@pytest.mark.parametrize("what", INVALID)
def test_what_cannot_work_is_neither_proposed_nor_accepted(what: str) -> None:
    change, says = INVALID[what]
    net = Net(3)
    agreement = change(net.agreement())
    with pytest.raises(InvalidValue, match=says):
        check_agreement(agreement, APPS.payment)
    payer = net.parties[0]
    with pytest.raises(LocalError, match=says):
        opening.propose(agreement, None, payer.side(net.parties[1].address), APPS, payer.context)
    try:
        message = proposal(net, agreement)
    except (ValueError, OverflowError):
        return  # there are no bytes for it
    with pytest.raises(PeerError):
        received(net, message)


def test_a_proposal_is_checked_against_what_it_says_of_itself() -> None:
    net = Net(4)
    good = proposal(net, net.agreement())
    payer, hub, second, payee = (party.address for party in net.parties)
    signature = good.prefund[0]
    for message, by, peer, says in (
        (replace(good, channel=b"\x01" * 32), 1, 0, "does not follow"),
        (replace(good, prefund=()), 1, 0, "without the prefund signatures"),
        (replace(good, prefund=(b"\x01" * 65, b"", b"", b"")), 1, 0, "wrong signature of participant 0"),
        (replace(good, prefund=(signature, signature, b"", b"")), 1, 0, "wrong signature of participant 1"),
        (replace(good, prefund=(signature,)), 1, 0, "1 signatures for 4"),
        (good, 2, 1, "and of who sends it"),
        (good, 1, 3, "no neighbour"),
        (replace(good, participants=(payer, second, payee)), 1, 0, "stands 0 times"),
        (replace(good, participants=(payer, hub, hub, payee)), 1, 0, "stands 2 times"),
    ):
        with pytest.raises(PeerError, match=says):
            received(net, message, by, peer)
    assert len(received(net, good).events) == 2


def test_when_a_channel_was_opened_is_part_of_its_id() -> None:
    """A node that was restored may have signed states of a channel from before: it never takes part in it again."""
    net = Net(3)
    now = proposal(net, net.agreement())
    assert received(net, now, not_before_ms=NOW_MS - 1).events
    with pytest.raises(PeerError, match="before this node was restored"):
        received(net, now, not_before_ms=NOW_MS)
    late = fixed(net.agreement(), nonce=nonce_at(NOW_MS + 700_000, 1))
    with pytest.raises(PeerError, match="this node's clock"):
        received(net, proposal(net, late))
    with pytest.raises(PeerError, match="does not follow"):
        received(net, replace(now, nonce=nonce_at(NOW_MS + 1, 1)), not_before_ms=NOW_MS)


def test_a_ledger_is_needed_with_each_neighbour_and_with_nobody_else() -> None:
    net = Net(3)
    payer, hub, payee = net.parties
    agreement = net.agreement()
    right = payer.side(hub.address)
    assert right is not None
    for left_side, right_side in (
        (None, None),
        (right, right),
        (right, None),
        (None, replace(right, peer=payee.address)),
    ):
        with pytest.raises(LocalError, match="ledger"):
            opening.propose(agreement, left_side, right_side, APPS, payer.context)
    with pytest.raises(PeerError, match="a ledger is needed"):
        opening.receive_proposal(
            payer.address, proposal(net, agreement), hub.side(payer.address), None, APPS, hub.context
        )


def test_only_its_ends_begin_a_channel() -> None:
    net = Net(3)
    payer, hub, payee = net.parties
    agreement = net.agreement()
    with pytest.raises(LocalError, match="proposed by its payer"):
        opening.propose(agreement, hub.side(payer.address), hub.side(payee.address), APPS, hub.context)
    with pytest.raises(LocalError, match="proposed by its payer"):
        opening.propose(agreement, payee.side(hub.address), None, APPS, payee.context)
    app = net.agreement("app")
    with pytest.raises(LocalError, match="signatures of both"):
        opening.propose(app, None, payer.side(hub.address), APPS, payer.context)
    wrong = (b"\x01" * 65, b"", net.app_signatures(app, "prefund")[2])
    with pytest.raises(LocalError, match="wrong signature"):
        opening.propose(app, None, payer.side(hub.address), APPS, payer.context, wrong)


def asked(party: Party, record: VirtualRecord) -> opening.HubRequest:
    assert party.address in record.agreement.participants
    return opening.request_of(record)


def test_policy_is_asked_with_what_there_is_to_gain_and_to_bind() -> None:
    net = Net(4, assets=(ZERO_ADDRESS, TOKEN))
    requests: dict[Address, opening.HubRequest] = {}
    for party in net.parties:

        def keep(request: opening.HubRequest, who: Address = party.address) -> str:
            requests[who] = request
            return ""

        party.decide = keep
    net.open(net.agreement("app", ((60, 40), (0, 9)), fees=(3, 4)))
    net.run()
    first, hub, second, last = (party.address for party in net.parties)
    assert requests[second].role == "hub"
    assert (requests[second].fee, requests[second].fee_asset) == (4, ZERO_ADDRESS)
    assert requests[hub].fee == 3
    assert (requests[hub].left, requests[hub].right) == (first, second)
    assert requests[hub].locks == ((ZERO_ADDRESS, 100), (TOKEN, 9))
    assert requests[hub].amounts == ((ZERO_ADDRESS, 60, 40), (TOKEN, 0, 9))
    assert (requests[hub].proposer, requests[hub].last, requests[hub].hubs) == (first, last, 2)
    assert requests[hub].opened_ms == NOW_MS


def test_what_is_decided_is_decided_once() -> None:
    net = Net(3)
    hub = net.parties[1]
    step = received(net, proposal(net, net.agreement()))
    record = evolve(create(step.events[0]), step.events[1])
    rejected = evolve(record, opening.reject(record, "no").events[0])
    accepted = evolve(record, opening.approve(record, hub.context).events[0])
    for decided in (rejected, accepted):
        with pytest.raises(LocalError, match="nothing to accept"):
            opening.approve(decided, hub.context)
        with pytest.raises(LocalError, match="nothing to reject"):
            opening.reject(decided, "no")
    with pytest.raises(LocalError, match="does not sign for"):
        opening.approve(record, net.parties[2].context)


def test_an_app_party_agrees_through_its_app() -> None:
    net = Net(3)
    last = net.parties[2]
    agreement = net.agreement("app")
    channel = channel_id(agreement.fixed)
    signatures = net.app_signatures(agreement, "prefund")
    hub_hash = record_of(agreement).hash_of("prefund", 0, agreement.start, agreement.app_data)
    message = to_message(channel, agreement, (signatures[0], net.parties[1].signer.sign(hub_hash), b""))
    step = received(net, message, by=2, peer=1)
    record = evolve(create(step.events[0]), step.events[1])
    with pytest.raises(LocalError, match="accepted by its app's policy"):
        opening.approve(record, last.context)


def test_a_channel_without_hubs_needs_one_ledger() -> None:
    net = Net(2)
    agreement = Agreement(
        "payment",
        FixedPart(tuple(party.address for party in net.parties), nonce_at(NOW_MS, 1), APPS.payment, 60),
        (address_to_destination(net.parties[0].address), address_to_destination(net.parties[1].address)),
        (Asset(ZERO_ADDRESS, 5, 0),),
        b"",
        (),
    )
    channel = net.open(agreement)
    net.run()
    assert net.phases(channel) == ["running", "running"]
