"""Routing for a node: it hears and passes on announcements, makes its own, finds routes, remembers who fails.

Belongs to one thread; deterministic: clock and key come from outside. Nothing is stored: after a restart peers tell it
all again. The node calls `on_message` for tags "r:", `on_link` for links, `announce` when its ledgers change, `tick`
about twice a second, and sends what `tick` gives.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from scapp.channels.books.step import Send, Signer
from scapp.channels.routing.attempts import Attempts
from scapp.channels.routing.fees import Schedule, Stake
from scapp.channels.routing.messages import Message
from scapp.channels.routing.paths import Route
from scapp.channels.types import U256_MAX, Address, Hash


class HubTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What this node announces of itself. `announce`: does it at all? Without `schedules` it is to be reached, but
    forwards for nobody."""

    announce: bool = False
    schedules: tuple[Schedule, ...] = ()
    duration_min_s: int = 3_600
    duration_max_s: int = 604_800


class OwnLedger(msgspec.Struct, frozen=True, gc=False):
    """A usable ledger of this node: per asset its own balance and the peer's, in smallest units."""

    peer: Address
    balances: tuple[tuple[Address, int, int], ...]


class Router:
    """`network` is `statements.network_of` this node's chain and adjudicator."""

    def __init__(self, signer: Signer, network: Hash, terms: HubTerms) -> None: ...

    def on_message(self, peer: Address, message: Message, now_ms: int) -> None:
        """Take what a peer says. Raises PeerError for what is refused; everything else of the message counts."""

    def on_link(self, peer: Address, connected: bool) -> None:
        """A link came up or went down."""

    def announce(self, ledgers: Sequence[OwnLedger], now_ms: int) -> None:
        """The usable ledgers of this node as they stand now; cheap when nothing changed."""

    def tick(self, now_ms: int) -> tuple[Send, ...]:
        """What is to be said now; `Send.message` is a `routing.messages.Message`."""
        raise NotImplementedError

    def routes(
        self,
        to: Address,
        stakes: Sequence[Stake],
        now_ms: int,
        *,
        challenge_duration_s: int,
        fee_max: int = U256_MAX,
        hubs_max: int = 3,
        routes_max: int = 3,
        attempts: Attempts | None = None,
    ) -> list[Route]:
        """The best routes to a node, without the hubs that failed in `attempts`, and without those that failed lately
        unless there is no other way. Raises LocalError for a question that has no sense."""
        raise NotImplementedError

    def failed(self, route: Route, now_ms: int, hub: Address | None = None) -> None:
        """A channel over this route failed, at `hub` if that is known."""

    def succeeded(self, route: Route) -> None:
        """A channel over this route was funded."""
