"""Routing for a node: it hears and passes on announcements, makes its own, finds routes, remembers who fails.

Belongs to one thread; deterministic: clock and key come from outside. Nothing is stored: after a restart peers tell it
all again. The node calls `on_message` for tags "r:", `on_link` for links, `announce` at the start and when its ledgers
change, `tick` about twice a second, and sends what `tick` gives.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from scapp.channels.books.step import Send, Signer
from scapp.channels.errors import LocalError
from scapp.channels.routing.attempts import Attempts, Failures
from scapp.channels.routing.fees import Stake
from scapp.channels.routing.gossip import Gossip
from scapp.channels.routing.messages import Message
from scapp.channels.routing.own import HubTerms, OwnAnnouncement, OwnLedger
from scapp.channels.routing.paths import HUBS_SEARCHED_MAX, HUBS_USUAL, Graph, Query, Route, find_routes
from scapp.channels.routing.table import Table
from scapp.channels.types import U256_MAX, Address, Hash


class Router:
    """`network` is `statements.network_of` this node's chain and adjudicator."""

    def __init__(self, signer: Signer, network: Hash, terms: HubTerms) -> None:
        self._me = signer.address
        self._own = OwnAnnouncement(signer, network, terms)
        self._table = Table(self._me, network)
        self._gossip = Gossip(self._me, network, self._table, self._own)
        self._balances: dict[Address, dict[Address, tuple[int, int]]] = {}
        self._failures = Failures()
        self._neighbours: frozenset[Address] = frozenset()
        self._linked: set[Address] = set()

    def on_message(self, peer: Address, message: Message, now_ms: int) -> None:
        """Take what a peer says. Raises PeerError for what is refused; everything else of the message counts."""
        self._gossip.receive(peer, message, now_ms)

    def on_link(self, peer: Address, connected: bool) -> None:
        """A link came up or went down."""
        self._gossip.link(peer, connected)
        self._linked.add(peer) if connected else self._linked.discard(peer)

    def announce(self, ledgers: Sequence[OwnLedger], now_ms: int) -> None:
        """The usable ledgers of this node as they stand now, all of them: what routes begin with, with whom
        announcements are exchanged, and, if this node announces, what it says."""
        balances: dict[Address, dict[Address, tuple[int, int]]] = {}
        for ledger in ledgers:
            for asset, mine, theirs in ledger.balances:
                balances.setdefault(asset, {})[ledger.peer] = (mine, theirs)
        self._balances = balances
        self._neighbours = frozenset(ledger.peer for ledger in ledgers)
        self._gossip.neighbours(self._neighbours)
        self._own.ledgers(ledgers, now_ms)

    def tick(self, now_ms: int) -> tuple[Send, ...]:
        """What is to be said now; `Send.message` is a `routing.messages.Message`."""
        return tuple(self._gossip.tick(now_ms))

    def routes(
        self,
        to: Address,
        stakes: Sequence[Stake],
        now_ms: int,
        *,
        challenge_duration_s: int,
        fee_max: int = U256_MAX,
        hubs_max: int = HUBS_USUAL,
        routes_max: int = 3,
        attempts: Attempts | None = None,
    ) -> list[Route]:
        """The best routes to a node, without the hubs that failed in `attempts`; and unless there is no other way,
        without those that failed lately and neighbours that are away. Raises LocalError for a senseless question."""
        self._check_question(to, stakes, hubs_max)
        avoid = attempts.avoid if attempts is not None else frozenset()
        doubtful = self._failures.avoided(now_ms) | (self._neighbours - self._linked)
        query = Query(
            me=self._me,
            to=to,
            stakes=tuple(stakes),
            challenge_duration_s=challenge_duration_s,
            now_ms=now_ms,
            fee_max=fee_max,
            hubs_max=hubs_max,
            routes_max=routes_max,
            avoid=avoid | doubtful,
        )
        found = find_routes(self.graph, self._balances, query)
        if not found and doubtful:
            found = find_routes(self.graph, self._balances, replace(query, avoid=avoid))
        return found

    def _check_question(self, to: Address, stakes: Sequence[Stake], hubs_max: int) -> None:
        if to == self._me:
            raise LocalError("a route from this node to itself")
        if not stakes or len({stake.asset for stake in stakes}) != len(stakes):
            raise LocalError(f"a route for {len(stakes)} stakes; allowed are one or more, each of another asset")
        for stake in stakes:
            if stake.left < 0 or stake.right < 0 or not 0 < stake.total <= U256_MAX:
                raise LocalError(f"amounts {stake.left} and {stake.right}; allowed are 1 to 2^256-1 together")
        if not 0 <= hubs_max <= HUBS_SEARCHED_MAX:
            raise LocalError(f"{hubs_max} hubs; allowed are 0 to {HUBS_SEARCHED_MAX}")

    def failed(self, route: Route, now_ms: int, hub: Address | None = None) -> None:
        """A channel over this route failed, at `hub` if that is known."""
        self._failures.failed(route, now_ms, hub)

    def succeeded(self, route: Route) -> None:
        """A channel over this route was funded."""
        self._failures.succeeded(route)

    @property
    def graph(self) -> Graph:
        """What is announced, by node, this one included."""
        return self._table.graph
