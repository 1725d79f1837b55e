"""What the payer of a channel with locks tells a payee that was restored is judged like what it would lock: one without
end, a small one on an invoice, or one whose time is over gets it neither the channel's end nor a preimage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from msgspec.structs import replace

from scapp.channels.payments.events import amount_bytes
from scapp.channels.payments.locked import recovering
from scapp.channels.payments.locked.events import LocksRestored
from scapp.channels.payments.locked.messages import LaneHeld, encode_lock_message
from scapp.channels.payments.locked.state import wire_locks
from scapp.channels.payments.locks import Lock, hash_of, sign_locked
from scapp.channels.payments.messages import NO_TOKEN
from tests.support.locked import DURATION_S, HEAD_S, MARGIN_S, PREIMAGE, LockNet

TOKEN = b"\x07" * 16


@pytest.fixture
async def net() -> AsyncIterator[LockNet]:
    """Bob has an invoice over 30, and was restored; what his hub itself tells him does not arrive."""
    made = await LockNet().start()
    try:
        await made.invoiced()
        bob = made.nodes[2]
        bob.deaf.add("k:held")
        await bob.runner.input(lambda book: book.do(LocksRestored(TOKEN, made.now_ms, made.now_ms)))
        yield made
    finally:
        await made.end()


async def tell(net: LockNet, locks: Sequence[Lock], paid: int = 0, preimages: tuple[bytes, ...] = ()) -> None:
    """The hub's owner says to Bob's node whatever it likes, and signs it."""
    _, hub, bob = net.nodes
    voucher = sign_locked(net.lanes[1], paid, tuple(locks), hub.signer)
    bob.runner.receive(
        hub.address,
        encode_lock_message(
            LaneHeld(
                net.lanes[1], TOKEN, 1, amount_bytes(paid), wire_locks(voucher.locks), voucher.signature, preimages
            )
        ),
    )
    await net.idle()


def known_to_hub(net: LockNet) -> bool:
    """Has Bob said the preimage, to his hub or on chain?"""
    transit = net.nodes[1].transit()
    return bool(net.registry) or (transit is not None and bool(transit.preimage))


async def locked_at_hub(net: LockNet, lock: Lock) -> None:
    """The hub's own node has that lock in its lane to Bob: a preimage that Bob tells is not refused."""
    hub = net.nodes[1]
    told = LaneHeld(net.lanes[1], TOKEN, 1, amount_bytes(0), wire_locks((lock,)), b"", ())
    voucher = sign_locked(net.lanes[1], 0, (lock,), hub.signer)
    await hub.runner.input(lambda book: book.do(LocksRestored(TOKEN, net.now_ms, net.now_ms)))
    bob = net.nodes[2].address
    signed = replace(told, signature=voucher.signature)
    await hub.runner.input(lambda book: recovering.held(book, bob, signed))


@pytest.mark.parametrize("ends_s", [HEAD_S + DURATION_S + 1, 2**48 - 1])
async def test_a_lock_that_outlasts_every_dispute_is_not_taken_from_a_restored_payees_payer(
    net: LockNet, ends_s: int
) -> None:
    """The channel could not be closed as long as its payer likes. Bob goes on asking, and his operator reads why."""
    bob, channel = net.nodes[2], net.lanes[1]
    await tell(net, [Lock(1, b"\x31" * 32, ends_s)], paid=12)
    assert bob.lane(channel).voucher is None
    assert bob.lane(channel).token == TOKEN
    said = recovering.cannot_tell(bob.book, bob.lane(channel))
    assert "a dispute over its channel ends before" in said
    assert f"scapp payments recover 0x{channel.hex()} --override" in said
    await tell(net, [Lock(1, b"\x31" * 32, HEAD_S + 500)], paid=12)
    assert (bob.lane(channel).paid, bob.lane(channel).token) == (12, b"")
    assert recovering.cannot_tell(bob.book, bob.lane(channel)) == ""
    await net.later(501)
    await bob.runner.input(lambda book: book.close(channel, 12))


@pytest.mark.parametrize(
    ("lock", "says"),
    [
        (Lock(29, hash_of(PREIMAGE), HEAD_S + 200), "the invoice is over 30"),
        (Lock(30, hash_of(PREIMAGE), HEAD_S + MARGIN_S // 2 - 1), "a lock that ends in 49 s"),
        (Lock(30, hash_of(PREIMAGE), HEAD_S + DURATION_S - MARGIN_S + 1), "a lock that ends in 1901 s"),
    ],
)
async def test_a_restored_payee_shows_no_preimage_for_a_lock_that_it_would_never_have_opened(
    net: LockNet, lock: Lock, says: str
) -> None:
    """Its hub would be paid upstream for it, and pay less, or nothing."""
    await locked_at_hub(net, lock)
    await tell(net, [lock])
    await net.later(3)
    transit = net.nodes[2].transit()
    assert transit is not None
    assert says in transit.fault
    assert not known_to_hub(net)


async def test_one_with_half_a_margin_left_may_have_been_opened_before_and_is(net: LockNet) -> None:
    """Its preimage may be out already, and there is still the time in which any node takes one to the chain."""
    lock = Lock(30, hash_of(PREIMAGE), HEAD_S + MARGIN_S // 2 + 10)
    await locked_at_hub(net, lock)
    await tell(net, [lock])
    assert known_to_hub(net)


async def test_whoever_knows_the_preimage_has_to_pay_for_it_whatever_was_locked(net: LockNet) -> None:
    lock = Lock(29, hash_of(PREIMAGE), HEAD_S + 200)
    await tell(net, [lock], preimages=(PREIMAGE,))
    transit = net.nodes[2].transit()
    assert transit is not None
    assert transit.preimage == PREIMAGE


async def test_a_restored_payee_judges_no_lock_before_it_has_seen_its_chain(net: LockNet) -> None:
    bob, channel, lock = net.nodes[2], net.lanes[1], Lock(30, hash_of(PREIMAGE), HEAD_S + 200)
    bob.sees_chain = False
    await bob.restart()
    await tell(net, [lock])
    assert bob.lane(channel).token == TOKEN
    said = recovering.cannot_tell(bob.book, bob.lane(channel))
    assert "has not seen its chain" in said
    assert "--override" not in said  # which might cost him what he is asked to wait for
    bob.sees_chain = True
    await tell(net, [lock])
    assert bob.lane(channel).token == b""


async def test_what_was_refused_before_is_not_said_of_what_was_taken(net: LockNet) -> None:
    """The hub's node was restored as well, and tells what it has: that is the reason from then on."""
    bob, hub, channel = net.nodes[2], net.nodes[1], net.lanes[1]
    await tell(net, [Lock(1, b"\x31" * 32, HEAD_S + DURATION_S + 1)])
    assert "is refused" in recovering.cannot_tell(bob.book, bob.lane(channel))
    nothing = LaneHeld(channel, NO_TOKEN, 0, amount_bytes(0), (), b"", ())
    bob.runner.receive(hub.address, encode_lock_message(nothing))
    await net.idle()
    assert "was restored as well" in recovering.cannot_tell(bob.book, bob.lane(channel))
