"""All locked payments of a node as a fold of their events. Nothing here decides anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from scapp.channels.errors import CorruptionError
from scapp.channels.payments.events import amount_bytes, amount_of
from scapp.channels.payments.locked.events import (
    InvoiceMade,
    LaneClosed,
    LaneOpened,
    LaneRecovered,
    LaneSettled,
    LockArrived,
    LockFailed,
    LockOver,
    LockPassed,
    LocksEvent,
    LocksForgotten,
    LocksRestored,
    PaymentBegun,
    SecretLearned,
    VoucherPromised,
    VoucherTaken,
    WireHop,
    WireLock,
)
from scapp.channels.payments.locked.records import FORGOTTEN, Hop, Invoiced, Lane, Leg, Transit
from scapp.channels.payments.locks import Lock, LockedVoucher
from scapp.channels.types import Address, ChannelId


class LocksState:
    """Mutable; its records are values. `version` counts events. `open_transits` names those that are
    not over, `live_lanes` those not settled, `locked_lanes` those among them with locks: what time does costs nothing
    for the rest."""

    def __init__(self) -> None:
        self.lanes: dict[ChannelId, Lane] = {}
        self.invoices: dict[bytes, Invoiced] = {}
        self.transits: dict[bytes, Transit] = {}
        self.live_lanes: dict[ChannelId, None] = {}
        self.locked_lanes: dict[ChannelId, None] = {}
        self.open_transits: dict[bytes, None] = {}
        self._by_party: defaultdict[bytes, dict[ChannelId, None]] = defaultdict(dict)
        self.version = 0

    @classmethod
    def of(
        cls, lanes: Iterable[Lane], invoices: Iterable[Invoiced], transits: Iterable[Transit], version: int
    ) -> LocksState:
        """As a snapshot has it."""
        state = cls()
        for lane in lanes:
            state._put(lane)
        for transit in transits:
            state._set(transit)
        state.invoices = {each.hash: each for each in invoices}
        state.version = version
        return state

    def next(self, event: LocksEvent) -> LocksState:
        """Fold a stored event. Raises CorruptionError when it cannot follow."""
        try:
            self.fold(event)
        except (LookupError, ValueError, TypeError) as error:
            name = type(event).__name__
            raise CorruptionError(f"locked payments: event {self.version}, {name}, cannot be: {error!r}") from error
        return self

    def fold(self, event: LocksEvent) -> None:
        match event:
            case LaneOpened():
                if event.channel in self.lanes:
                    raise CorruptionError(f"payment channel 0x{event.channel.hex()} is opened a second time")
                self._put(_opened(event))
            case LaneClosed(channel, total):
                self._put(replace(self._lane(channel), phase="closed", final=amount_of(total)))
            case LaneSettled(channel):
                self._put(replace(self._lane(channel), phase="settled", token=b""))
            case InvoiceMade():
                self.invoices[event.hash] = Invoiced(
                    event.hash, event.preimage, Address(event.asset), amount_of(event.amount), event.expires_s,
                    event.memo, event.at_ms,
                )  # fmt: skip
            case PaymentBegun(hash=name, invoice=invoice, hops=hops, at_ms=at_ms):
                self._set(Transit(hash=name, begun_ms=at_ms, hops=hops_of(hops), invoice=invoice))
            case LockArrived():
                self._arrived(event)
            case LockPassed(hash=name, channel=channel):
                self._set(replace(self.transits[name], outgoing=self._leg(channel, name)))
            case VoucherPromised() | VoucherTaken():
                lane = self._lane(event.channel)
                self._put(replace(lane, number=event.number, voucher=voucher_of(event)))
            case SecretLearned(hash=name, preimage=preimage):
                self._set(replace(self.transits[name], preimage=preimage))
            case LockFailed(hash=name, reason=reason):
                self._set(replace(self.transits[name], fault=reason))
            case LockOver():
                self._over(event)
            case LocksRestored(token=token):
                for channel in tuple(self.live_lanes):
                    self._put(replace(self.lanes[channel], token=token))
                for transit in [self.transits[name] for name in self.open_transits]:
                    if transit.left_alone:  # as far as the backup knows
                        self._set(replace(transit, fault=FORGOTTEN))
            case LaneRecovered(channel):
                self._put(replace(self._lane(channel), token=b""))
            case LocksForgotten(lanes, hashes):
                self._forget(lanes, hashes)
        self.version += 1

    def locked(self) -> list[Lane]:
        """Lanes with locks that are not settled."""
        return [self.lanes[channel] for channel in self.locked_lanes]

    def with_peer(self, peer: Address) -> Iterable[Lane]:
        """Lanes with a peer that are not settled."""
        return [self.lanes[channel] for channel in self._by_party.get(peer, ())]

    def _lane(self, channel: bytes) -> Lane:
        return self.lanes[ChannelId(channel)]

    def _put(self, lane: Lane) -> None:
        self.lanes[lane.channel] = lane
        for index in (self.live_lanes, self._by_party[lane.payer], self._by_party[lane.payee]):
            if lane.phase == "settled":
                index.pop(lane.channel, None)
            else:
                index[lane.channel] = None
        for party in (lane.payer, lane.payee):
            if not self._by_party[party]:
                del self._by_party[party]
        if lane.locks and lane.phase != "settled":
            self.locked_lanes[lane.channel] = None
        else:
            self.locked_lanes.pop(lane.channel, None)

    def _set(self, transit: Transit) -> None:
        self.transits[transit.hash] = transit
        if transit.over:
            self.open_transits.pop(transit.hash, None)
        else:
            self.open_transits[transit.hash] = None

    def _forget(self, lanes: Iterable[bytes], hashes: Iterable[bytes]) -> None:
        for channel in lanes:
            if self._lane(channel).phase != "settled":
                raise CorruptionError(f"payment channel 0x{channel.hex()} is forgotten, and not settled")
            del self.lanes[ChannelId(channel)]
        for name in hashes:
            transit, invoiced = self.transits.pop(name, None), self.invoices.pop(name, None)
            if transit is None and invoiced is None:
                raise CorruptionError(f"nothing is known of the hash 0x{name.hex()}, which is forgotten")
            if transit is not None and not transit.over:
                raise CorruptionError(f"the payment 0x{name.hex()} is forgotten, and not over")

    def _leg(self, channel: bytes, name: bytes) -> Leg:
        lane = self._lane(channel)
        lock = lane.known.lock(name)
        if lock is None:
            raise CorruptionError(f"payment channel 0x{channel.hex()} has no lock on 0x{name.hex()}")
        return Leg(lane.channel, lock.amount, lock.expiry_s)

    def _arrived(self, event: LockArrived) -> None:
        """A restored hub may hear first of the lock that it has passed on."""
        leg, hops = self._leg(event.channel, event.hash), hops_of(event.hops)
        known = self.transits.get(event.hash)
        if known is not None and known.incoming is None and not known.over:
            self._set(replace(known, incoming=leg, hops=hops))
        else:
            self._set(Transit(hash=event.hash, begun_ms=event.at_ms, hops=hops, incoming=leg))

    def _over(self, event: LockOver) -> None:
        transit = self.transits[event.hash]
        if transit.incoming is not None and transit.incoming.channel == event.channel:
            transit = replace(transit, incoming=replace(transit.incoming, fate=event.fate))
        elif transit.outgoing is not None and transit.outgoing.channel == event.channel:
            transit = replace(transit, outgoing=replace(transit.outgoing, fate=event.fate))
        self._set(transit)


def _opened(event: LaneOpened) -> Lane:
    return Lane(
        channel=ChannelId(event.channel),
        payer=Address(event.payer),
        payee=Address(event.payee),
        asset=Address(event.asset),
        start=amount_of(event.start),
        challenge_duration_s=event.challenge_duration_s,
        opened_ms=event.at_ms,
        token=event.token,
    )


def voucher_of(event: VoucherPromised | VoucherTaken) -> LockedVoucher:
    """The voucher that an event holds."""
    return LockedVoucher(ChannelId(event.channel), amount_of(event.amount), locks_of(event.locks), event.signature)


def locks_of(locks: Sequence[WireLock]) -> tuple[Lock, ...]:
    """From their stored form."""
    return tuple(Lock(amount_of(amount), name, expiry_s) for amount, name, expiry_s in locks)


def wire_locks(locks: Sequence[Lock]) -> tuple[WireLock, ...]:
    """Inverse of `locks_of`."""
    return tuple((amount_bytes(lock.amount), lock.hash, lock.expiry_s) for lock in locks)


def hops_of(hops: Sequence[WireHop]) -> tuple[Hop, ...]:
    """From their stored form."""
    return tuple(Hop(Address(peer), amount_of(amount), expiry_s) for peer, amount, expiry_s in hops)


def wire_hops(hops: Sequence[Hop]) -> tuple[WireHop, ...]:
    """Inverse of `hops_of`."""
    return tuple((hop.peer, amount_bytes(hop.amount), hop.expiry_s) for hop in hops)
