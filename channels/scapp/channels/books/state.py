"""All ledgers and virtual channels of a node as a fold of the books' events; `engine.py` decides over it.

A record changes by its own package's `evolve` alone. What has ended stays until it is forgotten (`forgetting.py`).
"""

from __future__ import annotations

from scapp.channels.books.events import BooksEvent, BooksRestored, Forgotten
from scapp.channels.errors import CorruptionError, LocalError
from scapp.channels.ledger import record as ledger_record
from scapp.channels.ledger.events import LedgerCreated, LedgerEvent, LedgerRestored
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.types import ChannelId
from scapp.channels.virtual import record as virtual_record
from scapp.channels.virtual.events import VirtualCreated, VirtualEvent, VirtualRestored
from scapp.channels.virtual.record import VirtualRecord

# What events raise that decode and that no node has written.
_NONSENSE = (LocalError, LookupError, ValueError, TypeError)


class BooksState:
    """`version` counts folded events; `restored_ms`: when the books were last put in place from a backup, 0 for never;
    `forgotten_ms`: nothing that was opened by then is begun any more, 0 while nothing was forgotten; `snapshot`:
    version and size of the snapshot that this began at."""

    def __init__(self) -> None:
        self.ledgers: dict[ChannelId, LedgerRecord] = {}
        self.virtuals: dict[ChannelId, VirtualRecord] = {}
        self.version = 0
        self.restored_ms = 0
        self.forgotten_ms = 0
        self.snapshot: tuple[int, int] = (0, 0)

    def copy(self) -> BooksState:
        """One that stays as it is; records are values."""
        copy = BooksState()
        copy.ledgers, copy.virtuals = dict(self.ledgers), dict(self.virtuals)
        copy.version, copy.restored_ms, copy.snapshot = self.version, self.restored_ms, self.snapshot
        copy.forgotten_ms = self.forgotten_ms
        return copy

    def next(self, event: BooksEvent) -> BooksState:
        """Fold a stored event. Raises CorruptionError when it cannot follow."""
        try:
            self.fold(event)
        except _NONSENSE as error:
            name = type(event).__name__
            raise CorruptionError(f"the books: event {self.version}, {name}, cannot be: {error}") from error
        return self

    def lost(self, ledger: LedgerRecord) -> list[ChannelId]:
        """Channels whose guarantee stands in a ledger and that a backup did not know: the other party may."""
        if not self.restored_ms or ledger.ledger is None or ledger.recovering:
            return []
        targets = {each.target: None for asset in ledger.ledger.current.assets for each in asset.guarantees}
        return [ChannelId(target) for target in targets if target not in self.virtuals]

    def fold(self, event: BooksEvent) -> None:
        """Fold an event. When it raises, nothing has changed."""
        match event:
            case BooksRestored():
                self._restore(event)
            case Forgotten():
                self._forget(event)
            case LedgerCreated():
                self._is_new(event.channel)
                record = ledger_record.create(event)
                self.ledgers[record.channel] = record
            case VirtualCreated():
                self._is_new(event.channel)
                virtual = virtual_record.create(event)
                self.virtuals[virtual.channel_id] = virtual
            case _:
                self._evolve(event)
        self.version += 1

    def _is_new(self, channel: bytes) -> None:
        if channel in self.ledgers or channel in self.virtuals:
            raise CorruptionError(f"0x{channel.hex()} was here before")

    def _evolve(self, event: LedgerEvent | VirtualEvent) -> None:
        channel = ChannelId(event.channel)
        ledger = self.ledgers.get(channel)
        if ledger is not None:
            self.ledgers[channel] = ledger_record.evolve(ledger, event)  # type: ignore[arg-type]  # it says so itself
            return
        virtual = self.virtuals.get(channel)
        if virtual is None:
            raise CorruptionError(f"{type(event).__name__} of 0x{channel.hex()}, which is not here")
        self.virtuals[channel] = virtual_record.evolve(virtual, event)  # type: ignore[arg-type]

    def _restore(self, event: BooksRestored) -> None:
        """Nothing is signed in any record before the others have told what this node has signed since (rule 10)."""
        ledgers = {
            channel: ledger_record.evolve(record, LedgerRestored(channel, event.token, event.at_ms, event.backup_ms))
            if record.is_open
            else record
            for channel, record in self.ledgers.items()
        }
        virtuals = {
            channel: record if record.over else virtual_record.evolve(record, VirtualRestored(channel, event.token))
            for channel, record in self.virtuals.items()
        }
        self.ledgers, self.virtuals = ledgers, virtuals
        self.restored_ms = max(self.restored_ms, event.at_ms)

    def _forget(self, event: Forgotten) -> None:
        channels = set(event.channels)
        if not channels <= self.ledgers.keys() | self.virtuals.keys():
            raise CorruptionError("what was forgotten is not here")
        self.ledgers = {channel: each for channel, each in self.ledgers.items() if channel not in channels}
        self.virtuals = {channel: each for channel, each in self.virtuals.items() if channel not in channels}
        self.forgotten_ms = max(self.forgotten_ms, event.opened_ms)
