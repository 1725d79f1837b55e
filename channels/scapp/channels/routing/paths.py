"""The cheapest ways from one node to another over announced ledgers: pure, by Dijkstra's algorithm from the far end."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import msgspec

from scapp.channels.routing.fees import Schedule, Stake, quote
from scapp.channels.types import Address

HUBS_MAX = 8
ALWAYS_FRESH = 2**63 - 1


class View(msgspec.Struct, frozen=True, gc=False):
    """What a node announces, ready to be searched. `rooms`: per neighbour and asset the least and the most that the
    node can put into a guarantee there."""

    schedules: tuple[Schedule, ...]
    duration_min_s: int
    duration_max_s: int
    expires_ms: int
    rooms: Mapping[Address, Mapping[Address, tuple[int, int]]]


Graph = Mapping[Address, View]
"""By node. A ledger counts only if both of its ends name it."""

OwnLedgers = Mapping[Address, Mapping[Address, tuple[int, int]]]
"""Per neighbour and asset this node's balance and the neighbour's, exact."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A way for which channel? `stakes`: the first asset is the one that fees are paid in. `avoid`: hubs that are left
    out."""

    me: Address
    to: Address
    stakes: tuple[Stake, ...]
    challenge_duration_s: int
    now_ms: int
    fee_max: int
    hubs_max: int = 3
    routes_max: int = 3
    avoid: frozenset[Address] = frozenset()


class Route(msgspec.Struct, frozen=True, gc=False):
    """Hubs from this node's side to the other, and what each is paid. `sure`: all hubs announce that they have enough;
    else one may have, for what it announces is coarse. `expires_ms`: when the oldest of the announcements ends."""

    hubs: tuple[Address, ...]
    fees: tuple[int, ...]
    sure: bool
    expires_ms: int

    @property
    def fee(self) -> int:
        """What all hubs are paid together."""
        return sum(self.fees)


def find_routes(graph: Graph, own: OwnLedgers, query: Query) -> list[Route]:
    """At most `routes_max` routes: sure ones first, then by fee, number of hubs, freshness. The first is the best there
    is; the others share no hub with it and each other where that can be."""
    raise NotImplementedError
