"""A hub that passes on locked payments between neighbours who do what they like, and crashes: it loses nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from scapp.channels.errors import PeerError
from scapp.channels.payments.book import PurseTerms
from scapp.channels.payments.events import amount_bytes
from scapp.channels.payments.locked import claims, paying, speaking, taking
from scapp.channels.payments.locked.book import LockBook
from scapp.channels.payments.locked.events import (
    LocksEvent,
    VoucherPromised,
    decode_locks_event,
    encode_locks_event,
)
from scapp.channels.payments.locked.messages import Failed, Locked, Secret
from scapp.channels.payments.locked.state import LocksState, voucher_of, wire_locks
from scapp.channels.payments.locked.terms import ChainClock, LockSettings
from scapp.channels.payments.locks import Lock, LockedVoucher, hash_of, sign_locked
from scapp.channels.routing.fees import Schedule
from scapp.channels.signing import Signer
from scapp.channels.types import ZERO_ADDRESS, ChannelId

ALICE, HUB, BOB = (Signer(bytes((number,)) * 32) for number in (1, 2, 3))
FIRST, SECOND, THIRD, FOURTH = (ChannelId(bytes([number]) * 32) for number in range(0xC1, 0xC5))
LANES = {FIRST: (ALICE, HUB, 100), THIRD: (ALICE, HUB, 70), SECOND: (HUB, BOB, 100), FOURTH: (HUB, BOB, 30)}
INCOMING, OUTGOING = (FIRST, THIRD), (SECOND, FOURTH)
HEAD, MARGIN_S, LATENCY_S, LAG_S = 1_700_000_000, 100, 20, 12
PREIMAGES = [bytes((number,)) * 32 for number in range(3)]
OWN, PRICE = 2, 20
"""The last preimage is that of an invoice of the hub's own."""
SETTINGS = LockSettings(margin_s=MARGIN_S, schedules=(Schedule(ZERO_ADDRESS, 1, 0),))


class World:
    """The hub's book and its log, what the others have signed, and the chain."""

    def __init__(self) -> None:
        self.head_s = HEAD
        self.blind = self.cut = False
        self.revealed: dict[bytes, int] = {}
        self.coming: list[tuple[int, bytes]] = []
        self.log: list[bytes] = []
        self.book = LockBook(HUB, SETTINGS)
        self.promised: list[LockedVoucher] = []
        self.alice = {channel: sign_locked(channel, 0, [], ALICE) for channel in INCOMING}
        self.number = 0
        for channel, (payer, payee, start) in LANES.items():
            terms = PurseTerms(
                channel=channel, payer=payer.address, payee=payee.address, asset=ZERO_ADDRESS, start=start
            )
            self.book.open(terms, 1_000)
        self.book.invoice(PREIMAGES[OWN], ZERO_ADDRESS, PRICE, HEAD + 10**6, "")
        self.shown = False  # has the hub told or revealed its own preimage?
        self.look()

    def stored(self) -> None:
        events: list[LocksEvent] = self.book.take()
        self.log += [encode_locks_event(event) for event in events]
        self.promised += [voucher_of(event) for event in events if isinstance(event, VoucherPromised)]
        self.speak()

    def speak(self) -> None:
        """The hub says what it has to say to Alice, who hears it while there is a link."""
        if self.cut:
            return
        said = [each for name in INCOMING for each in speaking.pending(self.book, self.book.state.lanes[name], 0)]
        self.shown |= Secret(FIRST, PREIMAGES[OWN]) in [replace(each, channel=FIRST) for each in said]

    def look(self) -> None:
        """The hub sees the newest block, and what is confirmed of the chain; or an old block, and its clock."""
        seen_s = self.head_s - LAG_S
        times = {hash_of(each): self.revealed.get(hash_of(each), 0) for each in PREIMAGES}
        shown = {name: at_s if at_s <= seen_s else 0 for name, at_s in times.items()}
        if not self.blind:
            self.book.chain = ChainClock(head_s=self.head_s, seen_s=seen_s, revealed=shown)
        self.book.now_ms = self.head_s * 1_000
        self.book.sweep()
        for lane in self.book.state.locked():
            for preimage in claims.reveals(self.book, lane):
                self.coming.append((self.head_s + LATENCY_S, hash_of(preimage)))
                self.shown |= preimage == PREIMAGES[OWN]
        self.stored()

    def wait(self, seconds: int) -> None:
        self.mine(seconds)
        self.look()

    def away(self, seconds: int) -> None:
        """Down for longer than is safe for whoever has shown a preimage, or heard one; and what it comes back to has
        ended, or lasts half a margin: all else is its own risk."""
        transits = [self.book.state.transits[name] for name in self.book.state.open_transits]
        if self.shown or any(each.preimage and each.hash != hash_of(PREIMAGES[OWN]) for each in transits):
            return
        left_s = [each.incoming.expiry_s - self.head_s - seconds for each in transits if each.incoming is not None]
        if any(0 <= each < MARGIN_S // 2 for each in left_s):
            return
        self.mine(seconds)
        self.crash()

    def mine(self, seconds: int) -> None:
        self.head_s += seconds
        for at_s, name in self.coming:
            if at_s <= self.head_s:
                self.revealed.setdefault(name, at_s)
        self.coming = [each for each in self.coming if each[0] > self.head_s]

    def crash(self) -> None:
        """What is not in the log is forgotten; the chain is out of sight until the next block."""
        state = LocksState()
        for data in self.log:
            state.next(decode_locks_event(data))
        self.book = LockBook(HUB, SETTINGS, state)
        self.blind = False
        self.book.now_ms = self.head_s * 1_000
        self.speak()

    def from_alice(self, voucher: LockedVoucher, onward: Any = ()) -> None:
        self.number += 1
        message = Locked(
            voucher.channel, self.number, amount_bytes(voucher.amount), wire_locks(voucher.locks), voucher.signature,
            onward,
        )  # fmt: skip
        try:
            taking.take(self.book, ALICE.address, message)
        except PeerError:
            return
        finally:
            self.stored()
        self.alice[voucher.channel] = voucher

    def near(self, at: int, offset_s: int) -> None:
        """Wait until about the end of what the hub has passed on, block by block."""
        transit = self.book.state.transits.get(hash_of(PREIMAGES[at]))
        leg = (transit.outgoing or transit.incoming) if transit is not None else None
        until = leg.expiry_s + offset_s if leg is not None else 0
        while self.head_s < until:
            self.wait(min(25, until - self.head_s))

    def lock(self, at: int, which: int, amount: int, ends_in: int, cut: int, ends_before: int) -> None:
        passed, name, alice = max(0, amount - cut), hash_of(PREIMAGES[at]), self.alice[INCOMING[which]]
        lock = Lock(amount, name, self.head_s + ends_in)
        hops = ((BOB.address, amount_bytes(passed), max(0, lock.expiry_s - ends_before)),) if at != OWN else ()
        locks = [each for each in alice.locks if each.hash != name] + [lock]
        self.from_alice(sign_locked(alice.channel, alice.amount, locks, ALICE), ((name, hops),))

    def drop(self, at: int, which: int, *, pays: bool) -> None:
        name, alice = hash_of(PREIMAGES[at]), self.alice[INCOMING[which]]
        gone = [each for each in alice.locks if each.hash == name]
        amount = alice.amount + (sum(each.amount for each in gone) if pays else 0)
        rest = [each for each in alice.locks if each.hash != name]
        self.from_alice(sign_locked(alice.channel, amount, rest, ALICE))

    def tell(self, at: int, which: int) -> None:
        try:
            paying.secret_told(self.book, BOB.address, OUTGOING[which], PREIMAGES[at])
        except PeerError:
            return
        finally:
            self.stored()

    def fail(self, at: int, which: int) -> None:
        try:
            name = hash_of(PREIMAGES[at])
            transit = self.book.state.transits.get(name)
            leg = transit.outgoing if transit is not None else None
            expiry_s = leg.expiry_s if leg is not None else 0
            paying.failure_told(self.book, BOB.address, Failed(OUTGOING[which], name, expiry_s, "no"))
        except PeerError:
            return
        finally:
            self.stored()

    def worth(self, voucher: LockedVoucher) -> int:
        """On chain, in the end."""
        opened = {each.hash for each in voucher.locks if 0 < self.revealed.get(each.hash, 0) <= each.expiry_s}
        return voucher.worth(frozenset(opened))


AT = st.integers(0, 2)
LANE = st.sampled_from([0, 0, 1])
STEP = st.one_of(
    st.tuples(
        st.just("lock"), AT, LANE, st.integers(0, 60), st.sampled_from([300, 200, 199, 450, 900, 901]),
        st.integers(0, 2), st.sampled_from([100, 0, 50, 99, 150]),
    ),
    st.tuples(st.just("near"), AT, st.integers(-30, 30) | st.integers(95, 130)),
    st.tuples(st.sampled_from(["tell", "reveal", "pay", "drop", "fail", "crash"]), AT, LANE),
    st.tuples(st.just("tell"), AT, LANE),
    st.tuples(st.sampled_from(["blind", "sees", "cut", "link"])),
    st.tuples(st.just("wait"), st.integers(1, 25)),
    st.tuples(st.just("away"), st.sampled_from([100, 200, 290, 310])),
)  # fmt: skip


@given(st.lists(STEP, min_size=5, max_size=30))
def test_a_hub_has_at_least_what_it_gives(steps: list[tuple[Any, ...]]) -> None:
    """Whatever Alice locks, pays, drops, and Bob tells or reveals, in any of their lanes, at any moment, with the hub's
    transactions and its view of the chain behind, or of an old block: in the end its best vouchers are worth what any
    that it has signed are worth to Bob, and whoever has its receipt has paid its own invoice."""
    world = World()
    for name, *values in steps:
        if name == "lock":
            world.lock(*values)
        elif name in ("wait", "near", "away"):
            getattr(world, name)(*values)
        elif name in ("tell", "reveal") and values[0] == OWN and not world.shown:
            continue  # nobody else knows it
        elif name == "reveal":
            world.coming.append((world.head_s + 1, hash_of(PREIMAGES[values[0]])))
        elif name == "crash":
            world.crash()
        elif name in ("blind", "sees"):
            world.blind = name == "blind" and world.book.chain.head_s > 0
        elif name in ("cut", "link"):
            world.cut = name == "cut"
            world.speak()
        elif name in ("pay", "drop"):
            world.drop(*values, pays=name == "pay")
        else:
            getattr(world, name)(*values)
    world.blind = world.cut = False
    for _ in range(50):
        world.wait(25)
    held = [world.book.state.lanes[channel].voucher for channel in INCOMING]
    given = [
        max((world.worth(each) for each in world.promised if each.channel == channel), default=0)
        for channel in OUTGOING
    ]
    assert sum(world.worth(each) for each in held if each is not None) >= sum(given) + PRICE * world.shown
    assert all(each.most <= LANES[each.channel][2] for each in world.promised)


def test_the_property_sees_payments() -> None:
    """An ordinary one goes through in this world, or the test above proves nothing."""
    world = World()
    world.lock(0, 0, 31, 300, 1, 100)
    world.tell(0, 1)
    assert [voucher.amount for voucher in world.promised] == [0, 30]
    world.drop(0, 0, pays=False)
    for _ in range(20):
        world.wait(25)
    assert world.revealed
    held = world.book.state.lanes[FIRST].voucher
    assert held is not None
    assert world.worth(held) == 31
