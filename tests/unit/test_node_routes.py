"""Routes through whole nodes in one process: announced, found, paid over; and the next one when a hub refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from scapp.channels.books.app_ways import open_over_routes
from scapp.channels.books.info import PaymentChannelRequest, RouteRequest
from scapp.channels.books.messages import decode_message
from scapp.channels.books.messages import encode_message as encode_books_message
from scapp.channels.books.routes import culprit
from scapp.channels.errors import LocalError
from scapp.channels.routing.fees import Schedule
from scapp.channels.routing.messages import Statements, encode_message
from scapp.channels.routing.own import HubTerms
from scapp.channels.routing.paths import Route
from scapp.channels.service import OpenRequest
from scapp.channels.types import U256_MAX, ZERO_ADDRESS, Address
from scapp.channels.virtual.messages import Proposed, Refused
from tests.support.ledger_scene import DURATION_S, LedgerScene
from tests.support.node_cast import DEPLOYMENT

ALICE, CHEAP, DEAR, BOB = range(4)


def hub(fee: int) -> HubTerms:
    return HubTerms(announce=True, schedules=(Schedule(ZERO_ADDRESS, fee, 10_000),), duration_min_s=DURATION_S)


@pytest.fixture
async def scene() -> AsyncIterator[LedgerScene]:
    """Alice and Bob have a ledger with each of two hubs; Alice announces nothing."""
    made = LedgerScene(4)
    made.hubs = [HubTerms(), hub(1), hub(5), HubTerms(announce=True, duration_min_s=DURATION_S)]
    await made.start()
    try:
        for one in (CHEAP, DEAR):
            await made.ledger(ALICE, one)
            await made.ledger(one, BOB)
        yield made
    finally:
        await made.end()


def question(scene: LedgerScene, amount: int = 100, **changes: int) -> RouteRequest:
    amounts = ((ZERO_ADDRESS, amount, 0),)
    request = RouteRequest(to=scene.address(BOB), amounts=amounts, challenge_duration_s=DURATION_S)
    return msgspec.structs.replace(request, **changes)


async def both_known(scene: LedgerScene) -> list[Route]:
    await scene.until(lambda: len(scene.books(ALICE).routes(question(scene))) == 2)
    return scene.books(ALICE).routes(question(scene))


def wish(scene: LedgerScene, amount: int = 100) -> PaymentChannelRequest:
    return PaymentChannelRequest(payee=scene.address(BOB), amount=amount, challenge_duration_s=DURATION_S)


async def test_a_payment_goes_over_the_cheapest_announced_hub(scene: LedgerScene) -> None:
    cheap, dear = await both_known(scene)
    assert (cheap.hubs, cheap.fees) == ((scene.address(CHEAP),), (2,))
    assert (dear.hubs, dear.fees) == ((scene.address(DEAR),), (6,))
    channel = await scene.books(ALICE).open_payments_routed(wish(scene), U256_MAX, 10)
    info = scene.virtual(ALICE, channel)
    assert (info.phase, info.participants[1], info.fees) == ("running", scene.address(CHEAP), (2,))
    await scene.books(ALICE).pay(channel, 40)
    await scene.until(lambda: scene.virtual(BOB, channel).paid == 40)


async def test_when_the_first_hub_refuses_the_next_one_is_taken(scene: LedgerScene) -> None:
    await both_known(scene)
    scene.policies[CHEAP].answers["hub"] = ("reject", "a holiday")
    channel = await scene.books(ALICE).open_payments_routed(wish(scene), U256_MAX, 10)
    info = scene.virtual(ALICE, channel)
    assert (info.phase, info.participants[1]) == ("running", scene.address(DEAR))
    assert [route.hubs for route in scene.books(ALICE).routes(question(scene))] == [(scene.address(DEAR),)]
    refused = [each for each in scene.books(ALICE).virtuals() if each.phase == "rejected"]
    assert [(each.participants[1], each.reason) for each in refused] == [(scene.address(CHEAP), "a holiday")]


async def test_when_no_way_is_left_the_caller_hears_what_was_tried(scene: LedgerScene) -> None:
    await both_known(scene)
    for each in (CHEAP, DEAR):
        scene.policies[each].answers["hub"] = ("reject", f"reason {each}")
    with pytest.raises(
        LocalError, match=r"no way to 0x.* is left: over 0x.*: reason 1 at 0x.*; over 0x.*: reason 2 at"
    ):
        await scene.books(ALICE).open_payments_routed(wish(scene), U256_MAX, 10)
    with pytest.raises(LocalError, match="no hub announces a way to"):
        await scene.books(ALICE).open_payments_routed(wish(scene, 5_000), U256_MAX, 10)
    assert [scene.books(ALICE).ledger(each.channel_id).assets[0].locked for each in scene.books(ALICE).ledgers()] == [
        0,
        0,
    ]


async def test_a_payee_that_refuses_is_asked_over_every_hub(scene: LedgerScene) -> None:
    """Each hub may have made the refusal up."""
    await both_known(scene)
    scene.policies[BOB].answers["payee"] = ("reject", "no customers today")
    with pytest.raises(LocalError, match=r"is left: .*no customers today; .*no customers today"):
        await scene.books(ALICE).open_payments_routed(wish(scene), U256_MAX, 10)
    assert {each.participants[1] for each in scene.books(ALICE).virtuals()} == {
        scene.address(CHEAP),
        scene.address(DEAR),
    }


async def test_a_payee_that_is_a_neighbour_and_refuses_ends_the_search(scene: LedgerScene) -> None:
    """Alice pays the hub itself."""
    await both_known(scene)
    scene.policies[CHEAP].answers["payee"] = ("reject", "no customers today")
    to_hub = msgspec.structs.replace(wish(scene), payee=scene.address(CHEAP))
    with pytest.raises(LocalError, match="does not take it: no customers today"):
        await scene.books(ALICE).open_payments_routed(to_hub, U256_MAX, 10)
    assert len(scene.books(ALICE).virtuals()) == 1


async def test_a_hub_that_refuses_in_the_payees_name_does_not_end_the_search(scene: LedgerScene) -> None:
    await both_known(scene)

    async def lying(peer: Address, data: bytes) -> None:
        message = decode_message(data)
        if isinstance(message, Proposed):
            refusal = encode_books_message(Refused(message.channel, 2, "the payee does not want it"))
            scene.nodes[CHEAP]._shared.send(peer, refusal)

    scene.books(CHEAP).on_message = lying  # type: ignore[method-assign]
    channel = await scene.books(ALICE).open_payments_routed(wish(scene), U256_MAX, 10)
    info = scene.virtual(ALICE, channel)
    assert (info.phase, info.participants[1]) == ("running", scene.address(DEAR))


async def test_a_hub_that_is_away_is_passed_over(scene: LedgerScene) -> None:
    await both_known(scene)
    await scene.nodes[CHEAP].stop()
    await scene.until(lambda: [r.hubs for r in scene.books(ALICE).routes(question(scene))] == [(scene.address(DEAR),)])
    await scene.nodes[DEAR].stop()
    await scene.until(lambda: len(scene.books(ALICE).routes(question(scene))) == 2)  # they may be back in a moment


async def test_a_hub_that_is_silent_is_named_and_the_call_ends_in_time(scene: LedgerScene) -> None:
    await both_known(scene)

    async def deaf(peer: Address, data: bytes) -> None:
        """It takes messages and says nothing."""

    scene.books(CHEAP).on_message = deaf  # type: ignore[method-assign]
    channel = await scene.books(ALICE).open_payments_routed(wish(scene), U256_MAX, 0.2)
    assert scene.virtual(ALICE, channel).phase == "opening"
    runner = scene.books(ALICE)._runner
    assert runner is not None
    assert culprit(runner.books.state.virtuals[channel]) == scene.address(CHEAP)


async def test_a_hub_that_falls_silent_with_the_guarantee_proposed_does_not_hold_up_the_next_route(
    scene: LedgerScene,
) -> None:
    """The payer has signed the postfund state and can only ask for the end."""
    await both_known(scene)
    hear = scene.books(CHEAP).on_message

    async def until_proposed(peer: Address, data: bytes) -> None:
        if peer == scene.address(BOB) or isinstance(decode_message(data), Proposed):
            await hear(peer, data)

    scene.books(CHEAP).on_message = until_proposed  # type: ignore[method-assign]
    opened = asyncio.create_task(scene.books(ALICE).open_payments_routed(wish(scene), U256_MAX, 10))
    await scene.until(lambda: [each.phase for each in scene.books(ALICE).virtuals()] == ["funding"])
    (stuck,) = scene.books(ALICE).virtuals()
    await scene.books(ALICE).close_virtual(stuck.channel_id)  # as when the time for funding is over
    channel = await opened
    assert scene.virtual(ALICE, stuck.channel_id).phase == "funding"
    info = scene.virtual(ALICE, channel)
    assert (info.phase, info.participants[1]) == ("running", scene.address(DEAR))


async def test_who_kept_a_channel_from_being_funded(scene: LedgerScene) -> None:
    """A refusal counts first, then who is missing under the prefund state, then the ledger with the first hub. Of those
    who are further on only the hub tells, and it may lie."""
    await both_known(scene)
    channel = await scene.books(ALICE).open_payments_routed(wish(scene), U256_MAX, 10)
    runner = scene.books(ALICE)._runner
    assert runner is not None
    record, replace = runner.books.state.virtuals[channel], msgspec.structs.replace
    cheap = record.agreement.participants[1]
    unsigned = replace(record.prefund, signatures=(record.prefund.signatures[0], b"", b""))
    without_bob = replace(record.prefund, signatures=(*record.prefund.signatures[:2], b""))
    assert culprit(record) is None
    assert culprit(replace(record, held=(False, False))) == cheap
    assert culprit(replace(record, prefund=unsigned)) == cheap
    assert culprit(replace(record, prefund=without_bob)) is None
    assert culprit(replace(record, prefund=unsigned, rejected_by=1)) == cheap
    assert culprit(replace(record, prefund=unsigned, rejected_by=2)) is None


async def test_fees_and_balances_bound_what_is_found(scene: LedgerScene) -> None:
    """A thousand in each ledger; what a channel has locked is not there for the next."""
    await both_known(scene)
    books = scene.books(ALICE)
    assert [route.hubs for route in books.routes(question(scene, fee_max=3))] == [(scene.address(CHEAP),)]
    assert books.routes(question(scene, fee_max=1)) == []
    assert books.routes(question(scene, hubs_max=0)) == []
    assert len(books.routes(question(scene, 900))) == 2
    await books.open_payments_routed(wish(scene, 600), U256_MAX, 10)
    assert [route.hubs for route in books.routes(question(scene, 900))] == [(scene.address(DEAR),)]


async def test_a_restarted_node_is_told_again(scene: LedgerScene) -> None:
    await both_known(scene)
    await scene.restart(ALICE)
    assert scene.books(ALICE).routes(question(scene)) == []
    await both_known(scene)


async def test_what_cannot_be_read_or_comes_without_a_ledger_is_refused(scene: LedgerScene) -> None:
    """Counted, told to listeners, and nothing else."""
    node, before = scene.nodes[ALICE], scene.books(ALICE).routes(question(scene, hubs_max=0))
    stranger = Address(b"\x99" * 20)
    for peer, data in ((scene.address(CHEAP), b"\x92\xa3r:s\xc1"), (stranger, encode_message(Statements(())))):
        refused = node.counters().get("messages_refused", 0)
        await node._on_message(peer, data)
        assert node.counters()["messages_refused"] == refused + 1
        event = next(each for each in reversed(scene.events[ALICE]) if each.kind == "refused")
        assert event.peer == peer
    assert scene.books(ALICE).routes(question(scene, hubs_max=0)) == before


def app_wish(scene: LedgerScene) -> OpenRequest:
    slots = tuple((bytes(20), bytes(12) + scene.address(index), 50) for index in (ALICE, BOB))
    return OpenRequest(
        peers=(scene.address(BOB),), deployment=DEPLOYMENT, slots=slots, challenge_duration=DURATION_S, fund="virtual"
    )


async def test_an_app_channel_takes_the_next_hub_when_the_first_refuses(scene: LedgerScene) -> None:
    """The hub that was passed over is left out of what is found afterwards."""
    await both_known(scene)
    scene.policies[CHEAP].answers["hub"] = ("reject", "a holiday")
    node, books = scene.nodes[ALICE], scene.books(ALICE)
    channel = await open_over_routes(node, books, app_wish(scene), U256_MAX, 10)
    assert scene.app_phase(ALICE, channel) == "running"
    assert scene.virtual(ALICE, channel).participants[1] == scene.address(DEAR)
    (refused,) = [each for each in node.channels() if each.phase == "rejected"]
    assert "a holiday" in refused.reason
    assert [route.hubs for route in books.routes(question(scene))] == [(scene.address(DEAR),)]


async def test_an_app_channel_that_no_hub_takes_says_what_was_tried(scene: LedgerScene) -> None:
    await both_known(scene)
    for each in (CHEAP, DEAR):
        scene.policies[each].answers["hub"] = ("reject", f"reason {each}")
    with pytest.raises(LocalError, match=r"no way to 0x.* is left: .*reason 1.*reason 2"):
        await open_over_routes(scene.nodes[ALICE], scene.books(ALICE), app_wish(scene), U256_MAX, 10)


async def test_a_peer_that_does_not_want_an_app_channel_is_asked_once(scene: LedgerScene) -> None:
    """It refuses in its own name: no other hub would change that."""
    await both_known(scene)
    scene.nodes[BOB]._proposals._policy.answer = "reject: not now"  # type: ignore[attr-defined]
    with pytest.raises(LocalError, match="does not take it"):
        await open_over_routes(scene.nodes[ALICE], scene.books(ALICE), app_wish(scene), U256_MAX, 10)
    assert len(scene.nodes[ALICE].channels()) == 1
