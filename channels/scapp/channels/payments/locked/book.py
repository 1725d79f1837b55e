"""The locked payments of a node: what is decided, and what follows is to be said. Pure: `runner.py` stores, then sends.

A decider checks everything first, then folds its facts at once, so that the next one builds on them; the shell stores
them in that order and lets nothing out before. Deciders raise LocalError for what a caller asked and PeerError for
what a peer sent; then nothing has changed. What the payer decides stands in `paying.py`, the payee in `taking.py`.
"""

from __future__ import annotations

from scapp.channels.errors import LocalError, PeerError
from scapp.channels.payments.book import PurseTerms
from scapp.channels.payments.events import amount_bytes
from scapp.channels.payments.hops import Conditional, drop, time_fault
from scapp.channels.payments.locked.events import (
    Fate,
    InvoiceMade,
    LaneClosed,
    LaneOpened,
    LaneRecovered,
    LaneSettled,
    LockOver,
    LocksEvent,
    LocksForgotten,
    VoucherPromised,
)
from scapp.channels.payments.locked.invoice import MEMO_MAX
from scapp.channels.payments.locked.records import Lane
from scapp.channels.payments.locked.state import LocksState, wire_locks
from scapp.channels.payments.locked.terms import ChainClock, LockSettings
from scapp.channels.payments.locks import Lock, LockedVoucher, hash_of
from scapp.channels.payments.vouchers import VoucherSigner
from scapp.channels.signing import Verifier
from scapp.channels.types import U256_MAX, Address, ChannelId, money

CHAIN_UNSEEN = "this node has not seen its chain yet"


class LockBook:
    """`me` is the node's address, `signer` signs as that. `draining`: lanes that this node wants to end; they get no
    further lock. `peer_recovers`: lanes whose other party has said, while this node recovers, that it was restored as
    well; `held_refused`: why what it told last of a lane that recovers was not taken. `reveal_cost`: what a
    reveal on chain costs now, in wei."""

    def __init__(self, signer: VoucherSigner, settings: LockSettings, state: LocksState | None = None) -> None:
        self.me = signer.address
        self.signer = signer
        self.settings = settings
        self.state = state if state is not None else LocksState()
        self.now_ms = 0
        self.chain = ChainClock()
        self.reveal_cost = 0
        self.draining: set[ChannelId] = set()
        self.peer_recovers: set[ChannelId] = set()
        self.held_refused: dict[ChannelId, str] = {}
        self._fresh: list[LocksEvent] = []
        self._verifiers: dict[Address, Verifier] = {}

    def take(self) -> list[LocksEvent]:
        """What was decided since this was last asked, to be stored."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def do(self, event: LocksEvent) -> None:
        """Decide a fact."""
        self.state.fold(event)
        self._fresh.append(event)

    def verifier(self, payer: Address) -> Verifier:
        """Kept, because to find a payer's key costs as much as a signature."""
        verifier = self._verifiers.get(payer)
        if verifier is None:
            verifier = self._verifiers[payer] = Verifier(payer)
        return verifier

    @property
    def time_s(self) -> int:
        """What the next block's timestamp may be: the newest block's, or this node's clock where that is ahead."""
        return max(self.chain.head_s, self.now_ms // 1_000)

    # Lanes

    def lane(self, channel: bytes) -> Lane:
        """Raises LocalError for a channel that is none."""
        lane = self.state.lanes.get(ChannelId(channel))
        if lane is None:
            raise LocalError(f"0x{channel.hex()} is no payment channel of this node that takes locks")
        return lane

    def shared(self, peer: Address, channel: bytes) -> Lane:
        """A lane with this peer. Raises PeerError."""
        lane = self.state.lanes.get(ChannelId(channel))
        if lane is None or peer != lane.peer_of(self.me):
            raise PeerError(f"no payment channel 0x{channel.hex()} that takes locks with this peer")
        return lane

    def open(self, terms: PurseTerms, challenge_duration_s: int, token: bytes = b"") -> None:
        """The channel runs. Nothing happens when it is open on these terms. Raises LocalError."""
        known = self.state.lanes.get(terms.channel)
        if known is not None:
            if (known.payer, known.payee, known.asset, known.start) != (
                terms.payer, terms.payee, terms.asset, terms.start,
            ):  # fmt: skip
                raise LocalError(f"payment channel 0x{terms.channel.hex()} is open on other terms")
            return
        if self.me not in (terms.payer, terms.payee) or terms.payer == terms.payee:
            raise LocalError(f"0x{self.me.hex()} is not one of two different parties, the payer or the payee")
        start = amount_bytes(terms.start)
        self.do(
            LaneOpened(
                terms.channel, terms.payer, terms.payee, terms.asset, start, challenge_duration_s, token, self.now_ms
            )
        )

    def pending(self, lane: Lane) -> list[Lock]:
        """Locks of its newest voucher that may still be opened, or were."""
        return [lock for lock in lane.locks if self.fate(lane, lock) != "ended"]

    def fate(self, lane: Lane, lock: Lock) -> Fate | None:
        """What became of a lock of the lane, as far as it is known."""
        transit = self.state.transits.get(lock.hash)
        for leg in (transit.incoming, transit.outgoing) if transit is not None else ():
            if leg is not None and leg.is_of(lane.channel, lock) and leg.fate is not None:
                return leg.fate
        return self.chain.fate(lock)

    def may_open(self, lock: Lock) -> bool:
        """Can the payee still count on the lock? What its payer is paid for it lasts a margin longer and no more, so
        nothing is paid beyond the end, be the chain slow to confirm that, or out of sight."""
        return self.chain.head_s > 0 and self.time_s <= lock.expiry_s

    def close(self, channel: ChannelId, total: int | None) -> None:
        """Before a final state that gives the payee `total` (None: what is paid) is signed. Raises LocalError while
        locks may still open, and for a total that loses what was promised; the lane gets no further lock meanwhile."""
        lane = self.lane(channel)
        final = lane.paid if total is None else total
        if lane.phase == "closed" and self.me == lane.payee:
            self._check_due(lane, final)
            return
        if lane.phase != "open":
            if lane.final == final:
                return
            raise LocalError(f"payment channel 0x{channel.hex()} is {lane.phase} with {lane.final} to the payee")
        if lane.token:
            raise LocalError("this node was restored from a backup; it first asks the other for its newest voucher")
        self.draining.add(channel)
        open_ = self.pending(lane)
        if open_:
            last_s = max(lock.expiry_s for lock in open_)
            raise LocalError(f"{len(open_)} locks are open in this payment channel, until {last_s} at the latest")
        if self.me == lane.payee and not lane.paid <= final <= lane.start:
            raise LocalError(f"a final state with {final} to the payee, who holds a voucher for {lane.paid}")
        if self.me == lane.payer and final != lane.paid:
            raise LocalError(f"a final state with {final} to the payee, who was promised {lane.paid}")
        self.do(LaneClosed(channel, amount_bytes(final), self.now_ms))

    def _check_due(self, lane: Lane, final: int) -> None:
        """A payee whose lane takes no voucher any more signs a final state only once all locks are over, with what was
        opened on chain: until then its vouchers are worth more there."""
        due = lane.paid
        for lock in lane.locks:
            fate = self.fate(lane, lock)
            if fate is None:
                raise LocalError(f"a lock is open in this payment channel, until {lock.expiry_s} at the latest")
            due += lock.amount if fate != "ended" else 0
        due = max(due, lane.final or 0)
        if not due <= final <= lane.start:
            raise LocalError(f"a final state with {final} to the payee, to whom {due} is due")

    def end_on_chain(self, channel: ChannelId) -> None:
        """The channel is being settled on chain: nothing is promised or taken in it any more. Its locks still open."""
        lane = self.lane(channel)
        if lane.phase == "open":
            self.do(LaneClosed(channel, amount_bytes(lane.paid), self.now_ms))

    def settle(self, channel: ChannelId) -> None:
        """The channel is gone for good."""
        if self.lane(channel).phase != "settled":
            self.do(LaneSettled(channel, self.now_ms))

    def forget(self, fact: LocksForgotten) -> None:
        """Of what `forgetting.py` has found."""
        payers = {self.lane(channel).payer for channel in fact.lanes}
        self.do(fact)
        for channels in (self.draining, self.peer_recovers):
            channels.difference_update(map(ChannelId, fact.lanes))
        for channel in fact.lanes:
            self.held_refused.pop(ChannelId(channel), None)
        for payer in payers:
            if not self.state.with_peer(payer):
                self._verifiers.pop(payer, None)

    def recovered(self, channel: ChannelId, *, by_operator: bool) -> None:
        """A restored lane goes on. Raises LocalError when it does not recover."""
        if not self.lane(channel).token:
            raise LocalError(f"payment channel 0x{channel.hex()} does not recover from a restore")
        self.held_refused.pop(channel, None)
        self.do(LaneRecovered(channel, by_operator, self.now_ms))

    def lane_to(self, peer: Address, asset: Address, amount: int, *, own: bool) -> Lane | str:
        """The lane in which this node locks `amount` for a peer: of those with a place for one more, the one with
        the least room that fits; or why none."""
        lanes = [
            lane
            for lane in self.state.with_peer(peer)
            if lane.payer == self.me and lane.asset == asset and lane.phase == "open"
            and not lane.token and lane.channel not in self.draining
        ]  # fmt: skip
        if not lanes:
            return f"no payment channel that takes locks is open to 0x{peer.hex()} in that asset"
        fits = [lane for lane in lanes if lane.known.free >= amount]
        if not fits:
            most = max(lane.known.free for lane in lanes)
            return f"not enough capacity: {money(most, asset)} left in the payment channels to 0x{peer.hex()}"
        places = [lane for lane in fits if len(lane.locks) < self.settings.locks_max]
        if not places:
            return f"{len(fits[0].locks)} locks stand in that payment channel already"
        lane = min(places, key=lambda lane: lane.known.free)
        limit = self.settings.most(asset, own=own)
        locked = sum(lock.amount for each in lanes for lock in each.locks)
        if limit is not None and locked + amount > limit:
            much, allowed = money(locked + amount, asset, named=True), money(limit, asset)
            return f"{much} would be locked for 0x{peer.hex()}; this node allows {allowed}"
        return lane

    def time_fault(self, lane: Lane, lock: Lock, least_s: int | None = None) -> str:
        """As `hops.time_fault`, by what this node knows of the time."""
        if not self.chain.head_s:
            return CHAIN_UNSEEN
        return time_fault(lock, self.chain.head_s, self.time_s, self.settings.of(lane), least_s)

    def promise(self, lane: Lane, known: Conditional) -> None:
        """Store the voucher that `hops` made for a lane of which this node is the payer."""
        assert known.voucher is not None
        self.recall(lane, lane.number + 1, known.voucher)

    def recall(self, lane: Lane, number: int, voucher: LockedVoucher) -> None:
        """Store a voucher that this node has signed and forgotten."""
        amount, locks = amount_bytes(voucher.amount), wire_locks(voucher.locks)
        self.do(VoucherPromised(lane.channel, number, amount, locks, voucher.signature, self.now_ms))

    def over(self, lane: Lane, lock: Lock, fate: Fate) -> None:
        """What became of a lock, unless that is known."""
        transit = self.state.transits.get(lock.hash)
        for leg in (transit.incoming, transit.outgoing) if transit is not None else ():
            if leg is not None and leg.is_of(lane.channel, lock) and leg.fate is None:
                self.do(LockOver(lock.hash, lane.channel, fate, self.now_ms))

    # Invoices

    def invoice(self, preimage: bytes, asset: Address, amount: int, expires_s: int, memo: str) -> bytes:
        """Be paid for a fresh preimage (32 random bytes); its hash. Raises LocalError."""
        name = hash_of(preimage)
        if not 0 < amount <= U256_MAX:
            raise LocalError(f"an invoice over {amount}; allowed are 1 to 2^256-1")
        if expires_s * 1_000 <= self.now_ms:
            raise LocalError(f"an invoice that expired at {expires_s}")
        if len(memo.encode()) > MEMO_MAX:
            raise LocalError(f"a memo of {len(memo.encode())} bytes; allowed are {MEMO_MAX}")
        if len(preimage) != 32 or name in self.state.invoices or name in self.state.transits:
            raise LocalError("an invoice needs a preimage of 32 bytes that was never used")
        self.do(InvoiceMade(name, preimage, asset, amount_bytes(amount), expires_s, memo, self.now_ms))
        return name

    # Time

    def sweep(self) -> None:
        """What follows from the chain as it is known now: locks opened there are paid, those that ended are dropped."""
        for name in tuple(self.state.open_transits):
            transit = self.state.transits[name]
            for leg in (transit.incoming, transit.outgoing):
                if leg is None or leg.fate is not None:
                    continue
                fate = self.chain.fate(Lock(leg.amount, name, leg.expiry_s))
                if fate is not None:
                    self.do(LockOver(name, leg.channel, fate, self.now_ms))
        for lane in self.state.locked():
            if lane.payer == self.me and lane.phase == "open" and not lane.token:
                self._drop(lane)

    def _drop(self, lane: Lane) -> None:
        fates = {lock.hash: self.fate(lane, lock) for lock in lane.locks}
        opened = frozenset(name for name, fate in fates.items() if fate == "opened")
        ended = frozenset(name for name, fate in fates.items() if fate == "ended")
        known = drop(lane.known, opened, ended, self.signer)
        if known.voucher is not lane.voucher:
            self.promise(lane, known)

    def asked_of_chain(self) -> list[bytes]:
        """Hashes whose revelation matters to this node now."""
        names = dict.fromkeys(self.state.open_transits)
        for lane in self.state.locked():
            names.update(dict.fromkeys(lock.hash for lock in lane.locks))
        return list(names)
