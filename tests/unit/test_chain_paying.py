"""Payments by hand from the address of a key: what can be paid is, once, and nothing else is touched."""

from __future__ import annotations

import msgspec
import pytest

from scapp.channels.chain.client import Receipt
from scapp.channels.chain.fake import FakeClient
from scapp.channels.chain.paying import balance_of, pay, prepare
from scapp.channels.errors import LocalError
from scapp.channels.types import ZERO_ADDRESS, Address
from tests.support import chain_stories as story

CEILING = 100 * 10**9
TO = Address(b"\x77" * 20)


@pytest.fixture
def client():
    return FakeClient(story.new_chain())


async def sent(client, payment):
    """Paid, and in the next block."""
    client.on_request = lambda name: client.chain.mine() if name == "receipts" else None
    done = await pay(client, story.PAYER, 1337, payment, 0.01)
    client.on_request = lambda name: None
    return done


@pytest.mark.parametrize("legacy", [False, True])
async def test_coin_is_sent(client, legacy):
    """On a chain without base fees as well."""
    client.legacy = legacy
    payment = await prepare(client, story.PAYER.address, TO, ZERO_ADDRESS, 5, CEILING)
    assert isinstance(await sent(client, payment), Receipt)
    assert await client.balance(TO) == 5
    assert story.RICH - await client.balance(story.PAYER.address) <= 5 + payment.fee


async def test_all_of_it_leaves_nothing_but_what_the_fees_did_not_need(client):
    before = await client.balance(story.PAYER.address)
    payment = await prepare(client, story.PAYER.address, TO, ZERO_ADDRESS, None, CEILING)
    assert payment.amount + payment.fee == before
    await sent(client, payment)
    assert await client.balance(TO) == payment.amount
    assert await client.balance(story.PAYER.address) < payment.fee


async def test_tokens_are_sent(client):
    """Some of them, then all."""
    had = await balance_of(client, story.PAYER.address, story.TOKEN)
    await sent(client, await prepare(client, story.PAYER.address, TO, story.TOKEN, 7, CEILING))
    assert await balance_of(client, TO, story.TOKEN) == 7
    await sent(client, await prepare(client, story.PAYER.address, TO, story.TOKEN, None, CEILING))
    assert await balance_of(client, TO, story.TOKEN) == had


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"recipient": ZERO_ADDRESS}, "no account to send to"),
        ({"recipient": story.PAYER.address}, "no account to send to"),
        ({"amount": 2 * story.RICH}, "are needed"),
        ({"amount": 0}, "are needed"),
        ({"asset": Address(b"\x99" * 20)}, "is no token"),
        ({"asset": story.TOKEN, "amount": 10**30}, "would fail"),
        ({"fee_ceiling": 1}, "more than chain.fee_max_gwei"),
    ],
)
async def test_what_cannot_be_paid_says_why(client, changes, says):
    """And nothing is sent."""
    wanted = {"recipient": TO, "asset": ZERO_ADDRESS, "amount": 5, "fee_ceiling": CEILING, **changes}
    with pytest.raises(LocalError, match=says):
        await prepare(client, story.PAYER.address, **wanted)
    assert not client.chain.mempool


async def test_nothing_is_sent_twice_by_impatience(client):
    """A payment that is in no block yet is waited for; the same again would be another one."""
    payment = await prepare(client, story.PAYER.address, TO, ZERO_ADDRESS, 5, CEILING)
    raw, _ = story.PAYER.sign(1337, payment.sign)
    await client.send(raw)
    with pytest.raises(LocalError, match="is under way"):
        await prepare(client, story.PAYER.address, TO, ZERO_ADDRESS, 5, CEILING)


async def test_a_payment_that_no_node_takes_says_so(client):
    payment = await prepare(client, story.PAYER.address, TO, ZERO_ADDRESS, 5, CEILING)
    late = msgspec.structs.replace(payment, sign=msgspec.structs.replace(payment.sign, value=2 * story.RICH))
    with pytest.raises(LocalError, match="does not take the payment"):
        await pay(client, story.PAYER, 1337, late, 0.01)
