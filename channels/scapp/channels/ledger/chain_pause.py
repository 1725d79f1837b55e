"""What a ledger waits for on chain, in words, while it is disputed there."""

from __future__ import annotations

from scapp.channels.chain.calls import decode_outcome
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.settling import guaranteed
from scapp.channels.ledger.signed import newest_enforceable


def chain_pause(record: LedgerRecord) -> str:
    """The pause point of a disputed ledger."""
    seen, newest = record.chain, newest_enforceable(record)
    if seen is None or newest is None:
        return "the chain to be read"
    status = seen.latest.status
    if seen.owed is not None:
        kept = len(set(guaranteed(decode_outcome(seen.owed[1]))))
        return f"the guarantees of {kept} virtual channels to be reclaimed" if kept else "the payout"
    if seen.ended:
        return "what the ledger owes on chain, which is not known here" if status.finalizes_at else "the payout"
    if not status.finalizes_at:
        if record.exit_reason and newest.turn >= status.turn_record:
            if not any(map(any, seen.latest.holdings)):
                return "nothing: no money is there, so there is nothing to take out; what comes is challenged for"
            return f"our challenge with turn {newest.turn} to be registered"
        return "the end of the challenge to be confirmed"
    challenged = f"the challenge of turn {status.turn_record}"
    if newest.turn > status.turn_record:
        return f"{challenged} to be answered with turn {newest.turn}"
    return f"{challenged} to end at {status.finalizes_at} by the chain's clock"
