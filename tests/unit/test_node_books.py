"""Ledgers, payment channels and payments through whole nodes in one process: the story, restarts, what is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from scapp.channels import chain_desk
from scapp.channels.books import proposals
from scapp.channels.books.info import LedgerRequest, PaymentChannelRequest
from scapp.channels.books.step import BOOKS_STREAM
from scapp.channels.errors import CorruptionError, LocalError
from scapp.channels.ledger import proposals as ledger_proposals
from scapp.channels.log.port import Append, StreamWrite
from scapp.channels.onchain import Purpose
from scapp.channels.restoring import mark_restored
from scapp.channels.types import ZERO_ADDRESS, ChannelId, money
from tests.support.ledger_scene import DURATION_S, LedgerScene
from tests.support.node_cast import START_MS
from tests.support.plain_chain import TOKEN

ALICE, HUB, BOB = 0, 1, 2


@pytest.fixture
async def scene() -> AsyncIterator[LedgerScene]:
    made = await LedgerScene(3).start()
    try:
        yield made
    finally:
        await made.end()


async def test_pay_over_a_hub_and_settle(scene: LedgerScene) -> None:
    """Two ledgers, a payment channel over them, five payments; nothing happens on chain but deposits and payouts."""
    left = await scene.ledger(ALICE, HUB)
    right = await scene.ledger(HUB, BOB)
    blocks = len(scene.chain.sent)
    channel = await scene.payments((ALICE, HUB, BOB), 100, fees=(3,))
    assert scene.money(ALICE, left) == (1_000 - 100 - 3, 1_000 + 3, 100)
    assert scene.money(BOB, right) == (1_000, 1_000 - 100, 100)
    for _ in range(5):
        await scene.books(ALICE).pay(channel, 7)
    await scene.until(lambda: scene.virtual(BOB, channel).paid == 35)
    await scene.books(ALICE).close_virtual(channel)
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, HUB, BOB)))
    assert scene.money(ALICE, left) == (1_000 - 35 - 3, 1_000 + 35 + 3, 0)
    assert scene.money(BOB, right) == (1_000 + 35, 1_000 - 35, 0)
    assert len(scene.chain.sent) == blocks
    await scene.books(ALICE).close_ledger(left)
    await scene.books(BOB).close_ledger(right)
    await scene.until(lambda: scene.has_phase(left, "settled", (ALICE, HUB)), blocks=True)
    await scene.until(lambda: scene.has_phase(right, "settled", (HUB, BOB)), blocks=True)
    assert [scene.chain.gain(scene.address(index)) for index in (ALICE, BOB)] != [0, 0]


async def test_payments_as_their_callers_see_them(scene: LedgerScene) -> None:
    """Seen by the payee, told to its listeners, read back on both sides, also after a restart; a voucher that comes as
    a file counts once."""
    for pair in ((ALICE, HUB), (HUB, BOB)):
        await scene.ledger(*pair)
    channel = await scene.payments((ALICE, HUB, BOB), 100, fees=(3,))
    receipt = await scene.books(ALICE).pay(channel, 7, wait_s=5)
    assert (receipt.seen, receipt.paid, receipt.remaining) == (True, 7, 93)
    assert scene.books(BOB).voucher(channel) == receipt.voucher
    assert [event.detail for event in scene.events[BOB] if event.kind == "paid"] == ["7 more, 7 altogether"]
    assert await scene.books(BOB).take_voucher(receipt.voucher) == 0
    with pytest.raises(LocalError, match="insufficient funds"):
        await scene.books(ALICE).pay(channel, 94)
    for index in (ALICE, BOB):
        await scene.restart(index)
    assert (await scene.books(ALICE).pay(channel, 1, wait_s=5)).seen
    kinds = [[row.kind for row in await scene.books(index).payment_history(channel, 0, 9)] for index in (ALICE, BOB)]
    assert kinds == [["opened", "paid", "paid"], ["opened", "taken", "taken"]]
    with pytest.raises(LocalError, match="does not recover"):
        await scene.books(ALICE).recover_payments(channel)


async def test_an_app_channel_over_a_hub(scene: LedgerScene) -> None:
    """Alice and Bob run an app; the hub guarantees what it is about, earns its fee, and knows nothing of it."""
    left = await scene.ledger(ALICE, HUB)
    right = await scene.ledger(HUB, BOB)
    sent = len(scene.chain.sent)
    channel = await scene.app_channel((ALICE, HUB, BOB), (50, 30), fees=(2,))
    assert scene.money(ALICE, left) == (1_000 - 50 - 2, 1_000 - 30 + 2, 80)
    (receipt,) = await scene.nodes[BOB].submit(channel, [b"move:0:1:20"])
    assert receipt.status == "accepted", receipt
    await scene.nodes[ALICE].close_channel(channel)
    await scene.until(lambda: all(scene.nodes[i].channel(channel).phase == "settled" for i in (ALICE, BOB)))
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, HUB, BOB)))
    assert scene.money(ALICE, left) == (1_000 - 20 - 2, 1_000 + 20 + 2, 0)
    assert scene.money(BOB, right) == (1_000 + 20, 1_000 - 20, 0)
    assert len(scene.chain.sent) == sent


async def test_an_app_channel_over_coin_and_token(scene: LedgerScene) -> None:
    """Each asset is divided as the app says; the hub's fee is in the first."""
    assets = (ZERO_ADDRESS, TOKEN)
    left = await scene.ledger(ALICE, HUB, assets=assets)
    right = await scene.ledger(HUB, BOB, assets=assets)
    channel = await scene.app_channel((ALICE, HUB, BOB), (50, 30), fees=(2,), assets=assets)
    (receipt,) = await scene.nodes[BOB].submit(channel, [b"move:2:3:20"])
    assert receipt.status == "accepted", receipt
    await scene.nodes[ALICE].close_channel(channel)
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, HUB, BOB)))
    coin, token = scene.info(ALICE, left).assets
    assert ((coin.mine, coin.theirs), (token.mine, token.theirs)) == ((998, 1_002), (980, 1_020))
    coin, token = scene.info(BOB, right).assets
    assert ((coin.mine, coin.theirs), (token.mine, token.theirs)) == ((1_000, 1_000), (1_020, 980))


async def test_a_hub_that_does_not_forward_and_a_ledger_that_lacks_funds(scene: LedgerScene) -> None:
    """Both end the channel at everybody, with the reason, and leave the ledgers as they were."""
    left = await scene.ledger(ALICE, HUB, (100, 100))
    right = await scene.ledger(HUB, BOB, (10, 100))
    scene.policies[HUB].answers["hub"] = ("reject", "not today")
    refused = await scene.open_payments((ALICE, HUB, BOB), 50)
    await scene.until(lambda: scene.virtual_phase(refused, "rejected", (ALICE,)))
    assert "not today" in scene.virtual(ALICE, refused).reason
    scene.policies[HUB].answers.clear()
    unfunded = await scene.open_payments((ALICE, HUB, BOB), 50)
    await scene.until(lambda: scene.virtual_over(unfunded, (ALICE, HUB, BOB)))
    assert "insufficient funds" in scene.virtual(HUB, unfunded).reason
    assert (scene.money(ALICE, left), scene.money(BOB, right)) == ((100, 100, 0), (100, 10, 0))


async def test_a_channel_that_the_ledger_cannot_hold(scene: LedgerScene) -> None:
    """A hub has too little. It fails, and the reason names the ledger and what it lacks, not a step of the protocol."""
    await scene.ledger(ALICE, HUB)
    await scene.ledger(HUB, BOB, (100, 1_000))
    channel = await scene.open_payments((ALICE, HUB, BOB), 500)
    await scene.until(lambda: scene.virtual_phase(channel, "failed", (ALICE, HUB, BOB)))
    bob = f"0x{scene.address(BOB).hex()}"
    assert scene.virtual(HUB, channel).reason == f"the ledger with {bob} cannot hold it: insufficient funds"


async def test_what_a_caller_may_not_ask(scene: LedgerScene) -> None:
    """LocalError, with what is wrong; nothing is proposed."""
    alice = scene.books(ALICE)
    left = await scene.ledger(ALICE, HUB)
    request = PaymentChannelRequest(payee=scene.address(BOB), amount=5, challenge_duration_s=DURATION_S)
    with pytest.raises(LocalError, match="no running ledger with"):
        await alice.open_payments(request)
    with pytest.raises(LocalError, match="a way names everybody once"):
        await alice.open_payments(replace(request, via=(scene.address(ALICE),), fees=(0,)))
    with pytest.raises(LocalError, match="1 fees for 0 hubs"):
        await alice.open_payments(replace(request, fees=(0,)))
    with pytest.raises(LocalError, match="one is enough"):
        await scene.ledger(ALICE, HUB)
    with pytest.raises(LocalError, match="another node"):
        await alice.open_ledger(LedgerRequest(peer=scene.address(ALICE), funds=((ZERO_ADDRESS, 5, 5),)))
    for call in (alice.close_ledger, alice.accept_ledger, alice.close_virtual, alice.recover_ledger):
        with pytest.raises(LocalError, match="at this node"):
            await call(ChannelId(b"\x99" * 32))
    with pytest.raises(LocalError, match="this node has 1000 wei free"):
        await alice.transfer(left, ZERO_ADDRESS, 5_000)
    channel = await scene.payments((ALICE, HUB), 10, fees=())
    with pytest.raises(LocalError, match="insufficient funds"):
        await alice.pay(channel, 11)
    with pytest.raises(LocalError, match="close those first"):
        await alice.close_ledger(left)


async def test_a_top_up_that_the_account_cannot_pay_is_refused_at_once(scene: LedgerScene) -> None:
    """Nothing is announced, because it could not be taken back; all of an account's coin would leave none for fees."""
    left = await scene.ledger(ALICE, HUB)
    turn, has = scene.info(ALICE, left).turn, await scene.services[ALICE].funds(ZERO_ADDRESS)
    for amount in (has + 1, has):
        said = f"the chain account has {money(has)}, too little to deposit {money(amount, named=True)}"
        with pytest.raises(LocalError, match=re.escape(said)):
            await scene.books(ALICE).top_up(left, ZERO_ADDRESS, amount)
    assert scene.info(ALICE, left).turn == turn


async def test_a_top_up_goes_on_while_the_chain_does_not_answer(
    scene: LedgerScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the account has is not known then: the deposit is announced, and waits for the chain like any other. Whether
    one was sent is not known either, so none is taken back; nothing is held for that afterwards."""
    monkeypatch.setattr(chain_desk, "ANSWER_S", 0.02)
    left = await scene.ledger(ALICE, HUB)
    books, service = scene.books(ALICE), scene.services[ALICE]
    never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(service, "funds", lambda asset: asyncio.shield(never))
    monkeypatch.setattr(service, "quiet", lambda: asyncio.shield(never))
    await books.top_up(left, ZERO_ADDRESS, 500)
    await scene.until(lambda: scene.info(ALICE, left).assets[0].announced == 500)
    with pytest.raises(LocalError, match="nobody knows whether the deposit was sent; nothing has changed"):
        await books.cancel_top_up(left, ZERO_ADDRESS)
    monkeypatch.undo()
    await scene.until(lambda: scene.money(ALICE, left) == (1_500, 1_000, 0), blocks=True)


async def test_who_has_too_little_signs_nothing(scene: LedgerScene) -> None:
    """Fees count. The hub, and the other party of an app channel, hear of nothing."""
    await scene.ledger(ALICE, HUB)
    await scene.ledger(HUB, BOB)
    text = "1001 wei are needed, fees included; this node has 1000 wei free"
    with pytest.raises(LocalError, match=text):
        await scene.open_payments((ALICE, HUB, BOB), 998, (3,))
    with pytest.raises(LocalError, match=text):
        await scene.app_channel((ALICE, HUB, BOB), (998, 5), (3,))
    await scene.payments((ALICE, HUB, BOB), 997, (3,))
    assert [len(scene.books(who).virtuals()) for who in (ALICE, HUB, BOB)] == [1, 1, 1]
    with pytest.raises(LocalError, match="5 wei are needed, fees included; this node has 0 wei free"):
        await scene.app_channel((ALICE, HUB, BOB), (5, 5), (0,))


@pytest.mark.parametrize("who", [ALICE, HUB])
async def test_a_top_up_is_taken_back_before_it_is_sent(scene: LedgerScene, who: int) -> None:
    """By leader and follower. The deposit is not made then; the next top-up is one like any other."""
    left = await scene.ledger(ALICE, HUB)
    books, held = scene.books(who), scene.chain.held(left)
    with pytest.raises(LocalError, match="announced no deposit"):
        await books.cancel_top_up(left, ZERO_ADDRESS)
    await books.top_up(left, ZERO_ADDRESS, 500)
    await scene.until(lambda: scene.info(who, left).assets[0].announced == 500)
    await books.cancel_top_up(left, ZERO_ADDRESS)
    await scene.until(lambda: scene.info(who, left).assets[0].announced == 0)
    await scene.until(lambda: scene.info(ALICE, left).turn == scene.info(HUB, left).turn)
    for _ in range(3):
        await scene.block()
    assert scene.chain.held(left) == held
    await books.top_up(left, ZERO_ADDRESS, 70)
    await scene.until(lambda: scene.money(who, left) == (1_070, 1_000, 0), blocks=True)
    assert scene.chain.held(left) == held + 70


@pytest.mark.parametrize("who", [ALICE, HUB])
async def test_a_second_top_up_is_told_of_the_first_and_what_to_do(scene: LedgerScene, who: int) -> None:
    """By leader and follower, from the moment it was asked for; the first goes on, then there may be another."""
    left = await scene.ledger(ALICE, HUB)
    books = scene.books(who)
    await books.top_up(left, ZERO_ADDRESS, 500)
    for _ in range(2):  # not signed by both yet, then announced
        with pytest.raises(LocalError) as refused:
            await books.top_up(left, ZERO_ADDRESS, 70)
        assert str(refused.value) == (
            "a top-up of 500 wei is pending in this ledger, and one at a time is made: wait until it is confirmed "
            f"(`scapp ledger show`), or take it back (`scapp ledger cancel-top-up 0x{left.hex()}`)"
        )
        await scene.until(lambda: scene.info(who, left).assets[0].announced == 500)
    await scene.until(lambda: scene.money(who, left) == (1_500, 1_000, 0), blocks=True)
    await books.top_up(left, ZERO_ADDRESS, 70)
    await scene.until(lambda: scene.money(who, left) == (1_570, 1_000, 0), blocks=True)


async def test_what_a_ledger_cannot_hold_is_said_without_words_of_the_protocol(scene: LedgerScene) -> None:
    left = await scene.ledger(ALICE, HUB)
    for who in (ALICE, HUB):
        with pytest.raises(LocalError, match=r"^a transfer of 0; allowed are 1 to"):
            await scene.books(who).transfer(left, ZERO_ADDRESS, 0)


async def test_a_top_up_that_was_sent_is_not_taken_back(scene: LedgerScene) -> None:
    """Neither while it is pending nor when it is in a block; the top-up then ends as it would have."""
    left = await scene.ledger(ALICE, HUB)
    books, service = scene.books(ALICE), scene.services[ALICE]
    await books.top_up(left, ZERO_ADDRESS, 500)
    await scene.until(lambda: scene.info(ALICE, left).assets[0].announced == 500)
    service.pending = (Purpose(left, "deposit", ZERO_ADDRESS),)
    with pytest.raises(LocalError, match="was sent"):
        await books.cancel_top_up(left, ZERO_ADDRESS)
    service.pending = ()
    await scene.block()
    with pytest.raises(LocalError, match="is on chain already"):
        await books.cancel_top_up(left, ZERO_ADDRESS)
    await scene.until(lambda: scene.money(ALICE, left) == (1_500, 1_000, 0), blocks=True)


async def test_transfer_and_top_up_by_either_side(scene: LedgerScene) -> None:
    """Leader and follower may give and add; both see the same."""
    left = await scene.ledger(ALICE, HUB)
    await scene.books(ALICE).transfer(left, ZERO_ADDRESS, 100)
    await scene.books(HUB).transfer(left, ZERO_ADDRESS, 30)
    await scene.until(lambda: scene.money(ALICE, left) == (930, 1_070, 0) == _swapped(scene.money(HUB, left)))
    await scene.books(HUB).top_up(left, ZERO_ADDRESS, 500)
    await scene.until(
        lambda: scene.money(HUB, left) == (1_570, 930, 0) == _swapped(scene.money(ALICE, left)), blocks=True
    )
    await scene.books(ALICE).top_up(left, ZERO_ADDRESS, 70)
    await scene.until(lambda: scene.money(ALICE, left) == (1_000, 1_570, 0), blocks=True)
    assert scene.chain.held(left) == 2_570


def _swapped(money: tuple[int, int, int]) -> tuple[int, int, int]:
    return money[1], money[0], money[2]


async def test_a_proposed_ledger_waits_for_its_operator(scene: LedgerScene) -> None:
    """It is accepted or rejected by hand, after a restart too."""
    scene.policies[HUB].answers["ledger"] = ("ask", "by hand")
    channel = await scene.propose_ledger(ALICE, HUB)
    await scene.until(lambda: scene.has_phase(channel, "proposed", (HUB,)))
    await scene.restart(HUB)
    await scene.books(HUB).accept_ledger(channel)
    await scene.until(lambda: scene.has_phase(channel, "running", (ALICE, HUB)), blocks=True)
    scene.policies[BOB].answers["ledger"] = ("ask", "by hand")
    other = await scene.propose_ledger(ALICE, BOB)
    await scene.until(lambda: scene.has_phase(other, "proposed", (BOB,)))
    await scene.books(BOB).reject_ledger(other, "no")
    await scene.until(lambda: scene.has_phase(other, "rejected", (ALICE, BOB)))
    assert scene.info(ALICE, other).reason == "no"


@pytest.mark.parametrize("snapshot", [False, True])
async def test_every_node_restarts_at_every_step(scene: LedgerScene, snapshot: bool) -> None:
    """From snapshots and from events alone the books are what they were, and go on."""
    left = await scene.ledger(ALICE, HUB)
    right = await scene.ledger(HUB, BOB)
    channel = await scene.open_payments((ALICE, HUB, BOB), 100)
    for step in ("opening", "paying", "closing"):
        if step == "paying":
            await scene.until(lambda: scene.virtual_phase(channel, "running", (ALICE, HUB, BOB)))
            await scene.books(ALICE).pay(channel, 60)
        if step == "closing":
            await scene.until(lambda: scene.virtual(BOB, channel).paid == 60)
            await scene.books(BOB).close_virtual(channel)
        for index in (ALICE, HUB, BOB):
            before = scene.books(index).ledgers() if step == "paying" else None
            if snapshot:
                scene.save_snapshot(index)
            await scene.restart(index)
            assert before is None or [each.assets for each in scene.books(index).ledgers()] == [
                each.assets for each in before
            ]
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, HUB, BOB)))
    assert (scene.money(ALICE, left), scene.money(BOB, right)) == ((940, 1_060, 0), (1_060, 940, 0))


async def test_corrupt_books_stop_the_books_alone(scene: LedgerScene) -> None:
    """The node goes on, and says what is wrong to whoever asks; peers hear that nothing is taken."""
    await scene.ledger(ALICE, HUB)
    await scene.nodes[ALICE].stop()
    version = scene.logs[ALICE].version(BOOKS_STREAM)
    scene.logs[ALICE].append(Append((StreamWrite(BOOKS_STREAM, version, (b"\x91\xa5l:odd",)),)))
    node = await scene.node(ALICE)
    with pytest.raises(CorruptionError, match="the books are corrupt"):
        scene.books(ALICE).ledgers()
    with pytest.raises(CorruptionError):
        await scene.propose_ledger(ALICE, BOB)
    assert node.counters()["books_corrupt"] == 1
    assert "the books are corrupt" in node.corrupt()[ChannelId(BOOKS_STREAM)]
    assert node.channels() == []


async def test_restored_books_sign_nothing_before_the_others_have_told(scene: LedgerScene) -> None:
    """A backup from before a payment channel was closed: the ledger is what both signed last, once they have talked."""
    left = await scene.ledger(ALICE, HUB)
    channel = await scene.payments((ALICE, HUB), 100, fees=())
    await scene.books(ALICE).pay(channel, 10)
    old = scene.logs[ALICE].durable_copy()
    await scene.books(ALICE).pay(channel, 15)
    await scene.books(HUB).close_virtual(channel)
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, HUB)))
    await scene.nodes[ALICE].stop()
    mark_restored(old, b"\x05" * 16, START_MS + 10**6, START_MS)
    scene.logs[ALICE] = old
    await scene.node(ALICE)
    await scene.until(lambda: scene.has_phase(left, "running", (ALICE, HUB)))
    await scene.until(lambda: scene.money(ALICE, left) == (975, 1_025, 0) == _swapped(scene.money(HUB, left)))
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, HUB)))


async def test_a_hub_whose_backup_does_not_know_a_channel_is_told_of_it_and_ends_it(scene: LedgerScene) -> None:
    """A backup from before a payment channel was opened: its neighbours propose it again, and what the hub has signed
    comes back with it."""
    left = await scene.ledger(ALICE, HUB)
    right = await scene.ledger(HUB, BOB)
    old = scene.logs[HUB].durable_copy()
    channel = await scene.payments((ALICE, HUB, BOB), 100, fees=(3,))
    await scene.books(ALICE).pay(channel, 30)
    await scene.until(lambda: scene.virtual(BOB, channel).paid == 30)
    await scene.nodes[HUB].stop()
    mark_restored(old, b"\x05" * 16, START_MS + 10**6, START_MS)
    scene.logs[HUB] = old
    await scene.node(HUB)
    await scene.until(lambda: all(scene.has_phase(each, "running", (HUB,)) for each in (left, right)))
    await scene.books(BOB).close_virtual(channel)
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, BOB)))
    await scene.until(lambda: scene.virtual_phase(channel, "released", (HUB,)))
    assert scene.money(ALICE, left) == (1_000 - 30 - 3, 1_000 + 30 + 3, 0) == _swapped(scene.money(HUB, left))
    assert scene.money(BOB, right) == (1_000 + 30, 1_000 - 30, 0)


async def test_a_silent_hub_cannot_keep_what_was_paid(scene: LedgerScene) -> None:
    """The hub is gone for good after a payment. Bob redeems his voucher and leaves; Alice leaves too; both ledgers are
    settled on chain by the voucher, and the hub has what it had."""
    left = await scene.ledger(ALICE, HUB)
    right = await scene.ledger(HUB, BOB)
    channel = await scene.payments((ALICE, HUB, BOB), 100)
    await scene.books(ALICE).pay(channel, 40)
    await scene.until(lambda: scene.virtual(BOB, channel).paid == 40)
    before = [scene.gain(index) for index in (ALICE, HUB, BOB)]
    await scene.nodes[HUB].stop()
    del scene.nodes[HUB], scene.services[HUB]
    await scene.books(BOB).challenge_ledger(right)
    await scene.books(ALICE).challenge_ledger(left)
    done = lambda: scene.has_phase(right, "settled", (BOB,)) and scene.has_phase(left, "settled", (ALICE,))  # noqa: E731
    await scene.until(done, blocks=True, seconds=600)
    assert [scene.gain(index) - was for index, was in zip((ALICE, HUB, BOB), before, strict=True)] == [
        960,
        2_000,
        1_040,
    ]
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, BOB)))
    await scene.node(HUB)
    await scene.until(
        lambda: scene.has_phase(left, "settled", (HUB,)) and scene.has_phase(right, "settled", (HUB,)), blocks=True
    )
    await scene.until(lambda: scene.virtual_phase(channel, "released", (HUB,)))


async def test_what_policy_turns_down_is_not_stored(scene: LedgerScene) -> None:
    """A neighbour cannot fill a hub's log with channels that it does not forward."""
    await scene.ledger(ALICE, HUB)
    await scene.ledger(HUB, BOB)
    scene.policies[HUB].answers["hub"] = ("reject", "not today")
    await scene.until(lambda: scene.is_stored(HUB))
    before = scene.logs[HUB].version(BOOKS_STREAM)
    for _ in range(3):
        channel = await scene.open_payments((ALICE, HUB, BOB), 50)
        await scene.until(lambda: scene.virtual_phase(channel, "rejected", (ALICE,)))  # noqa: B023 - awaited here
    assert scene.logs[HUB].version(BOOKS_STREAM) == before
    assert scene.books(HUB).virtuals() == []


async def test_ledgers_that_wait_for_the_operator_are_bounded(
    scene: LedgerScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has a key may propose one; the last that fits is kept, and room comes back when it is decided."""
    monkeypatch.setattr(proposals, "PROPOSALS_MAX", 1)
    scene.policies[BOB].answers["ledger"] = ("ask", "by hand")
    first = await scene.propose_ledger(ALICE, BOB)
    await scene.until(lambda: scene.has_phase(first, "proposed", (BOB,)))
    second = await scene.propose_ledger(HUB, BOB)
    await scene.until(lambda: scene.nodes[BOB].counters().get("messages_refused", 0) > 0)
    assert [each.channel_id for each in scene.books(BOB).ledgers()] == [first]
    await scene.books(BOB).reject_ledger(first, "no")
    scene.cast.network.drop_link(scene.address(HUB), scene.address(BOB))  # when they meet again it is proposed again
    await scene.until(lambda: scene.has_phase(second, "proposed", (BOB,)))


async def test_no_channel_is_begun_over_a_ledger_that_would_outgrow_the_chain(
    scene: LedgerScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for two guarantees: a third channel is refused where it is opened, and by a hub whose other ledger is full;
    those that are still being opened count, and room comes back with the end of one."""
    await scene.ledger(ALICE, HUB)
    right = await scene.ledger(HUB, BOB)
    monkeypatch.setattr(ledger_proposals, "GUARANTEES_MAX", 2)
    await scene.payments((HUB, BOB), 10)
    first = await scene.payments((ALICE, HUB, BOB), 10)
    refused = await scene.open_payments((ALICE, HUB, BOB), 10)
    await scene.until(lambda: scene.virtual_phase(refused, "rejected", (ALICE,)))
    assert f"with 0x{scene.address(BOB).hex()}: the ledger is full: 3" in scene.virtual(ALICE, refused).reason
    scene.cast.network.partition([scene.address(ALICE)], [scene.address(HUB)])
    await scene.open_payments((ALICE, HUB), 10)
    with pytest.raises(LocalError, match="is full: 3 guarantees"):
        await scene.open_payments((ALICE, HUB), 10)
    scene.cast.network.heal()
    await scene.books(ALICE).close_virtual(first)
    await scene.until(lambda: scene.virtual_phase(first, "released", (ALICE, HUB, BOB)))
    await scene.payments((ALICE, HUB), 10)
    await scene.until(lambda: len(scene.info(HUB, right).channels) == 1)


@pytest.mark.parametrize("who", [ALICE, BOB], ids=["payer", "payee"])
async def test_a_purse_that_the_backup_does_not_know_recovers_before_it_pays_or_ends(
    scene: LedgerScene, who: int
) -> None:
    """A backup from before the channel was opened: it comes back by the hub, and its purse is not begun anew, or the
    payee would agree to an end without what it was paid."""
    left = await scene.ledger(ALICE, HUB)
    right = await scene.ledger(HUB, BOB)
    old = scene.logs[who].durable_copy()
    channel = await scene.payments((ALICE, HUB, BOB), 100, fees=(0,))
    await scene.books(ALICE).pay(channel, 30)
    await scene.until(lambda: scene.virtual(BOB, channel).paid == 30)
    await scene.nodes[who].stop()
    mark_restored(old, b"\x05" * 16, START_MS + 10**6, START_MS)
    scene.logs[who] = old
    for index in (ALICE, BOB):  # the one who knows is away at first
        if index != who:
            await scene.nodes[index].stop()
    await scene.node(who)
    await scene.books(HUB).close_virtual(channel)  # it speaks of the channel
    await scene.until(lambda: scene.books(who)._purses.purse(channel) is not None)
    with pytest.raises(LocalError, match="restored from a backup"):
        await (scene.books(who).pay(channel, 1) if who == ALICE else scene.books(who)._payments.close(channel, 0))
    await scene.node(BOB if who == ALICE else ALICE)
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, HUB, BOB)))
    assert scene.virtual(who, channel).paid == 30
    assert scene.money(ALICE, left) == (970, 1_030, 0)
    assert scene.money(BOB, right) == (1_030, 970, 0)
