"""Between the books and the chain: ledgers and virtual channels that need it are watched, views in, wants out."""

from __future__ import annotations

from collections.abc import Iterable

from scapp.channels.books.engine import Books
from scapp.channels.books.runner import BooksRunner
from scapp.channels.books.seeing import seen_ledger
from scapp.channels.books.step import NOTHING, Step
from scapp.channels.chain_desk import ChainDesk
from scapp.channels.ledger import funding
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.types import ChannelId


class BooksLink:
    """Belongs to the node's event loop. Made before the chain service starts."""

    def __init__(self, desk: ChainDesk, runner: BooksRunner) -> None:
        self._desk = desk
        self._runner = runner
        self._seen: set[ChannelId] = set()  # of which a view was taken since the start
        desk.on_head.append(self._on_head)

    def update(self, channels: Iterable[ChannelId]) -> None:
        """These records have changed, or time has passed: watch what needs it, and say what they want done."""
        for channel in channels:
            ledger = self._runner.books.state.ledgers.get(channel)
            if ledger is not None:
                self._update_ledger(ledger)

    def _update_ledger(self, record: LedgerRecord) -> None:
        channel, phase = record.channel, record.phase
        if phase == "proposed":
            return
        if phase == "rejected" or (phase == "settled" and not self._desk.is_under_way(channel)):
            self._desk.forget(channel)
            self._seen.discard(channel)
            return
        since = record.chain.seen.confirmed.block if record.chain is not None else 0
        self._desk.watch(channel, record.setup.assets, since, lambda: self._show(channel))
        if channel in self._seen:  # silence, unlike wanting nothing, cancels nothing that an earlier run has sent
            self._desk.want(channel, funding.wanted(record, self._runner.books.context))

    def _show(self, channel: ChannelId) -> None:
        self._runner.try_input(lambda books: self._take(books, channel))

    def _take(self, books: Books, channel: ChannelId) -> Step:
        view = self._desk.view(channel)
        if view is None:
            return NOTHING
        step = seen_ledger(books.state.ledgers[channel], view, self._desk.head_time_s)
        self._desk.taken(channel)
        self._seen.add(channel)
        books.touch(channel)
        return step

    def _on_head(self, head_time_s: int) -> None:
        self._runner.tick()
