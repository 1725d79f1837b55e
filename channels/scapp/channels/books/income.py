"""What a hub has earned by standing between others: read back from the log for its owner, by neighbour and asset.

The fee of a channel is counted at its opening here, the fee of a locked payment when both of its locks are over.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from scapp.channels.books.events import Forgotten, decode_event
from scapp.channels.books.step import BOOKS_STREAM
from scapp.channels.log.port import EventLog
from scapp.channels.payments.locked.events import LOCKS_STREAM, LockOver, decode_locks_event
from scapp.channels.payments.locked.records import Leg, Transit
from scapp.channels.payments.locked.state import LocksState
from scapp.channels.types import Address
from scapp.channels.virtual import record as virtual_record
from scapp.channels.virtual.events import VirtualCreated, VirtualEvent
from scapp.channels.virtual.funding import ledger_index
from scapp.channels.virtual.record import LEFT, RIGHT, VirtualRecord


class Income(msgspec.Struct, frozen=True, gc=False):
    """From one neighbour, which pays the fees, in one asset's smallest unit: of `channels` over ledgers, and of
    `payments` under locks. A fee is negative where this node passed on more than it got (docs/howto/run-a-hub.md)."""

    asset: Address
    peer: Address
    channels: int = 0
    channel_fees: int = 0
    payments: int = 0
    payment_fees: int = 0


class _Book:
    def __init__(self, since_ms: int, until_ms: int) -> None:
        self._since_ms, self._until_ms = since_ms, until_ms
        self._found: dict[tuple[Address, Address], Income] = {}

    def of(self, asset: bytes, peer: bytes, at_ms: int) -> Income | None:
        """None for what is not asked for."""
        if not self._since_ms <= at_ms < self._until_ms:
            return None
        key = Address(asset), Address(peer)
        return self._found.get(key) or Income(*key)

    def put(self, income: Income) -> None:
        self._found[income.asset, income.peer] = income

    def all(self) -> list[Income]:
        return [self._found[key] for key in sorted(self._found)]


def read_income(log: EventLog, since_ms: int, until_ms: int) -> list[Income]:
    """Of what was earned from `since_ms` on and before `until_ms`, by asset and peer. Reads all that the books and the
    locked payments have stored. Raises CorruptionError, LogClosed."""
    book = _Book(since_ms, until_ms)
    for record in _channels(log):
        _add_channel(book, record)
    for transit, at_ms, state in _payments(log):
        _add_payment(book, transit, at_ms, state)
    return book.all()


def channel_fee(record: VirtualRecord) -> int | None:
    """What a hub has got for a channel, less what it passed on to further hubs; None while it earns nothing: before
    both guarantees stand, and once the fees went back."""
    if not (record.guaranteed or record.cleared):
        return None
    aborted = record.aborted is not None and record.aborted.complete
    kept = [
        record.agreement.fee_in(ledger_index(record, at))
        if record.held[at] and not (aborted and record.gone[at] and not record.unrefunded[at])
        else None
        for at in (LEFT, RIGHT)
    ]
    return None if kept == [None, None] else (kept[LEFT] or 0) - (kept[RIGHT] or 0)


def payment_fee(transit: Transit) -> int | None:
    """What a hub has kept of a locked payment; None for one that is not over, or that nobody paid."""
    if transit.incoming is None or transit.outgoing is None or not transit.over:
        return None
    if "ended" == transit.incoming.fate == transit.outgoing.fate:
        return None
    return _paid(transit.incoming) - _paid(transit.outgoing)


def _paid(leg: Leg) -> int:
    return 0 if leg.fate == "ended" else leg.amount


def _channels(log: EventLog) -> Iterator[VirtualRecord]:
    """Those that this node has stood in, as they were last."""
    known: dict[bytes, VirtualRecord] = {}
    for page in log.read(BOOKS_STREAM):
        for event in map(decode_event, page.events):
            if isinstance(event, Forgotten):
                yield from (record for each in event.channels if (record := known.pop(each, None)) is not None)
            elif isinstance(event, VirtualCreated):
                if event.left is not None and event.right is not None:
                    known[event.channel] = virtual_record.create(event)
            elif isinstance(event, VirtualEvent) and event.channel in known:
                known[event.channel] = virtual_record.evolve(known[event.channel], event)
    yield from known.values()


def _payments(log: EventLog) -> Iterator[tuple[Transit, int, LocksState]]:
    """Each as it is over, and when that was."""
    state = LocksState()
    for page in log.read(LOCKS_STREAM):
        for event in map(decode_locks_event, page.events):
            state = state.next(event)
            if isinstance(event, LockOver) and state.transits[event.hash].over:
                yield state.transits[event.hash], event.at_ms, state


def _add_channel(book: _Book, record: VirtualRecord) -> None:
    fee, left = channel_fee(record), record.left
    assert left is not None
    income = book.of(record.agreement.assets[0].asset, left.peer, record.created_ms) if fee is not None else None
    if income is not None and fee is not None:
        book.put(replace(income, channels=income.channels + 1, channel_fees=income.channel_fees + fee))


def _add_payment(book: _Book, transit: Transit, at_ms: int, state: LocksState) -> None:
    fee = payment_fee(transit)
    if fee is None or transit.incoming is None:
        return
    lane = state.lanes[transit.incoming.channel]
    income = book.of(lane.asset, lane.payer, at_ms)
    if income is not None:
        book.put(replace(income, payments=income.payments + 1, payment_fees=income.payment_fees + fee))
