"""Between the books and the chain: ledgers and virtual channels that need it are watched, views in, wants out."""

from __future__ import annotations

from collections.abc import Iterable

from scapp.channels.books.engine import Books
from scapp.channels.books.runner import BooksRunner
from scapp.channels.books.step import NOTHING, Step
from scapp.channels.chain_desk import ChainDesk
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.onchain import Deposit, Transaction
from scapp.channels.types import ChannelId
from scapp.channels.virtual.record import VirtualRecord


class BooksLink:
    """Belongs to the node's event loop. Made before the chain service starts."""

    def __init__(self, desk: ChainDesk, runner: BooksRunner) -> None:
        self._desk = desk
        self._runner = runner
        self._seen: set[ChannelId] = set()  # of which a view was taken since the start
        self._heads_s = (0, 0)  # of the newest block, and of the one before it that was told
        desk.on_head.append(self._on_head)

    def update(self, channels: Iterable[ChannelId]) -> None:
        """These records have changed, or time has passed: watch what needs it, and say what they want done."""
        state = self._runner.books.state
        for channel in channels:
            if channel in state.ledgers:
                self._update_ledger(state.ledgers[channel])
            elif channel in state.virtuals:
                self._update_virtual(state.virtuals[channel])

    def _update_ledger(self, record: LedgerRecord) -> None:
        channel, phase, books = record.channel, record.phase, self._runner.books
        if phase == "proposed":
            return
        # A restore may have forgotten what was sent: without an end of both, what comes has to be challenged for.
        over = phase == "settled" and not record.own_may_arrive
        if phase == "rejected" or (over and not self._desk.is_under_way(channel)):
            self._forget(channel)
            return
        since = record.chain.seen.confirmed.block if record.chain is not None else 0
        self._desk.watch(channel, record.setup.assets, since, lambda: self._show(channel))
        if channel in self._seen:  # silence, unlike wanting nothing, cancels nothing that an earlier run has sent
            wants, held = self._ledger_wants(record), books.session(channel).held
            self._desk.want(channel, tuple(w for w in wants if not (isinstance(w, Deposit) and w.asset in held)))
        for needed in books.disputes.needs_of(record, books.context):
            virtual = books.state.virtuals.get(needed)
            if virtual is not None and virtual.over:  # others are updated when they change
                self._update_virtual(virtual)

    def _ledger_wants(self, record: LedgerRecord) -> tuple[Transaction, ...]:
        books = self._runner.books
        return books.disputes.ledger_wants(record, books.index.users[record.channel], books.context)

    def _update_virtual(self, record: VirtualRecord) -> None:
        """It holds nothing on chain, and is watched because anybody who has signed it may take it there."""
        channel, books = record.channel_id, self._runner.books
        over = record.over and books.disputes.needed_since_s(record, books.context) is None
        if over and not self._desk.is_under_way(channel):
            self._forget(channel)
        elif record.prefund.complete and not over:
            since = record.chain.seen.confirmed.block if record.chain is not None else 0
            self._desk.watch(channel, (), since, lambda: self._show(channel))
            if channel in self._seen:
                self._desk.want(channel, books.disputes.virtual_wants(record, books.context))

    def _forget(self, channel: ChannelId) -> None:
        self._desk.forget(channel)
        self._seen.discard(channel)

    def _show(self, channel: ChannelId) -> None:
        self._runner.try_input(lambda books: self._take(books, channel))

    def _take(self, books: Books, channel: ChannelId) -> Step:
        view = self._desk.view(channel)
        if view is None:
            return NOTHING
        ledger, disputes = books.state.ledgers.get(channel), books.disputes
        if ledger is not None:
            followed_to_s = self._heads_s[1] if channel in self._seen else 0
            step = disputes.on_ledger(ledger, view, books.index.users[channel], books.context, followed_to_s)
        else:
            virtual = books.state.virtuals.get(channel)
            if virtual is None:  # forgotten since
                self._forget(channel)
                return NOTHING
            step = disputes.on_virtual(virtual, view, books.context)
            books.seen_on_chain(channel)
        self._desk.taken(channel)
        self._seen.add(channel)
        books.touch(channel)
        return step

    def _on_head(self, head_time_s: int) -> None:
        if head_time_s > self._heads_s[0]:
            self._heads_s = head_time_s, self._heads_s[0]
        self._runner.tick()
