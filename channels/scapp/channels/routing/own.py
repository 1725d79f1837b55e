"""What this node announces of itself, and when it says it again.

A statement is renewed in time; at once when a ledger has come or gone, a few times and then every half minute; and half
a minute after the last one when it promises too much. Balances that rise wait for the next renewal: they harm nobody,
and each statement more tells others when payments were made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from scapp.channels.books.step import Signer
from scapp.channels.routing.allowance import Allowance
from scapp.channels.routing.fees import Schedule
from scapp.channels.routing.statements import (
    ASSETS_MAX,
    LEDGERS_MAX,
    Ledger,
    Room,
    Signed,
    Statement,
    sign_statement,
    terms_of,
)
from scapp.channels.types import Address, Hash

LIFETIME_MS = 3_600_000
RENEW_MS = 1_200_000
BURST, INTERVAL_MS = 3, 30_000
_NEVER = 2**63


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


class OwnAnnouncement:
    """Decides when the next statement is due, and makes it."""

    def __init__(self, signer: Signer, network: Hash, terms: HubTerms) -> None:
        self._signer = signer
        self._network = network
        self._terms = terms
        self._ledgers: dict[bytes, Ledger] = {}
        self._said: dict[bytes, Ledger] = {}
        self._said_ms = 0
        self._allowance = Allowance(BURST, INTERVAL_MS)
        self._due_ms = _NEVER
        self._sequence = 0

    def ledgers(self, ledgers: Sequence[OwnLedger], now_ms: int) -> None:
        """The ledgers as they stand now."""
        usable = {ledger.peer: announced for ledger in ledgers if (announced := _announced(ledger)).rooms}
        self._ledgers = dict(sorted(usable.items(), key=_widest)[:LEDGERS_MAX])
        if not self._terms.announce:
            return
        if _named(self._said) != _named(self._ledgers):
            self._hurry(now_ms)
        elif self._promises_too_much():
            self._due_ms = min(self._due_ms, max(now_ms, self._said_ms + INTERVAL_MS))

    def heard(self, statement: Statement, now_ms: int) -> None:
        """Peers have a statement that this node signed before it was restarted; the next one must outdo it."""
        if self._terms.announce and statement.sequence >= self._sequence:
            self._sequence = statement.sequence
            self._hurry(now_ms)

    def due(self, now_ms: int) -> tuple[Statement, Signed] | None:
        """The next statement, if it is time for one."""
        if now_ms < self._due_ms and not now_ms < self._said_ms:  # a clock that was set back waits for nothing
            return None
        self._allowance.take(now_ms)
        # Later than every one before it, those before a restart included, without being stored.
        self._sequence = max(self._sequence + 1, now_ms)
        self._said, self._said_ms = self._ledgers, now_ms
        self._due_ms = now_ms + RENEW_MS if self._said else _NEVER
        terms = self._terms
        statement = Statement(
            self._signer.address,
            self._sequence,
            now_ms + LIFETIME_MS,
            terms.duration_min_s,
            terms.duration_max_s,
            tuple(map(terms_of, terms.schedules)),
            tuple(self._said.values()),
        )
        return statement, sign_statement(statement, self._network, self._signer)

    def _hurry(self, now_ms: int) -> None:
        self._due_ms = min(self._due_ms, now_ms + self._allowance.wait_ms(now_ms))

    def _promises_too_much(self) -> bool:
        """Of ledgers that are the same ones."""
        now = [{room.asset: room.bits for room in self._ledgers[peer].rooms} for peer in self._said]
        said = [ledger.rooms for ledger in self._said.values()]
        return any(now[n].get(room.asset, 0) < room.bits for n, rooms in enumerate(said) for room in rooms)


def _named(ledgers: Mapping[bytes, Ledger]) -> set[tuple[bytes, bytes, bool]]:
    """Peers, assets, and of which there is anything."""
    return {(peer, room.asset, room.bits > 0) for peer, ledger in ledgers.items() for room in ledger.rooms}


def _announced(ledger: OwnLedger) -> Ledger:
    rooms = (Room(asset, mine.bit_length()) for asset, mine, _ in ledger.balances[:ASSETS_MAX])
    return Ledger(ledger.peer, tuple(rooms))


def _widest(ledger: tuple[bytes, Ledger]) -> tuple[int, bytes]:
    """For the order in which ledgers are announced if there are too many."""
    return -max(room.bits for room in ledger[1].rooms), ledger[0]
