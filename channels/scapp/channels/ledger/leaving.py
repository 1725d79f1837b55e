"""Leaving a ledger by a challenge: when the operator says so, or when the other party has been silent for too long."""

from __future__ import annotations

from scapp.channels.books.step import NOTHING, Context, Step
from scapp.channels.channel.leaving import REASON_MAX
from scapp.channels.errors import LocalError
from scapp.channels.ledger.chain_facts import LedgerExitStarted
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.signed import newest_enforceable


def leave(record: LedgerRecord, reason: str) -> Step:
    """From here on nothing but a final state is signed in the ledger, and its newest state is taken to the chain, with
    the virtual channels that it guarantees. One that nobody has paid into is settled with that (`crank` asks the other
    party to end it too). Raises LocalError when there is nothing that could be ended."""
    if record.rejected_by is not None or newest_enforceable(record) is None:
        raise LocalError(f"the ledger is {record.phase}: no state is signed by both, reject it")
    if record.final is not None and record.final.complete:
        raise LocalError(f"the ledger is {record.phase}: its final state is signed by both and pays out")
    if record.phase == "settled":
        raise LocalError("the ledger is settled: everything is paid out")
    if record.recovering:  # rule 10: our newest state may be an old one, and to claim it would be a cheat's challenge
        raise LocalError("the ledger is recovering: what was signed last is not known yet")
    if record.exit_reason:
        return NOTHING
    return Step((LedgerExitStarted(record.channel, reason[:REASON_MAX]),))


def waits_for_peer(record: LedgerRecord) -> str:
    """What the other party owes this node in the ledger, in words; empty when it owes nothing. Of guarantees that no
    virtual channel needs any more, `virtual.leaving.held_up` tells."""
    final, ledger = record.final, record.ledger
    if record.phase in ("rejected", "settled", "closed", "recovering") or record.exit_reason:
        return ""
    if record.closing_by is not None and not record.has_guarantees and (final is None or not final.complete):
        return "the final state"
    if ledger is not None and ((record.leads and ledger.queue) or record.requests):
        return "its signature under a change" if record.leads else "a change that it leads"
    if ledger is None and b"" not in record.prefund:
        return "its deposit, or its signature under the postfund state"
    return ""


def exit_due(waits: str, since_s: int, context: Context) -> str:
    """Why this node should leave now by its terms, or an empty string. `since_s`: since when it has waited without any
    progress, in the chain's seconds."""
    timeout_s, waited_s = context.terms.silence_timeout_s, context.head_time_s - since_s
    if not waits or not timeout_s or not since_s or waited_s < timeout_s:
        return ""
    return f"waited {waited_s} seconds for {waits}"
