"""What is looked up in the books without going through all of them; kept in step with the records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from scapp.channels.books.state import BooksState
from scapp.channels.ledger.leaving import waits_for_peer
from scapp.channels.ledger.proposals import Proposal
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.types import Address, ChannelId
from scapp.channels.virtual import standing as virtual_standing
from scapp.channels.virtual.record import VirtualRecord


class Index:
    """`ledgers_with`: those with each peer that are not over (one, and proposals). `users`: virtual channels that are
    not over, by the ledgers that fund them. `wants`: what those want of that ledger now. `restless`: records for which
    something may happen by the mere passing of time. `forwarded`: those in which this node is a hub. `proposed`:
    ledgers that nobody here has decided on. `unfunded`: of the users those that are not funded yet. `promised`: how
    many guarantees the users of a ledger have or will have in it, one for each asset. `left`: ledgers that others
    proposed and that are watched though they were left, for a deposit of this node's own (`own_may_arrive`)."""

    def __init__(self, state: BooksState) -> None:
        self.ledgers_with: defaultdict[Address, dict[ChannelId, None]] = defaultdict(dict)
        self.users: defaultdict[ChannelId, dict[ChannelId, None]] = defaultdict(dict)
        self.wants: defaultdict[ChannelId, dict[ChannelId, tuple[Proposal, ...]]] = defaultdict(dict)
        self.restless: dict[ChannelId, None] = {}
        self.forwarded: set[ChannelId] = set()
        self.promised: defaultdict[ChannelId, int] = defaultdict(int)
        self.proposed: set[ChannelId] = set()
        self.left: set[ChannelId] = set()
        self.unfunded: defaultdict[ChannelId, set[ChannelId]] = defaultdict(set)
        self._standing: dict[ChannelId, tuple[bool, bool, bool]] = {}  # of a virtual channel, as it was put last
        for ledger in state.ledgers.values():
            self.put_ledger(ledger)
        for virtual in state.virtuals.values():
            self.put_virtual(virtual)

    def put_ledger(self, record: LedgerRecord) -> None:
        """The record as it is now."""
        channel, phase = record.channel, record.phase
        is_open = phase not in ("rejected", "settled")
        known = self.ledgers_with[record.peer]
        if is_open:
            known[channel] = None
        else:
            known.pop(channel, None)
        if phase == "proposed":
            self.proposed.add(channel)
        else:
            self.proposed.discard(channel)
        if record.own_may_arrive and not record.leads:
            self.left.add(channel)
        else:
            self.left.discard(channel)
        self._rest(channel, restless=is_open and (phase != "running" or waits_for_peer(record) != ""))

    def put_virtual(self, record: VirtualRecord) -> None:
        """The record as it is now."""
        channel, over = record.channel_id, record.over
        unfunded = not over and not record.funded
        restless = not over and (
            unfunded or virtual_standing.phase(record) != "running" or virtual_standing.ending(record)
        )
        standing = over, unfunded, restless
        if self._standing.get(channel) == standing:  # most steps change nothing that is kept here
            return
        self._standing[channel] = standing
        for _, side in record.sides:
            ledger = ChannelId(side.ledger)
            users = self.users[ledger]
            if over:
                self.promised[ledger] -= len(record.agreement.assets) if channel in users else 0
                users.pop(channel, None)
            else:
                self.promised[ledger] += len(record.agreement.assets) if channel not in users else 0
                users[channel] = None
            if unfunded:
                self.unfunded[ledger].add(channel)
            else:
                self.unfunded[ledger].discard(channel)
        if record.is_hub and not over:
            self.forwarded.add(channel)
        else:
            self.forwarded.discard(channel)
        self._rest(channel, restless=restless)

    def forget(self, channels: Iterable[ChannelId]) -> None:
        """These have ended and are not kept any more."""
        for channel in channels:
            for known in (self.users, self.wants, self.unfunded, self.promised, self._standing):
                known.pop(channel, None)
        for peer in [peer for peer, known in self.ledgers_with.items() if not known]:
            del self.ledgers_with[peer]

    def put_wants(self, record: VirtualRecord, wants: Iterable[tuple[Address, Proposal]]) -> list[ChannelId]:
        """What a virtual channel wants of its ledgers now; the ledgers of which that is something else than before."""
        changed: list[ChannelId] = []
        wants = tuple(wants)
        for _, side in record.sides:
            ledger = ChannelId(side.ledger)
            now = tuple(proposal for peer, proposal in wants if peer == side.peer)
            if now == self.wants[ledger].get(record.channel_id, ()):
                continue
            changed.append(ledger)
            if now:
                self.wants[ledger][record.channel_id] = now
            else:
                del self.wants[ledger][record.channel_id]
        return changed

    def wanted_of(self, ledger: ChannelId) -> tuple[Proposal, ...]:
        """All that virtual channels want of a ledger."""
        return tuple(proposal for wants in self.wants[ledger].values() for proposal in wants)

    def _rest(self, channel: ChannelId, *, restless: bool) -> None:
        if restless:
            self.restless[channel] = None
        else:
            self.restless.pop(channel, None)
