"""A virtual channel that will not be funded: who may decide it, and the state that undoes it (ADR 0015).

Before everybody has signed the prefund state nothing is at stake: a refusal is enough. After that everybody signs the
aborted state, final and with the initial amounts, and the guarantees are taken out with the fees returned. Whoever has
signed the postfund state cannot begin this, only ask for it: then either somebody has not signed, who can, or everybody
has, and the channel is funded. Nobody signs both because of its own decision.
"""

from __future__ import annotations

from scapp.channels.books.step import Context
from scapp.channels.virtual.events import EndWanted, Rejected, VirtualEvent
from scapp.channels.virtual.milestones import sign
from scapp.channels.virtual.record import VirtualRecord


def decide(record: VirtualRecord, impossible: str, context: Context) -> VirtualEvent | None:
    """The next fact of giving the channel up, if there is reason to."""
    if record.rejected or record.funded or record.signed(record.aborted) or record.signed(record.final):
        return None
    if record.aborting:
        return _join(record, context)
    reason = _reason(record, impossible, context)
    if not reason:
        return None
    if not record.prefund.complete:
        return Rejected(record.channel_id, record.my_index, reason)
    if not may_abort(record):
        return None if record.end_wanted or record.is_hub else EndWanted(record.channel_id, reason)
    if not record.end_wanted:
        return EndWanted(record.channel_id, reason)  # so that everybody hears why
    return sign(record, "aborted", context)


def may_abort(record: VirtualRecord) -> bool:
    """Has this node certainly not signed the postfund state? An app's engine may have as soon as it was told of the
    guarantee, before it is known here."""
    return not record.signed(record.postfund) and not (record.is_app_party and record.guaranteed)


def deadline_ms(record: VirtualRecord, context: Context) -> int | None:
    """When the time for funding is over, by this node's clock; None if it is not limited or does not matter any
    more."""
    timeout_s = context.terms.virtual_timeout_s
    if not timeout_s or record.over or record.funded or record.recovering or record.aborting or record.end_wanted:
        return None
    if not may_abort(record) and record.is_hub:
        return None
    return record.created_ms + timeout_s * 1000


def _join(record: VirtualRecord, context: Context) -> VirtualEvent | None:
    """Somebody has signed the aborted state."""
    if record.prefund.complete:
        return sign(record, "aborted", context)
    if not record.accepted:
        return Rejected(record.channel_id, record.my_index, "given up before this node joined")
    return None  # who aborts has the complete prefund state, and says it


def _reason(record: VirtualRecord, impossible: str, context: Context) -> str:
    if record.rejected_by >= 0 or record.end_wanted:
        return record.reason
    if impossible and not record.guaranteed:
        return impossible
    deadline = deadline_ms(record, context)
    if deadline is not None and context.now_ms >= deadline:
        return f"not funded within {context.terms.virtual_timeout_s} s"
    return ""
