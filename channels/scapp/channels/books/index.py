"""What is looked up in the books without going through all of them; kept in step with the records."""

from __future__ import annotations

from collections import defaultdict

from scapp.channels.books.state import BooksState
from scapp.channels.ledger.proposals import Proposal
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.types import Address, ChannelId
from scapp.channels.virtual.record import VirtualRecord

Wants = tuple[tuple[Address, Proposal], ...]


class Index:
    """`ledger_with`: the one open ledger with each peer. `users`: virtual channels that are not over, by the ledgers
    that fund them. `wants`: what those want of that ledger now. `restless`: records for which
    something may happen by the mere passing of time. `forwarded`: in how many of them this node is a hub."""

    def __init__(self, state: BooksState) -> None:
        self.ledger_with: dict[Address, ChannelId] = {}
        self.users: defaultdict[ChannelId, dict[ChannelId, None]] = defaultdict(dict)
        self.wants: defaultdict[ChannelId, dict[ChannelId, tuple[Proposal, ...]]] = defaultdict(dict)
        self.restless: dict[ChannelId, None] = {}
        self.forwarded: set[ChannelId] = set()
        for ledger in state.ledgers.values():
            self.put_ledger(ledger)
        for virtual in state.virtuals.values():
            self.put_virtual(virtual)

    def put_ledger(self, record: LedgerRecord) -> None:
        """The record as it is now."""
        channel = record.channel
        if record.is_open:
            self.ledger_with[record.peer] = channel
        elif self.ledger_with.get(record.peer) == channel:
            del self.ledger_with[record.peer]
        self._rest(channel, restless=record.is_open and record.phase != "running")

    def put_virtual(self, record: VirtualRecord) -> None:
        """The record as it is now."""
        channel = record.channel
        for side in (record.left, record.right):
            if side is None:
                continue
            if record.is_over:
                self.users[side.ledger].pop(channel, None)
            else:
                self.users[side.ledger][channel] = None
        if record.left is not None and record.right is not None and not record.is_over:
            self.forwarded.add(channel)
        else:
            self.forwarded.discard(channel)
        self._rest(channel, restless=not record.is_over and record.phase != "running")

    def put_wants(self, record: VirtualRecord, wants: Wants) -> list[ChannelId]:
        """What a virtual channel wants of its ledgers now; the ledgers of which that is something else than before."""
        changed = []
        for side in (record.left, record.right):
            if side is None:
                continue
            now = tuple(proposal for peer, proposal in wants if peer == side.peer)
            if now == self.wants[side.ledger].get(record.channel, ()):
                continue
            changed.append(side.ledger)
            if now:
                self.wants[side.ledger][record.channel] = now
            else:
                del self.wants[side.ledger][record.channel]
        return changed

    def wanted_of(self, ledger: ChannelId) -> tuple[Proposal, ...]:
        """All that virtual channels want of a ledger."""
        return tuple(proposal for wants in self.wants[ledger].values() for proposal in wants)

    def _rest(self, channel: ChannelId, *, restless: bool) -> None:
        if restless:
            self.restless[channel] = None
        else:
            self.restless.pop(channel, None)
