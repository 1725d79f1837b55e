"""What this node announces of itself, and when it says it again.

A statement is renewed in time, sooner when it promises too much, but never oftener than every half minute. Balances
that rise wait for the next renewal: they harm nobody, and each statement more tells others when payments were made.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from scapp.channels.books.step import Signer
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
INTERVAL_MS = 30_000
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
        self._due_ms = _NEVER
        self._sequence = 0

    def ledgers(self, ledgers: Sequence[OwnLedger], now_ms: int) -> None:
        """The ledgers as they stand now."""
        usable = {ledger.peer: announced for ledger in ledgers if (announced := _announced(ledger)).rooms}
        self._ledgers = dict(sorted(usable.items(), key=_widest)[:LEDGERS_MAX])
        if self._terms.announce and (self._said.keys() != self._ledgers.keys() or self._is_off()):
            self._hurry(now_ms)

    def heard(self, statement: Statement, now_ms: int) -> None:
        """Peers have a statement that this node signed before it was restarted; the next one must outdo it."""
        if self._terms.announce and statement.sequence >= self._sequence:
            self._sequence = statement.sequence
            self._hurry(now_ms)

    def due(self, now_ms: int) -> tuple[Statement, Signed] | None:
        """The next statement, if it is time for one."""
        if now_ms < self._due_ms and not now_ms < self._said_ms:  # a clock that was set back waits for nothing
            return None
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
        self._due_ms = min(self._due_ms, max(now_ms, self._said_ms + INTERVAL_MS))

    def _is_off(self) -> bool:
        """Does the last statement promise too much, or does it not name an asset that is there now?"""
        for peer, ledger in self._said.items():
            said = {room.asset: room.bits for room in ledger.rooms}
            now = {room.asset: room.bits for room in self._ledgers[peer].rooms}
            if any(now.get(asset, 0) < bits for asset, bits in said.items()):
                return True
            if any(bits and not said.get(asset) for asset, bits in now.items()):
                return True
        return False


def _announced(ledger: OwnLedger) -> Ledger:
    rooms = (Room(asset, mine.bit_length()) for asset, mine, _ in ledger.balances[:ASSETS_MAX])
    return Ledger(ledger.peer, tuple(rooms))


def _widest(ledger: tuple[bytes, Ledger]) -> tuple[int, bytes]:
    """For the order in which ledgers are announced if there are too many."""
    return -max(room.bits for room in ledger[1].rooms), ledger[0]
