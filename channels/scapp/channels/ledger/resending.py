"""All that the other party of a ledger may lack, computed from the record: said when a link comes up, at start, and
from time to time while this node waits (ADR 0007). Whoever has it already takes it without harm."""

from __future__ import annotations

from collections.abc import Iterable

from scapp.channels.ledger.asking import ask_message
from scapp.channels.ledger.closing import final_again
from scapp.channels.ledger.consensus import FOLLOWER
from scapp.channels.ledger.messages import AskClose, AskStanding, LedgerMessage, SignStage
from scapp.channels.ledger.opening import open_again
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.setup import POSTFUND, PREFUND
from scapp.channels.ledger.updating import agreed, updates_message


def pending(record: LedgerRecord) -> tuple[LedgerMessage, ...]:
    """In the order in which it is to be said."""
    if _is_over(record):
        return ()
    if record.recovering:
        # What is proposed again may never have arrived, and then nobody could answer.
        again = (open_again(record),) if record.leads and not record.prefund[FOLLOWER] else ()
        return (*again, AskStanding(record.channel, record.token))
    if record.final is not None:
        return final_again(record)
    found: list[LedgerMessage] = [*_of_opening(record)]
    ledger = record.ledger
    if ledger is not None and record.leads and ledger.queue:
        found.append(updates_message(ledger))
    found += [send.message for send in agreed(record)] if not record.leads else []
    if record.requests:
        found.append(ask_message(record, record.requests))
    if record.closing_by == FOLLOWER and not record.leads:
        found.append(AskClose(record.channel))
    return tuple(found)


def _is_over(record: LedgerRecord) -> bool:
    """Is there nothing to say, or nothing yet? Of one that was left unfunded the other party may not know."""
    return record.phase in ("rejected", "proposed") or (record.phase == "settled" and not record.left_unfunded)


def _of_opening(record: LedgerRecord) -> tuple[LedgerMessage, ...]:
    mine = record.setup.my_index
    ledger = record.ledger
    if record.leads and not record.prefund[FOLLOWER]:
        return (open_again(record),)
    found: list[LedgerMessage] = []
    if not record.leads and ledger is None:
        found.append(SignStage(record.channel, PREFUND, record.prefund[mine]))
    if record.postfund[mine] and (ledger is None or ledger.current.turn == POSTFUND):
        found.append(SignStage(record.channel, POSTFUND, record.postfund[mine], answer=ledger is None))
    return tuple(found)


def waits_for_peer(record: LedgerRecord, others: Iterable[LedgerRecord] = ()) -> bool:
    """Is it the other party's turn to answer, so that what is pending is worth saying again? `others`: the open ledgers
    with it. Whoever has signed one of those has ended what was left unfunded before, or it breaks the rules."""
    if _is_over(record) or (record.left_unfunded and any(b"" not in each.prefund for each in others)):
        return False
    if record.recovering:
        return True
    if record.final is not None:
        return not record.final.complete
    ledger = record.ledger
    if ledger is None:
        return (
            record.phase == "opening" or bool(record.postfund[record.setup.my_index]) or record.closing_by is not None
        )
    return bool(ledger.queue or record.requests) or (record.closing_by is not None and not record.leads)
