"""What defends a ledger or virtual channel without this node: states that anybody can show to the chain. Pure.

`runtime.disputes` writes it down, and watchtowers answer with it (docs/reference/watchtower.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from scapp.channels.books.disputes import Disputes
from scapp.channels.books.engine import Books
from scapp.channels.books.step import Signer
from scapp.channels.ledger.chain_facts import Enforceable
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.signed import newest_enforceable
from scapp.channels.payments.purse import Purse
from scapp.channels.types import ChannelId
from scapp.channels.virtual import settling
from scapp.channels.virtual.record import VirtualRecord


class Defences:
    """Those of a node. `books` gives the books, None while they are closed; `purse` that of a payment channel without
    locks; `presigns`: a payee's channels are defended by a redemption of what it holds. `on_change` hears of what
    changed."""

    def __init__(
        self, books: Callable[[], Books | None], purse: Callable[[ChannelId], Purse | None], presigns: bool
    ) -> None:
        self._books = books
        self._purse = purse
        self._presigns = presigns
        self.on_change: list[Callable[[Iterable[ChannelId]], None]] = []

    def update(self, channels: Iterable[ChannelId]) -> None:
        """These records have changed."""
        for listener in self.on_change:
            listener(channels)

    def channels(self) -> list[ChannelId]:
        """All that may be disputed."""
        books = self._books()
        if books is None:
            return []
        ledgers = [channel for channel, ledger in books.state.ledgers.items() if not _is_over(ledger)]
        return ledgers + [channel for channel, virtual in books.state.virtuals.items() if not virtual.over]

    def knows(self, channel: ChannelId) -> bool:
        """Is it a ledger or virtual channel of this node?"""
        return self._record(channel) is not None

    def is_over(self, channel: ChannelId) -> bool:
        """Is nothing of it left that a dispute could change?"""
        record = self._record(channel)
        return record is not None and _is_over(record)

    def of(self, channel: ChannelId) -> Enforceable | None:
        """What to show of a ledger or virtual channel; None while there is nothing, or nothing that is sure to be the
        newest. Raises LocalError for a voucher that the contract would not take."""
        books, record = self._books(), self._record(channel)
        if books is None or record is None:
            return None
        if isinstance(record, LedgerRecord):
            return of_ledger(record)
        found = of_virtual(record, books.disputes)
        if found is None and self._presigns:
            found = redemption(record, self._purse(channel), books.context.signer)
        return found

    def _record(self, channel: ChannelId) -> LedgerRecord | VirtualRecord | None:
        books = self._books()
        return (books.state.ledgers.get(channel) or books.state.virtuals.get(channel)) if books is not None else None


def _is_over(record: LedgerRecord | VirtualRecord) -> bool:
    if isinstance(record, LedgerRecord):
        return record.phase in ("rejected", "settled")
    return record.over


def of_ledger(record: LedgerRecord) -> Enforceable | None:
    """The newest state of both. None while there is none, or while a restore may have forgotten a newer one."""
    newest = None if record.recovering else newest_enforceable(record)
    return Enforceable(newest) if newest is not None else None


def of_virtual(record: VirtualRecord, disputes: Disputes) -> Enforceable | None:
    """The end that everybody has signed, which concludes the channel; else what an end of it can show above the
    postfund state. A hub answers nothing before the end: whatever the outcome is, its ledgers pay it the same."""
    if record.recovering:
        return None
    end = settling.end_state(record)
    return Enforceable(end) if end is not None else disputes.enforceable(record)


def redemption(record: VirtualRecord, purse: Purse | None, signer: Signer) -> Enforceable | None:
    """The payee's redemption of what it holds now, though the payments go on: whoever shows it ends them. None for
    others, and while nothing was paid. Raises LocalError as `settling.redemption`."""
    if purse is None or purse.largest is None or purse.phase == "settled" or purse.recovering or record.recovering:
        return None
    if not record.funded or record.ended is not None or signer.address != purse.payee:
        return None
    return settling.redemption(record, purse.largest, signer)
