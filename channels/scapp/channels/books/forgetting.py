"""What the books may forget of what has ended, so that memory and snapshots do not grow with what others propose.

An id is never used a second time (rule 9), though it is not remembered: nonces say when their channel was proposed, and
nothing is begun that is as old as what was forgotten. Ended channels that a ledger has guaranteed are kept as long as
that ledger is open: somebody may take an old state of it to the chain, and then their outcomes are needed. A ledger is
kept as long as any channel over it: others may still say something of that one; and one that was left before anybody
had deposited, until both have signed its end, if a deposit of this node's own may still come: it is taken back. Pure.
"""

from __future__ import annotations

from scapp.channels.books.events import Forgotten
from scapp.channels.books.state import BooksState
from scapp.channels.types import ChannelId
from scapp.channels.virtual.agreement import opened_ms
from scapp.channels.virtual.record import VirtualRecord

KEPT_MAX = 2_048  # ended records that are kept though they may go, the newest ones
AT_LEAST_MS = 3_600_000  # what is younger stays: proposals of that age may still be on their way


def forgettable(state: BooksState, now_ms: int) -> Forgotten | None:
    """The oldest of what has ended, beyond what is kept; None if there is nothing to forget. Looks at everything."""
    ended: list[tuple[int, ChannelId]] = []
    for virtual in state.virtuals.values():
        if virtual.over and not any(_may_need(state, virtual, ChannelId(side.ledger)) for _, side in virtual.sides):
            ended.append((opened_ms(virtual.agreement.fixed.nonce), virtual.channel_id))
    for ledger in state.ledgers.values():
        if not ledger.is_open and not ledger.own_may_arrive:
            ended.append((opened_ms(ledger.setup.fixed.nonce), ledger.channel))
    old = sorted(item for item in ended if item[0] <= now_ms - AT_LEAST_MS)
    leaving = old[: max(0, len(ended) - KEPT_MAX)]
    going = {channel for _, channel in leaving}
    staying = (each for channel, each in state.virtuals.items() if channel not in going)
    named = {side.ledger for each in staying for _, side in each.sides}
    leaving = [item for item in leaving if item[1] not in named]
    return Forgotten(tuple(channel for _, channel in leaving), leaving[-1][0]) if leaving else None


def _may_need(state: BooksState, record: VirtualRecord, ledger: ChannelId) -> bool:
    """May the ledger come to need the channel's outcome? It has guaranteed it, and its old states count."""
    known = state.ledgers.get(ledger)
    return not record.rejected and known is not None and known.is_open
