"""The cheapest ways from one node to another over announced ledgers: pure, by Dijkstra's algorithm from the far end."""

from __future__ import annotations

import heapq
from collections.abc import Container, Mapping, Sequence
from itertools import count, pairwise
from typing import NamedTuple

import msgspec

from scapp.channels.routing.fees import Schedule, Stake, quote
from scapp.channels.types import Address

HUBS_SEARCHED_MAX = 5  # each is one more who must be there for every step, and one more signature of all
HUBS_USUAL = 3
ALWAYS_FRESH = 2**63 - 1
_FAR = 2
_NOTHING = (-1, -1)
_NO_ROOMS: dict[Address, tuple[int, int]] = {}


Rooms = Mapping[Address, tuple[int, int]]
"""Of one asset, by neighbour."""


class View(msgspec.Struct, frozen=True, gc=False):
    """What a node announces, ready to be searched. `rooms`: per asset and neighbour the least and the most that the
    node can put into a guarantee there."""

    schedules: tuple[Schedule, ...]
    duration_min_s: int
    duration_max_s: int
    expires_ms: int
    rooms: Mapping[Address, Rooms]


Graph = Mapping[Address, View]
"""By node. A ledger counts only if both of its ends name it."""

OwnLedgers = Mapping[Address, Rooms]
"""Per asset and neighbour this node's balance and the neighbour's, exact."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A way for which channel? `stakes`: the first asset is the one that fees are paid in. `avoid`: hubs that are left
    out."""

    me: Address
    to: Address
    stakes: tuple[Stake, ...]
    challenge_duration_s: int
    now_ms: int
    fee_max: int
    hubs_max: int = HUBS_USUAL
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
    if query.to == query.me or not query.stakes:
        return []
    routes = _Search(graph, own, query, hopeful=False).several()
    if len(routes) < query.routes_max:
        known = {route.hubs for route in routes}
        others = _Search(graph, own, query, hopeful=True).several(routes)
        routes += [route for route in others if route.hubs not in known]
    routes.sort(key=lambda route: (not route.sure, route.fee, len(route.hubs), -route.expires_ms))
    return routes


_Label = tuple[int, int, int]
"""Of a way on from a node: fee, hubs, minus the time when the oldest of its announcements ends. Less is better."""


class _Step(NamedTuple):
    """A hub on the way that is being built, what it is paid, and the rest of the way to the far end."""

    hub: Address
    fee: int
    rest: _Step | None


class _Hub(NamedTuple):
    """A hub as far as one channel is concerned: its fee, minus its announcement's end, its rooms by neighbour."""

    charge: int
    stale: int
    rooms: Rooms


class _Neighbour(NamedTuple):
    """Who can stand left in a ledger, and how much in fees it can put in beside its part of the channel."""

    left: Address
    room: int
    charge: int
    stale: int


class _Search:
    """One question to one graph. `hopeful`: an announced room stands for the most that it can mean."""

    def __init__(self, graph: Graph, own: OwnLedgers, query: Query, *, hopeful: bool) -> None:
        self._graph = graph
        self._own = own
        self._query = query
        self._end = int(hopeful)
        self._near = self._look_around()
        self._left_of: dict[Address, list[_Neighbour]] = {}
        self._hubs: dict[Address, _Hub | None] = {}

    def several(self, found: Sequence[Route] = ()) -> list[Route]:
        """The best route, then others that share no hub with those before and with `found`; where that cannot be, ones
        that do without one of the best route's hubs."""
        routes: list[Route] = []
        wanted = self._query.routes_max - len(found)
        used = {hub for route in found for hub in route.hubs}
        direct = all(route.hubs for route in found)
        while len(routes) < wanted and (route := self._best(used, direct=direct)) is not None:
            routes.append(route)
            used.update(route.hubs)
            direct = direct and bool(route.hubs)
        for hub in routes[0].hubs if routes else ():
            if len(routes) >= wanted:
                break
            detour = self._best({hub}, direct=direct)
            if detour is not None and all(detour.hubs != route.hubs for route in routes):
                routes.append(detour)
        return routes

    def _best(self, without: Container[Address], *, direct: bool) -> Route | None:
        """The best route without those hubs; `direct`: may it be this node's own ledger with the far end?"""
        # Fees add up from the far end, for whoever stands left in a ledger puts the fees of all hubs to its right into
        # it. So the cheaper way on from a node can do all that a dearer one can, unless it has more hubs.
        query, near, order = self._query, self._near, count()
        me, fee_max, hubs_max = query.me, query.fee_max, query.hubs_max
        far = self._graph.get(query.to)
        begin: _Label = (0, 0, -far.expires_ms if far else -ALWAYS_FRESH)
        heap: list[tuple[_Label, int, Address, _Step | None]] = [(begin, next(order), query.to, None)]
        offered: dict[Address, _Label] = {query.to: begin}  # the best label that a node was given
        fewest: dict[Address, int] = {}  # hubs of the shortest way on that was looked at, by node
        while heap:
            label, _, at, way = heapq.heappop(heap)
            fee, hubs, stale = label
            if at == me:
                return self._route(way, -stale)
            if fewest.get(at, hubs + 1) <= hubs:
                continue
            fewest[at] = hubs
            for left, room, charge, left_stale in self._neighbours(at):
                if fee > room or left in without:
                    continue
                if left == me:
                    if hubs or direct:
                        heapq.heappush(heap, (label, next(order), left, way))
                    continue
                total, number = fee + charge, hubs + 1
                if total > fee_max or number + near.get(left, _FAR) > hubs_max:
                    continue
                new = (total, number, max(stale, left_stale))
                old = offered.get(left)
                if old is not None and old <= new and old[1] <= number:
                    continue
                if old is None or new < old:
                    offered[left] = new
                heapq.heappush(heap, (new, next(order), left, _Step(left, charge, way)))
        return None

    def _route(self, way: _Step | None, expires_ms: int) -> Route:
        hubs, fees = [], []
        while way is not None:
            hubs.append(way.hub)
            fees.append(way.fee)
            way = way.rest
        route = Route(tuple(hubs), tuple(fees), True, expires_ms if hubs else ALWAYS_FRESH)
        return route if not self._end or self._is_sure(route) else msgspec.structs.replace(route, sure=False)

    def _is_sure(self, route: Route) -> bool:
        """Is what the hubs announce enough, taken at its least?"""
        careful = _Search(self._graph, self._own, self._query, hopeful=False)
        for place, (left, right) in enumerate(pairwise((self._query.me, *route.hubs, self._query.to))):
            rooms = {neighbour.left: neighbour.room for neighbour in careful._neighbours(right)}
            if rooms.get(left, -1) < sum(route.fees[place:]):
                return False
        return True

    def _look_around(self) -> dict[Address, int]:
        """By hub how many others there must be between it and this node, as far as that is 0 or 1."""
        asset = self._query.stakes[0].asset
        near: dict[Address, int] = dict.fromkeys(self._own.get(asset, ()), 0)
        for neighbour in list(near):
            view = self._graph.get(neighbour)
            for other in view.rooms.get(asset, ()) if view is not None else ():
                near.setdefault(other, 1)
        return near

    def _neighbours(self, right: Address) -> list[_Neighbour]:
        """Who can stand left of a node, in a ledger that both name and that holds enough."""
        found = self._left_of.get(right)
        if found is None:
            found = self._left_of[right] = self._look_left_of(right)
        return found

    def _look_left_of(self, right: Address) -> list[_Neighbour]:
        query, graph, end = self._query, self._graph, self._end
        view = graph.get(right)
        fresh = view is not None and view.expires_ms > query.now_ms
        if view is not None and fresh and not self._takes_part(view):
            return []
        first, *further = query.stakes
        asset, left_part, right_part = first.asset, first.left, first.right
        found = []
        mine, theirs = self._own.get(asset, _NO_ROOMS).get(right, _NOTHING)
        if mine >= left_part and theirs >= right_part and all(self._own_fits(right, stake) for stake in further):
            found.append(_Neighbour(query.me, mine - left_part, 0, 0))
        if view is None or not fresh:
            return found
        for left, room in view.rooms.get(asset, _NO_ROOMS).items():
            hub = self._hub(left) if room[end] >= right_part else None
            if hub is None:
                continue
            spare = hub.rooms.get(right, _NOTHING)[end] - left_part
            if spare >= 0 and all(self._fits(left, right, stake) for stake in further):
                found.append(_Neighbour(left, spare, hub.charge, hub.stale))
        return found

    def _own_fits(self, right: Address, stake: Stake) -> bool:
        mine, theirs = self._own.get(stake.asset, _NO_ROOMS).get(right, _NOTHING)
        return mine >= stake.left and theirs >= stake.right

    def _fits(self, left: Address, right: Address, stake: Stake) -> bool:
        """Do both have their parts of a further asset? Both announce."""
        rooms = [self._graph[each].rooms.get(stake.asset, _NO_ROOMS) for each in (left, right)]
        ours, theirs = rooms[0].get(right, _NOTHING), rooms[1].get(left, _NOTHING)
        return ours[self._end] >= stake.left and theirs[self._end] >= stake.right

    def _hub(self, node: Address) -> _Hub | None:
        """A node as a hub of this channel, or None if it forwards no such channel."""
        if node not in self._hubs:
            self._hubs[node] = self._ask(node)
        return self._hubs[node]

    def _ask(self, node: Address) -> _Hub | None:
        query, view = self._query, self._graph.get(node)
        if view is None or view.expires_ms <= query.now_ms or not self._takes_part(view):
            return None
        if node in query.avoid or node in (query.me, query.to):
            return None
        charge = quote(view.schedules, query.stakes)
        rooms = view.rooms.get(query.stakes[0].asset, _NO_ROOMS)
        return _Hub(charge, -view.expires_ms, rooms) if charge is not None else None

    def _takes_part(self, view: View) -> bool:
        return view.duration_min_s <= self._query.challenge_duration_s <= view.duration_max_s
