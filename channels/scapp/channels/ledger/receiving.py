"""One message of the other party of a known ledger, to where it is decided."""

from __future__ import annotations

from scapp.channels.books.step import NOTHING, Context, Step
from scapp.channels.errors import PeerError
from scapp.channels.ledger import asking, closing, opening, recovery, updating
from scapp.channels.ledger.messages import (
    Agree,
    Ask,
    AskClose,
    AskStanding,
    Decline,
    LedgerMessage,
    OpenLedger,
    RejectLedger,
    SignFinal,
    SignStage,
    TellStanding,
    Updates,
)
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.session import LedgerSession


def receive(record: LedgerRecord, session: LedgerSession, message: LedgerMessage, context: Context) -> Step:
    """What follows from a message about this ledger by its other party; whoever calls has checked that it is by
    `record.peer`. Raises PeerError for one that changes nothing. A proposed ledger is `opening.receive_open`'s."""
    if record.recovering and not isinstance(message, AskStanding | TellStanding | RejectLedger):
        return NOTHING  # what matters of it comes with the answer to this node's question
    match message:
        case OpenLedger():
            raise PeerError("proposes a ledger that is known; only its leader may")
        case RejectLedger():
            return opening.receive_rejected(record, session, message)
        case SignStage():
            return opening.receive_stage(record, message)
        case Updates():
            return updating.receive_updates(record, session, message)
        case Agree():
            return updating.receive_agreed(record, message)
        case Ask():
            return asking.receive_ask(record, message, context)
        case Decline():
            return asking.receive_declined(record, message)
        case AskClose():
            return closing.receive_ask_close(record)
        case SignFinal():
            return closing.receive_final(record, message, context)
        case AskStanding():
            return recovery.receive_ask_standing(record, session, message)
        case TellStanding():
            return recovery.receive_standing(record, session, message, context)
