"""What the next step will need, computed while this node waits for the network (ADR 0078). Pure: it fills the memos of
functions whose inputs are values, so a wrong guess costs time and nothing else. Nothing is signed or stored ahead."""

from __future__ import annotations

from scapp.channels.books.engine import Books
from scapp.channels.ledger.proposals import Proposal, ProposalRefused, apply_new
from scapp.channels.ledger.updating import followed
from scapp.channels.types import ChannelId
from scapp.channels.virtual import funding
from scapp.channels.virtual.events import Side
from scapp.channels.virtual.record import VirtualRecord


def compute(books: Books, touched: tuple[ChannelId, ...]) -> None:
    """Of the virtual channel that the last step has touched, if it is a single one: with many under way the ledgers go
    on before the answer comes."""
    virtuals = [books.state.virtuals[channel] for channel in touched if channel in books.state.virtuals]
    if len(virtuals) != 1:
        return
    record = virtuals[0]
    if record.accepted and not (record.over or record.recovering):
        _postfund(record)
        _ledgers(books, record)


def _postfund(record: VirtualRecord) -> None:
    known = record.postfund
    if known is not None and not record.funded:
        record.hash_of("postfund", known.turn, known.amounts, known.app_data)


def _ledgers(books: Books, record: VirtualRecord) -> None:
    """The ledgers with what the channel wants of them, or will want first, if nothing else comes between."""
    for at, side in record.sides:
        ledger = books.state.ledgers[ChannelId(side.ledger)]
        if ledger.ledger is None or not ledger.usable:
            continue
        now = ledger.ledger if side.leads else followed(ledger, books.session(ledger.channel))
        try:
            for change in books.index.wants[ledger.channel].get(record.channel_id) or _first(record, at, side):
                apply_new(now.proposed, change).state_hash(ledger.channel)
        except ProposalRefused:
            continue  # it is proposed already, or the ledger cannot take it: whoever proposes it finds out


def _first(record: VirtualRecord, at: int, side: Side) -> tuple[Proposal, ...]:
    """The guarantee, while the prefund state is not complete."""
    return () if record.prefund.complete else (funding.guarantee(record, at, side),)
