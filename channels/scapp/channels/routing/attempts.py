"""Another try: which routes were tried for a channel and why they failed, and which hubs fail lately."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from scapp.channels.routing.paths import Route
from scapp.channels.types import Address


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
        raise NotImplementedError

    def next(self, routes: Sequence[Route]) -> Route | None:
        """The route to try now, or None when nothing is left to try."""
        raise NotImplementedError

    @property
    def account(self) -> str:
        """For people: what was tried and why it failed."""
        raise NotImplementedError
