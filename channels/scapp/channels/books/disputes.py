"""What the chain asks of the books: facts from views, what virtual channels are worth there, wanted transactions. Pure.

Each package settles its own records (`ledger.settling`, `virtual.settling`); here they are told of each other, because
a ledger on chain draws in the channels that it guarantees, and what those are worth there changes the other ledgers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from scapp.channels.books.state import BooksState
from scapp.channels.books.step import NOTHING, Context, Step
from scapp.channels.ledger import chain_view as ledger_chain
from scapp.channels.ledger import leaving as ledger_leaving
from scapp.channels.ledger import settling as ledger_settling
from scapp.channels.ledger.chain_facts import Enforceable
from scapp.channels.ledger.owed import Settled
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.onchain import ChainView, Reveal, Transaction
from scapp.channels.types import ChannelId
from scapp.channels.virtual import chain_view as virtual_chain
from scapp.channels.virtual import defunding
from scapp.channels.virtual import leaving as virtual_leaving
from scapp.channels.virtual import settling as virtual_settling
from scapp.channels.virtual.events import Side
from scapp.channels.virtual.record import VirtualRecord


class Disputes:
    """`app_state` gives the newest state of an app channel that the chain takes. Volatile: what stands here is computed
    again after a restart."""

    def __init__(self, state: BooksState, app_state: Callable[[ChannelId], Enforceable | None]) -> None:
        self._state = state
        self._app_state = app_state
        self._redemptions: dict[ChannelId, Enforceable] = {}
        self._reveals: dict[ChannelId, tuple[Reveal, ...]] = {}
        self._hasty: set[ChannelId] = set()  # ledgers whose payout does not wait for the other party to do it
        self._waits: dict[bytes, tuple[str, int]] = {}  # for what a record waits, and since when by the chain's clock

    # What is known

    def enforceable(self, record: VirtualRecord) -> Enforceable | None:
        """The newest state above turn 1 that this node can show to the chain."""
        if record.agreement.kind == "payment":
            return self._redemptions.get(record.channel_id)
        return self._app_state(record.channel_id) if record.is_app_party else None

    def redeem(self, channel: ChannelId, redemption: Enforceable) -> None:
        """The payments of a channel have ended: this is what the payee takes."""
        self._redemptions[channel] = redemption

    def reveal(self, channel: ChannelId, preimages: Iterable[bytes]) -> bool:
        """These preimages are to be revealed on chain for a payment channel's locks; is that news?"""
        wanted = tuple(map(Reveal, preimages))
        known = self._reveals.pop(channel, ())
        if wanted:
            self._reveals[channel] = wanted
        return wanted != known

    def reveals(self, channel: ChannelId) -> bool:
        """Is a preimage to be revealed for it?"""
        return channel in self._reveals

    def forget(self, channel: ChannelId) -> None:
        """It has ended, and is not kept any more."""
        self._redemptions.pop(channel, None)
        self._reveals.pop(channel, None)
        self._hasty.discard(channel)

    def hasten(self, ledger: ChannelId) -> None:
        """The operator will not wait for the other party to have the ledger paid out."""
        self._hasty.add(ledger)

    def needs_of(self, record: LedgerRecord, context: Context) -> dict[ChannelId, int]:
        """The channels whose outcome a ledger needs on chain, and since when in the chain's seconds."""
        return ledger_settling.needs(record, context)

    def needed_since_s(self, record: VirtualRecord, context: Context) -> int | None:
        """Since when a ledger of this node needs the channel's outcome on chain; None if none does."""
        found = [
            since
            for _, side in record.sides
            if (since := self.needs_of(self._ledger(side), context).get(record.channel_id)) is not None
        ]
        return min(found, default=None)

    def closes_payments(self, record: VirtualRecord, context: Context) -> bool:
        """Must the payments of this channel end now, because it goes to the chain?"""
        return virtual_settling.closes_payments(record, self.needed_since_s(record, context))

    def _settled(self, users: Iterable[ChannelId], context: Context) -> dict[ChannelId, Settled]:
        found: dict[ChannelId, Settled] = {}
        for channel in users:
            record = self._state.virtuals.get(channel)
            if record is None or record.chain is None:
                continue
            settled = virtual_chain.settled(record, self.enforceable(record), context.head_time_s)
            if settled is not None:
                found[channel] = settled
        return found

    def _ledger(self, side: Side) -> LedgerRecord:
        return self._state.ledgers[ChannelId(side.ledger)]

    # Facts

    def on_ledger(
        self, record: LedgerRecord, view: ChainView, users: Iterable[ChannelId], context: Context, followed_to_s: int
    ) -> Step:
        """A view of a ledger that funds these channels; `followed_to_s` as in `ledger.chain_view.on_view`. An older
        state of it that somebody showed may also guarantee channels that have ended."""
        settled = self._settled({*users, *self.needs_of(record, context)}, context)
        return ledger_chain.on_view(record, view, settled, context, followed_to_s)

    def on_virtual(self, record: VirtualRecord, view: ChainView, context: Context) -> Step:
        """A view of a virtual channel."""
        return virtual_chain.on_view(record, view, context)

    def follow(self, record: VirtualRecord, context: Context) -> Step:
        """What follows for a virtual channel from where it and its ledgers stand on chain."""
        if record.over:
            return NOTHING
        left = virtual_leaving.after_redemption(record, self.enforceable(record) is not None)
        if left.events:
            return left
        step = virtual_chain.on_head(record, self.enforceable(record), context) if record.disputed else NOTHING
        for at, side in record.sides:
            if ledger_settling.is_reclaimed(self._ledger(side), record.channel_id):
                step += defunding.ledger_settled(record, at)
        return step

    # Wants

    def ledger_wants(
        self, record: LedgerRecord, users: Iterable[ChannelId], context: Context
    ) -> tuple[Transaction, ...]:
        """What a ledger that funds these channels wants done on chain now."""
        if record.channel in self._hasty:
            terms = msgspec.structs.replace(context.terms, conclude_delay_s=0)
            context = msgspec.structs.replace(context, terms=terms)
        seen = record.chain.seen if record.chain is not None else None
        if seen is None or not seen.finalized(context.head_time_s):  # only then does it matter what they are
            return ledger_settling.wanted(record, {}, context)
        settled = self._settled({*users, *self.needs_of(record, context)}, context)
        return ledger_settling.wanted(record, settled, context)

    def virtual_wants(self, record: VirtualRecord, context: Context) -> tuple[Transaction, ...]:
        """The same for a virtual channel, be it over: an older state of a ledger may need its outcome."""
        needed_since_s = self.needed_since_s(record, context)
        reveals = self._reveals.get(record.channel_id, ())
        if record.over and needed_since_s is None:
            return reveals
        return reveals + virtual_settling.wanted(record, self.enforceable(record), needed_since_s, context)

    # Silence

    def leave_silent_ledger(self, record: LedgerRecord, context: Context) -> Step:
        """Leave a ledger whose other party has owed something for too long; by the node's terms."""
        reason = self._overdue(record.channel, ledger_leaving.waits_for_peer(record), context)
        return ledger_leaving.leave(record, reason) if reason else NOTHING

    def leave_silent_channel(self, record: VirtualRecord, context: Context) -> Step:
        """The same for a virtual channel, and for the ledgers that hold its guarantee though it has ended."""
        reason = self._overdue(record.channel_id, virtual_leaving.waits_for_others(record), context)
        if reason:
            return virtual_leaving.leave(record, reason)
        held_up = virtual_leaving.held_up(record)
        step = NOTHING
        for ledger in held_up:
            reason = self._overdue(ledger + record.channel_id, "a guarantee's removal", context)
            known = self._state.ledgers[ledger]
            if reason and known.usable:
                step += ledger_leaving.leave(known, reason)
        return step

    def excuse(self, record: VirtualRecord) -> None:
        """Nobody is to blame that its guarantees still stand: that wait begins anew."""
        for ledger in virtual_leaving.held_up(record):
            self._waits.pop(ledger + record.channel_id, None)

    def _overdue(self, key: bytes, waits: str, context: Context) -> str:
        """Why to leave now, or nothing. The clock begins anew whenever something else is waited for."""
        if not waits:
            self._waits.pop(key, None)
            return ""
        known, since_s = self._waits.get(key, ("", 0))
        if known != waits or not since_s:
            self._waits[key] = waits, context.head_time_s
            return ""
        return ledger_leaving.exit_due(waits, since_s, context)
