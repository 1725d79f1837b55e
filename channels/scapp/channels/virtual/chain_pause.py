"""What a virtual channel waits for on chain, in words, while it is being settled there."""

from __future__ import annotations

from scapp.channels.virtual.record import VirtualRecord


def chain_pause(record: VirtualRecord) -> str:
    """The pause point of a channel that is disputed, or that this node wants settled on chain."""
    if record.chain is None:
        return "the chain to be read"
    status = record.chain.seen.latest.status
    if status.finalizes_at:
        ends = f"at {status.finalizes_at} by the chain's clock"
        return f"the outcome of turn {status.turn_record} to be final {ends}, or a newer state before that"
    if record.exit_reason:
        return "the newest state to be registered on chain"
    return "the chain to confirm that no challenge stands"
