"""The announcements that count: the newest valid one of each node, bounded, each peer's share of the room fair.

What is announced here is believed by nobody: a ledger counts when both ends name it, so liars can only invent ledgers
among themselves. What they could do is to fill the table; hence shares by the peer that brought a statement.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping

import msgspec

from scapp.channels.errors import PeerError
from scapp.channels.routing.allowance import Allowance
from scapp.channels.routing.paths import Graph, View
from scapp.channels.routing.statements import (
    Signed,
    Statement,
    check_signature,
    least_room,
    schedule_of,
)
from scapp.channels.types import Address, Hash

LIFETIME_MAX_MS = 2 * 3_600_000
CLOCK_SKEW_MS = 300_000
ORIGIN_BURST, ORIGIN_INTERVAL_MS = 4, 5_000
WEIGHT_MAX = 131_072  # some 25 MB
_BYTES_PER_UNIT = 64
NODES_MAX = 16_384


class AnnouncementRefused(PeerError):
    """A statement that is out of time, comes too often, or has no room; nothing changed."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A statement that counts. `via`: the peer that brought it; `allowance`: how soon its origin may speak again;
    `serial` grows with each statement taken in."""

    signed: Signed
    origin: Address
    sequence: int
    expires_ms: int
    via: Address
    allowance: Allowance
    serial: int
    weight: int


class Table:
    """`me` is this node: its own statement never makes room for others. `weight_max` is in units, see `_weight`."""

    def __init__(self, me: Address, network: Hash, *, weight_max: int = WEIGHT_MAX, nodes_max: int = NODES_MAX) -> None:
        self._me = me
        self._network = network
        self._weight_max = weight_max
        self._nodes_max = nodes_max
        self._entries: dict[Address, Entry] = {}  # by serial, ascending
        self._views: dict[Address, View] = {}
        self._order: list[Address] = []  # origins, sorted
        self._shares: dict[Address, dict[Address, int]] = {}  # by the peer that brought it: origin to weight, as taken
        self._weights: dict[Address, int] = {}  # the sums of those
        self.serial = 0

    @property
    def graph(self) -> Graph:
        """What is announced, to be searched; some of it may have expired."""
        return self._views

    def get(self, origin: Address) -> Entry | None:
        return self._entries.get(origin)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def weight(self) -> int:
        return sum(self._weights.values())

    def hear(self, peer: Address, signed: Signed, statement: Statement, now_ms: int) -> bool:
        """Take a statement that `peer` sent; False if it is known or older. Raises PeerError; cheap checks first."""
        origin = Address(statement.origin)
        before = self._entries.get(origin)
        if before is not None and statement.sequence <= before.sequence:
            return False
        name = f"announcement {statement.sequence} of 0x{origin.hex()}"
        if not now_ms < statement.expires_ms <= now_ms + LIFETIME_MAX_MS + CLOCK_SKEW_MS:
            raise AnnouncementRefused(f"{name} ends at {statement.expires_ms} ms; it is {now_ms} ms")
        wait_ms = before.allowance.wait_ms(now_ms) if before is not None else 0
        if wait_ms:
            raise AnnouncementRefused(f"{name} comes too soon after those before, by {wait_ms} ms")
        check_signature(signed, statement, self._network)
        making_room = self._in_the_way(peer, origin, _weight(signed, statement), name)
        for other in making_room:
            self.drop(other)
        self.put(peer, signed, statement, now_ms)
        return True

    def put(self, peer: Address, signed: Signed, statement: Statement, now_ms: int) -> None:
        """Store a statement that was checked, or is this node's own."""
        origin = Address(statement.origin)
        before = self._entries.get(origin)
        allowance = before.allowance if before is not None else Allowance(ORIGIN_BURST, ORIGIN_INTERVAL_MS)
        allowance.take(now_ms)
        self.drop(origin)
        self.serial += 1
        weight = _weight(signed, statement)
        self._entries[origin] = Entry(
            signed, origin, statement.sequence, statement.expires_ms, peer, allowance, self.serial, weight
        )
        self._views[origin] = _view(statement)
        insort(self._order, origin)
        if peer != self._me:
            self._shares.setdefault(peer, {})[origin] = weight
            self._weights[peer] = self._weights.get(peer, 0) + weight

    def drop(self, origin: Address) -> None:
        """Forget a node, if it is known."""
        entry = self._entries.pop(origin, None)
        if entry is None:
            return
        del self._views[origin], self._order[bisect_left(self._order, origin)]
        share = self._shares.get(entry.via)
        if share is not None and share.pop(origin, None) is not None:
            self._weights[entry.via] -= entry.weight
            if not share:
                del self._shares[entry.via], self._weights[entry.via]

    def expire(self, now_ms: int) -> None:
        """Forget what has ended."""
        for origin in [entry.origin for entry in self._entries.values() if entry.expires_ms <= now_ms]:
            self.drop(origin)

    def since(self, serial: int) -> list[Entry]:
        """The statements taken in after that serial, in their order."""
        found = []
        for entry in reversed(self._entries.values()):
            if entry.serial <= serial:
                break
            found.append(entry)
        return found[::-1]

    def known(self, first: Address, entries_max: int) -> list[Entry]:
        """What counts of the origins from `first` on, in their order, as many as asked for."""
        place = bisect_left(self._order, first)
        return [self._entries[origin] for origin in self._order[place : place + entries_max]]

    def lacking(self, known: Mapping[bytes, int], first: Address, last: Address) -> Iterator[Entry]:
        """What somebody lacks who knows those of the origins `first` to `last`."""
        for origin in self._order[bisect_left(self._order, first) : bisect_right(self._order, last)]:
            entry = self._entries[origin]
            if entry.sequence > known.get(origin, -1):
                yield entry

    def _in_the_way(self, peer: Address, origin: Address, weight: int, name: str) -> list[Address]:
        """What must go for a statement of that weight: the oldest of the peers that fill more of the table than its own
        would then. Raises AnnouncementRefused when that is not enough."""
        before = self._entries.get(origin)
        too_heavy = self.weight + weight - self._weight_max - (before.weight if before is not None else 0)
        too_many = len(self._entries) + 1 - self._nodes_max - (1 if before is not None else 0)
        others = dict(self._weights)
        own = others.pop(peer, 0) + weight - (before.weight if before is not None and before.via == peer else 0)
        oldest = {other: iter(self._shares[other].items()) for other in others}
        leaving: list[Address] = []
        while too_heavy > 0 or too_many > 0:
            heaviest = max(others, key=others.__getitem__, default=None)
            if heaviest is None or others[heaviest] <= own:
                raise AnnouncementRefused(f"{name} finds no room: 0x{peer.hex()} has its share of {self._weight_max}")
            leaves = next(oldest[heaviest], None)
            if leaves is None:
                del others[heaviest]
            elif leaves[0] not in (origin, heaviest):  # what a peer says of itself stays
                leaving.append(leaves[0])
                others[heaviest] -= leaves[1]
                too_heavy -= leaves[1]
                too_many -= 1
        return leaving


def _weight(signed: Signed, statement: Statement) -> int:
    """A unit for the node, one for each balance, one for 64 bytes: what is not understood is kept as well."""
    return 1 + sum(len(ledger.rooms) for ledger in statement.ledgers) + len(signed.body) // _BYTES_PER_UNIT


def _view(statement: Statement) -> View:
    rooms: dict[Address, dict[Address, tuple[int, int]]] = {}
    for ledger in statement.ledgers:
        for room in ledger.rooms:
            least = least_room(room.bits)
            most = (1 << room.bits) - 1
            rooms.setdefault(Address(room.asset), {})[Address(ledger.peer)] = (least, most)
    return View(
        tuple(map(schedule_of, statement.terms)),
        statement.duration_min_s,
        statement.duration_max_s,
        statement.expires_ms,
        rooms,
    )
