"""What follows in a ledger by itself, once its record has changed. Read from top to bottom like a flowchart."""

from __future__ import annotations

from scapp.channels.books.step import NOTHING, Context, Step
from scapp.channels.ledger.chain_view import on_head, taken_back
from scapp.channels.ledger.closing import close, finish
from scapp.channels.ledger.funding import is_funded
from scapp.channels.ledger.opening import sign_stage
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.setup import POSTFUND
from scapp.channels.ledger.updating import merges


def crank(record: LedgerRecord, context: Context) -> Step:
    """The next facts; called until it gives nothing more. Signs nothing while this node recovers."""
    if record.recovering or record.rejected_by is not None:
        return NOTHING
    phase = record.phase
    if phase == "disputed" and (ended := on_head(record, context)).events:
        return ended
    if record.closing_by is not None:
        return finish(record, context)
    if record.left_unfunded:  # the other party, whom nothing on chain tells, has to end it too
        return close(record)
    if phase == "funding":
        unsigned = not record.postfund[record.setup.my_index]
        return sign_stage(record, POSTFUND, context) if unsigned and is_funded(record) else NOTHING
    return taken_back(record) + merges(record, context)
