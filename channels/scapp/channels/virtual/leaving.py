"""Taking a virtual channel to the chain: to redeem a voucher, or because the others do not end it."""

from __future__ import annotations

from scapp.channels.books.step import NOTHING, Step
from scapp.channels.channel.leaving import REASON_MAX
from scapp.channels.errors import LocalError
from scapp.channels.ledger.chain_facts import VirtualExitStarted
from scapp.channels.types import ChannelId
from scapp.channels.virtual.record import VirtualRecord
from scapp.channels.virtual.settling import is_redeemed


def leave(record: VirtualRecord, reason: str) -> Step:
    """From here on the channel is settled on chain: by its final state if everybody has signed it, else by the newest
    state that this node can show. So a voucher is redeemed. The ledgers follow off chain if their other parties answer
    (`defunding.removals`), else they are left as well (`held_up`). Raises LocalError when there is nothing to
    settle."""
    if not record.prefund.complete:
        raise LocalError("not everybody has signed the prefund state: nothing is at stake, reject the channel")
    if record.over:
        raise LocalError("the channel has ended: no ledger of this node holds its guarantee any more")
    if record.recovering:
        raise LocalError("the channel is recovering: what was signed last is not known yet")
    return NOTHING if record.exit_reason else Step((VirtualExitStarted(record.channel_id, reason[:REASON_MAX]),))


def after_redemption(record: VirtualRecord, ready: bool) -> Step:
    """A watchtower has redeemed a voucher of this payee on chain, which cleared a challenge: the payee goes on there,
    with the redemption of all that it holds, before somebody shows the same again. `ready`: it has made that."""
    if not ready or record.right is not None or record.exit_reason or record.ended is not None or record.recovering:
        return NOTHING
    stands = record.chain is not None and record.chain.seen.latest.status.finalizes_at != 0
    if stands or not is_redeemed(record):
        return NOTHING
    return leave(record, "a voucher was redeemed on chain for this node")


def waits_for_others(record: VirtualRecord) -> str:
    """What others owe this node for the end of the channel, in words; empty when they owe nothing, or when it is being
    settled on chain."""
    if record.over or record.recovering or record.disputed or record.exit_reason or record.on_chain is not None:
        return ""
    if record.ended is not None or not (record.end_wanted or record.aborting or record.final is not None):
        return ""
    return "signatures under the channel's last state" if any(record.held) else ""


def held_up(record: VirtualRecord) -> tuple[ChannelId, ...]:
    """Ledgers whose other party has still to sign that the guarantee goes, though all know what it is worth: what to
    leave (`ledger.leaving.leave`) when that lasts for too long. One that is on chain is reclaimed there instead."""
    if record.ended is None and record.on_chain is None:
        return ()
    return tuple(ChannelId(side.ledger) for at, side in record.sides if record.held[at] and not record.gone[at])
