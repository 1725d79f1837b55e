"""What the chain shows of a ledger, as the fact that its record keeps."""

from __future__ import annotations

from scapp.channels.adjudicator_status import Mode
from scapp.channels.books.step import NOTHING, Step
from scapp.channels.books.wire import to_wire_amount
from scapp.channels.ledger.chain_facts import LedgerSeen, Seen, Shown
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.onchain import ChainView, ChannelOnChain


def seen_ledger(record: LedgerRecord, view: ChainView, head_time_s: int) -> Step:
    """A view of a ledger; nothing when it shows what is known."""
    known = record.chain
    latest, confirmed = _shown(view.latest), _shown(view.confirmed)
    held = known.held if known is not None else latest.holdings
    ended = known is not None and known.ended
    if latest.status.mode(head_time_s) is Mode.FINALIZED:
        ended = True
    elif known is not None and record.final is not None and record.final.complete:
        ended = ended or (any(map(any, held)) and not any(map(any, latest.holdings)))
    if not ended:
        held = max(held, latest.holdings)
    fact = LedgerSeen(record.channel, Seen(latest, confirmed, head_time_s), ended, held)
    if known is not None and _plain(known) == _plain(fact):
        return NOTHING
    return Step((fact,))


def _shown(found: ChannelOnChain) -> Shown:
    return Shown(found.block, found.block_hash, tuple(map(to_wire_amount, found.holdings)), found.status)


def _plain(fact: LedgerSeen) -> object:
    latest, confirmed = fact.seen.latest, fact.seen.confirmed
    return latest.holdings, latest.status, confirmed.holdings, confirmed.status, fact.ended, fact.held
