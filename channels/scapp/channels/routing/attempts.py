"""Another try: which routes were tried for a channel and why they failed, and which hubs failed lately."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from scapp.channels.routing.paths import Route
from scapp.channels.types import Address

HALF_LIFE_MS = 300_000
HUBS_REMEMBERED_MAX = 1_024
_FAILURE = 1_024
_TOO_MUCH = _FAILURE // 2
_MOST = 64 * _FAILURE


class Tried(msgspec.Struct, frozen=True):
    """A route that failed. `hub`: the one that refused or was silent, if it is known."""

    route: Route
    reason: str
    hub: Address | None = None


class Attempts(msgspec.Struct, frozen=True):
    """All tries for one channel, oldest first; a value: each function gives the next one."""

    tries_max: int = 4
    tried: tuple[Tried, ...] = ()

    def failed(self, route: Route, reason: str, hub: Address | None = None) -> Attempts:
        """One more that failed."""
        return msgspec.structs.replace(self, tried=(*self.tried, Tried(route, reason, hub)))

    @property
    def avoid(self) -> frozenset[Address]:
        """Hubs that failed in these tries: leave them out when routes are searched again."""
        return frozenset(each.hub for each in self.tried if each.hub is not None)

    def next(self, routes: Sequence[Route]) -> Route | None:
        """The route to try now, or None when nothing is left to try: the first that was not tried and has no hub that
        failed; after failures of unknown hubs, the first of those that share the fewest hubs with such routes."""
        if len(self.tried) >= self.tries_max:
            return None
        avoid, spent = self.avoid, {each.route.hubs for each in self.tried}
        suspects = {hub for each in self.tried if each.hub is None for hub in each.route.hubs}
        left = [route for route in routes if route.hubs not in spent and avoid.isdisjoint(route.hubs)]
        return min(left, key=lambda route: len(suspects.intersection(route.hubs)), default=None)

    @property
    def account(self) -> str:
        """For people: what was tried and why it failed."""
        return "; ".join(map(_told, self.tried)) or "no route was tried"


def _told(tried: Tried) -> str:
    over = ", ".join(f"0x{hub.hex()}" for hub in tried.route.hubs)
    way = f"over {over}" if over else "over this node's ledger"
    where = f" at 0x{tried.hub.hex()}" if tried.hub is not None else ""
    return f"{way}: {tried.reason}{where}"


class Failures:
    """How often hubs failed lately; half of it is forgotten every five minutes. One failure keeps a hub out of the
    first choice for ten minutes, many for three quarters of an hour. Integers only; the clock comes from outside."""

    def __init__(self) -> None:
        self._scores: dict[Address, tuple[int, int]] = {}  # oldest first: score, and when it was that

    def failed(self, route: Route, now_ms: int, hub: Address | None = None) -> None:
        """`hub` failed, or each of the route's hubs did a little if it is not known which."""
        hubs = route.hubs if hub is None else (hub,)
        for each in hubs:
            score = min(self._score(each, now_ms) + _FAILURE // len(hubs), _MOST)
            self._scores.pop(each, None)
            self._scores[each] = (score, now_ms)
        while len(self._scores) > HUBS_REMEMBERED_MAX:
            del self._scores[next(iter(self._scores))]

    def succeeded(self, route: Route) -> None:
        """All is forgotten of hubs that stand in a channel."""
        for hub in route.hubs:
            self._scores.pop(hub, None)

    def avoided(self, now_ms: int) -> frozenset[Address]:
        """Hubs that are better left out."""
        return frozenset(hub for hub in self._scores if self._score(hub, now_ms) >= _TOO_MUCH)

    def _score(self, hub: Address, now_ms: int) -> int:
        score, at_ms = self._scores.get(hub, (0, now_ms))
        return score >> (max(0, now_ms - at_ms) // HALF_LIFE_MS)
