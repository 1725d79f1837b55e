"""Locked payments over two channels: whatever its neighbours do, a hub that acts in time loses nothing."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scapp.channels.errors import LocalError, PeerError
from scapp.channels.payments.hops import (
    NONE_ENDED,
    Conditional,
    LockRefused,
    LockTerms,
    accept,
    drop,
    forward_fault,
    fulfil,
    must_reveal,
    offer,
    time_fault,
)
from scapp.channels.payments.locks import LOCKS_MAX, Lock, LockedVoucher, hash_of, sign_locked
from scapp.channels.signing import Signer, Verifier
from scapp.channels.types import ChannelId

ALICE, HUB, BOB, MALLORY = (Signer(bytes((number,)) * 32) for number in (1, 2, 3, 4))
FIRST = Conditional(ChannelId(b"\xc1" * 32), ALICE.address, HUB.address, 100)
SECOND = Conditional(ChannelId(b"\xc2" * 32), HUB.address, BOB.address, 100)
HEAD = 1_700_000_000
TERMS = LockTerms(margin_s=100, challenge_duration_s=1_000)
PREIMAGE = b"\x11" * 32
HASH = hash_of(PREIMAGE)
LOCK = Lock(40, HASH, HEAD + 400)


def offered(lock: Lock = LOCK, known: Conditional = FIRST) -> Conditional:
    return offer(known, lock, ALICE, HEAD, TERMS)


def taken(
    voucher: LockedVoucher | None, known: Conditional = FIRST, ended: frozenset[bytes] = NONE_ENDED
) -> Conditional:
    assert voucher is not None
    return accept(known, voucher, Verifier(known.payer), ended)


def refuses(says: str, voucher: LockedVoucher | None, known: Conditional = FIRST) -> None:
    with pytest.raises(LockRefused, match=says):
        taken(voucher, known)


def test_a_lock_is_offered_taken_opened_and_paid() -> None:
    payer = offered()
    payee = taken(payer.voucher)
    assert (payee.amount, payee.free, payee.lock(HASH)) == (0, 60, LOCK)
    payer = fulfil(payer, PREIMAGE, ALICE)
    payee = taken(payer.voucher, payee)
    assert (payee.amount, payee.locks, payee.free) == (40, (), 60)


@pytest.mark.parametrize(
    ("lock", "says"),
    [
        (Lock(0, HASH, HEAD + 400), "a lock over 0"),
        (Lock(1, b"short", HEAD + 400), "hash of 5 bytes"),
        (Lock(101, HASH, HEAD + 400), "insufficient funds: 100"),
        (Lock(1, HASH, HEAD + 99), "ends in 99 s"),
        (Lock(1, HASH, HEAD + 901), "ends in 901 s; allowed are 100 to 900"),
    ],
)
def test_locks_that_nobody_offers(lock: Lock, says: str) -> None:
    """Over nothing, on what is no hash, of more than there is, too short or too long."""
    with pytest.raises(LocalError, match=says):
        offered(lock)


@pytest.mark.parametrize(("amount", "says"), [(0, "a lock over 0"), (101, "101 promised under 1 locks, of 100")])
def test_locks_that_nobody_takes(amount: int, says: str) -> None:
    """Over nothing, or more than there is."""
    refuses(says, sign_locked(FIRST.channel, 0, [Lock(amount, HASH, HEAD + 400)], ALICE))


def test_a_lock_is_taken_whatever_its_time_and_then_not_acted_on() -> None:
    """A voucher that was signed has to be known, or the next one could not be taken either."""
    late = Lock(1, HASH, HEAD + 99)
    assert taken(sign_locked(FIRST.channel, 0, [late], ALICE)).locks == (late,)
    assert time_fault(late, HEAD, HEAD, TERMS) == "a lock that ends in 99 s; allowed are 100 to 900"
    assert time_fault(LOCK, HEAD, HEAD, TERMS) == ""


def test_what_time_is_left_counts_from_the_clock_and_a_lock_that_ends_too_late_from_the_block() -> None:
    """The next block may come with the time of the clock, or right behind the one before."""
    assert time_fault(LOCK, HEAD, LOCK.expiry_s - 100, TERMS) == ""
    fault = time_fault(LOCK, HEAD, LOCK.expiry_s - 99, TERMS)
    assert "a lock that ends in 99 s; allowed are 100 to 900" in fault
    assert f"the newest block known here is {LOCK.expiry_s - 99 - HEAD} s old" in fault
    assert "ends in 901 s" in time_fault(Lock(1, HASH, HEAD + 901), HEAD, HEAD + 50, TERMS)


def test_one_hash_locks_once_and_locks_are_few() -> None:
    """Or one preimage would open two payments, and a redemption outgrow a block."""
    with pytest.raises(LocalError, match="a second lock on one hash"):
        offered(known=offered())
    refuses("two locks with one hash", sign_locked(FIRST.channel, 0, [LOCK, Lock(1, HASH, LOCK.expiry_s)], ALICE))
    many = [Lock(1, bytes([number]) * 32, LOCK.expiry_s) for number in range(LOCKS_MAX)]
    full = msgspec.structs.replace(FIRST, voucher=sign_locked(FIRST.channel, 0, many, ALICE))
    with pytest.raises(LocalError, match=f"allowed are {LOCKS_MAX}"):
        offered(known=full)
    refuses("promised under 33 locks", sign_locked(FIRST.channel, 0, [*many, LOCK], ALICE))
    with pytest.raises(LocalError, match="only the payer"):
        offer(FIRST, LOCK, BOB, HEAD, TERMS)


def test_a_voucher_that_takes_something_back_is_refused() -> None:
    """A lock gone before its end, made smaller or shorter, or the amount lower: the one before still counts."""
    payee = taken(
        offered(known=msgspec.structs.replace(FIRST, voucher=sign_locked(FIRST.channel, 10, [], ALICE))).voucher
    )
    for amount, locks in (
        (10, []),
        (49, []),
        (9, [LOCK]),
        (10, [Lock(39, HASH, LOCK.expiry_s)]),
        (10, [Lock(40, HASH, LOCK.expiry_s - 1)]),
    ):
        refuses("is due", sign_locked(FIRST.channel, amount, locks, ALICE), payee)
    refuses("wrong signer", sign_locked(FIRST.channel, 50, [], MALLORY), payee)
    refuses("another channel", sign_locked(SECOND.channel, 50, [], ALICE), payee)
    assert taken(sign_locked(FIRST.channel, 50, [], ALICE), payee).amount == 50


def test_a_lock_that_ended_unopened_may_go_and_one_that_was_opened_is_due() -> None:
    """As the chain says it of each."""
    payer, payee, those = offered(), taken(offered().voucher), frozenset((HASH,))
    assert drop(payer, NONE_ENDED, NONE_ENDED, ALICE) is payer
    dropped = drop(payer, NONE_ENDED, those, ALICE)
    assert (dropped.amount, dropped.locks) == (0, ())
    refuses("40 is due", dropped.voucher, payee)
    assert taken(dropped.voucher, payee, those).locks == ()
    assert drop(payer, those, NONE_ENDED, ALICE).amount == 40


def test_a_preimage_of_nothing_pays_nothing() -> None:
    with pytest.raises(PeerError, match="opens no lock"):
        fulfil(offered(), b"\x12" * 32, ALICE)


@pytest.mark.parametrize(
    ("outgoing", "says"),
    [
        (Lock(37, HASH, LOCK.expiry_s - 100), ""),
        (Lock(38, HASH, LOCK.expiry_s - 100), "2 left for this hub, its fee is 3"),
        (Lock(37, HASH, LOCK.expiry_s - 99), "99 s between two locks; this hub wants 100"),
        (Lock(37, b"\x12" * 32, LOCK.expiry_s - 100), "another hash"),
    ],
)
def test_a_hub_passes_on_what_leaves_it_time_and_fee(outgoing: Lock, says: str) -> None:
    assert says in (fault := forward_fault(LOCK, outgoing, 3, TERMS))
    assert bool(says) == bool(fault)


def test_a_preimage_goes_on_chain_when_waiting_becomes_dangerous() -> None:
    """Not before half the margin is left, not for a lock whose preimage is unknown, not when it is paid or over."""
    payee, known = taken(offered().voucher), frozenset((HASH,))
    assert must_reveal(payee, known, LOCK.expiry_s - 51, LOCK.expiry_s - 51, TERMS) == []
    assert must_reveal(payee, known, LOCK.expiry_s - 50, LOCK.expiry_s - 50, TERMS) == [HASH]
    assert must_reveal(payee, known, LOCK.expiry_s, LOCK.expiry_s, TERMS) == [HASH]
    assert must_reveal(payee, known, LOCK.expiry_s + 1, LOCK.expiry_s + 1, TERMS) == []
    assert must_reveal(payee, known, HEAD, LOCK.expiry_s - 50, TERMS) == [HASH]
    assert must_reveal(payee, known, LOCK.expiry_s, LOCK.expiry_s + 99, TERMS) == [HASH]
    assert must_reveal(payee, NONE_ENDED, LOCK.expiry_s, LOCK.expiry_s, TERMS) == []


class Registry:
    """The contract's memory of what was revealed when; transactions are in a block at most `latency_s` later."""

    def __init__(self) -> None:
        self.revealed: dict[bytes, int] = {}
        self.waiting: list[tuple[int, bytes]] = []

    def reveal(self, hash_: bytes, at_s: int) -> None:
        self.waiting.append((at_s, hash_))

    def advance(self, head_s: int) -> None:
        for at_s, hash_ in [each for each in self.waiting if each[0] <= head_s]:
            self.waiting.remove((at_s, hash_))
            self.revealed.setdefault(hash_, at_s)

    def opened(self, known: Conditional) -> frozenset[bytes]:
        in_time = {lock.hash for lock in known.locks if self.revealed.get(lock.hash, 2**60) <= lock.expiry_s}
        return frozenset(in_time)

    def ended(self, known: Conditional, head_s: int) -> frozenset[bytes]:
        return frozenset(lock.hash for lock in known.locks if lock.expiry_s < head_s) - self.opened(known)


class Hub:
    """Alice's and Bob's neighbour, who follows the rules; all it has are its two channels and the chain."""

    def __init__(self, fee: int) -> None:
        self.first, self.second, self.fee = FIRST, SECOND, fee
        self.preimages: set[bytes] = set()

    def upstream(self, voucher: LockedVoucher, head_s: int, ended: frozenset[bytes]) -> None:
        self.first = accept(self.first, voucher, Verifier(ALICE.address), ended)
        lock = self.first.lock(HASH)
        if self.second.voucher is None and lock is not None:
            outgoing = Lock(lock.amount - self.fee, HASH, lock.expiry_s - TERMS.margin_s)
            assert not forward_fault(lock, outgoing, self.fee, TERMS)
            self.second = offer(self.second, outgoing, HUB, head_s, TERMS)

    def downstream(self, preimage: bytes) -> None:
        self.second = fulfil(self.second, preimage, HUB)
        self.preimages.add(hash_of(preimage))

    def act(self, registry: Registry, head_s: int, latency_s: int) -> None:
        """What the hub does at each block: it learns from the chain, drops what ended, reveals what is due."""
        self.preimages |= set(registry.revealed)
        self.second = drop(self.second, registry.opened(self.second), registry.ended(self.second, head_s), HUB)
        for hash_ in must_reveal(self.first, frozenset(self.preimages), head_s, head_s, TERMS):
            registry.reveal(hash_, head_s + latency_s)


MOMENT = st.one_of(st.none(), st.integers(0, 450), st.integers(280, 320), st.integers(380, 420))
"""When somebody does something, in seconds from the beginning: never, at any time, or about when a lock ends."""


@settings(max_examples=400, deadline=None)
@given(
    blocks=st.lists(st.integers(1, 25), min_size=40, max_size=60),
    latency_s=st.integers(0, 25),
    fee=st.integers(0, 5),
    told_at=MOMENT,
    revealed_at=MOMENT,
    paid_at=MOMENT,
    dropped_at=MOMENT,
    cheated_at=MOMENT,
)
def test_a_hub_that_acts_at_each_block_never_loses(
    blocks: list[int],
    latency_s: int,
    fee: int,
    told_at: int | None,
    revealed_at: int | None,
    paid_at: int | None,
    dropped_at: int | None,
    cheated_at: int | None,
) -> None:
    """Bob tells, or reveals on chain, when he likes, Alice pays, drops or cheats when she likes; blocks are up to 25 s
    apart and the hub's transactions as late. In the end, as the chain settles both channels, the hub has at least what
    it gave away."""
    registry, hub, alice, head_s = Registry(), Hub(fee), offered(), HEAD
    assert alice.voucher is not None
    hub.upstream(alice.voucher, head_s, NONE_ENDED)
    bob = taken(hub.second.voucher, SECOND)
    todo = {"tell": told_at, "reveal": revealed_at, "pay": paid_at, "drop": dropped_at, "cheat": cheated_at}
    for seconds in [*blocks, *[25] * 25]:
        head_s += seconds
        registry.advance(head_s)
        hub.act(registry, head_s, latency_s)
        for what in [what for what, at in todo.items() if at is not None and HEAD + at <= head_s]:
            if what == "tell" and hub.second.lock(HASH) is not None:
                hub.downstream(PREIMAGE)
            elif what == "reveal":
                registry.reveal(HASH, head_s)
            elif what in ("pay", "drop", "cheat"):
                alice = _alice(what, alice, hub, registry, head_s)
            if what != "drop":  # she tries that again and again
                del todo[what]
    assert hub.first.voucher is not None
    # Bob shows whichever of the hub's vouchers gives more.
    given = max(each.voucher.worth(registry.opened(each)) for each in (bob, hub.second) if each.voucher is not None)
    assert hub.first.voucher.worth(registry.opened(hub.first)) >= given


def _alice(what: str, alice: Conditional, hub: Hub, registry: Registry, head_s: int) -> Conditional:
    """What she does, and what she has signed last."""
    if what == "pay" and alice.lock(HASH) is not None and HASH in hub.preimages:
        alice = fulfil(alice, PREIMAGE, ALICE)
    elif what == "drop":
        alice = drop(alice, registry.opened(alice), registry.ended(alice, head_s), ALICE)
    sent = sign_locked(FIRST.channel, 0, [], ALICE) if what == "cheat" else alice.voucher
    assert sent is not None
    try:
        hub.upstream(sent, head_s, registry.ended(hub.first, head_s))
    except LockRefused:
        assert what == "cheat" or registry.revealed
    return alice
