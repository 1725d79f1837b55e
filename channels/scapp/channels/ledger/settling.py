"""What a node wants done on chain with a ledger: read from top to bottom like a flowchart, computed, never stored.

Deposits and the conclusion of a ledger that both parties end stand in `funding.py`. Here are disputes: an older state
is answered at once; whoever leaves challenges with the newest; and out of a finalized ledger the guarantees are
reclaimed, one after the other, before anything is paid out. That needs the virtual channels' outcomes on chain, so a
dispute of a ledger draws in the channels that it guarantees (`needs`); these are `virtual.settling`'s. ADR 0056.
"""

from __future__ import annotations

from collections.abc import Mapping

from scapp.channels.abi import InvalidValue
from scapp.channels.adjudicator_status import Mode
from scapp.channels.books.step import Context
from scapp.channels.chain.calls import decode_outcome
from scapp.channels.channel.chain_rules import amounts
from scapp.channels.ledger import funding
from scapp.channels.ledger.chain_facts import LedgerSeen
from scapp.channels.ledger.owed import Settled, after_reclaim, owed, reclaimable
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.signed import newest_enforceable
from scapp.channels.onchain import Challenge, Checkpoint, Reclaim, Transaction, Transfer, TransferAll
from scapp.channels.outcome import AllocationType, Outcome
from scapp.channels.reading import SignedState
from scapp.channels.types import ChannelId, Hash

BLOCKED_AFTER = 3  # so many delays: a payout to both that did not get in by then is left for one's own


def wanted(record: LedgerRecord, settled: Mapping[ChannelId, Settled], context: Context) -> tuple[Transaction, ...]:
    """The transactions that this node wants for the ledger in the chain's next blocks. None before the chain has been
    seen. `settled`: as in `chain_view.on_view`."""
    seen = record.chain
    if seen is None or not context.head_time_s or record.rejected_by is not None or seen.settled:
        return ()
    mode = seen.latest.status.mode(context.head_time_s)
    if mode is Mode.FINALIZED:
        return _after(record, seen, settled, context)
    concluding = funding.wanted(record, context)
    if concluding or (record.final is not None and record.final.complete):
        return concluding
    if mode is Mode.CHALLENGE:
        return _answer(record, seen)
    return _leave(record, seen) if record.exit_reason else ()


def needs(record: LedgerRecord, context: Context) -> dict[ChannelId, int]:
    """The virtual channels whose outcome this ledger needs on chain, and since when in the chain's seconds: those that
    it guarantees there once it is under challenge or finalized, and those it is about to be challenged with."""
    seen = record.chain
    if seen is None or seen.settled or record.rejected_by is not None:
        return {}
    mode = seen.latest.status.mode(context.head_time_s)
    if mode is Mode.OPEN:
        if not record.exit_reason or seen.ended:
            return {}  # asked at every turn of a virtual channel: nothing is encoded before this
        newest = newest_enforceable(record)
        leaves = newest is not None and not newest.is_final
        return dict.fromkeys(guaranteed(decode_outcome(newest.outcome)), 0) if leaves and newest is not None else {}
    outcome = _owing(record, seen) if mode is Mode.FINALIZED else _challenged(record, seen)
    return dict.fromkeys(guaranteed(decode_outcome(outcome)), seen.seen.time_s) if outcome else {}


def _owing(record: LedgerRecord, seen: LedgerSeen) -> bytes:
    """Of a finalized ledger: what it owes. A challenge ends without a view, so no fact may say it yet: then it is the
    registered state's. Empty when that is not known."""
    if seen.owed is not None:
        return seen.owed[1]
    if seen.latest.registered is not None:
        return seen.latest.registered.candidate.outcome
    newest = _newest(record, seen)
    return newest.outcome if newest is not None and newest.turn == seen.latest.status.turn_record else b""


def _challenged(record: LedgerRecord, seen: LedgerSeen) -> bytes:
    """Of a ledger under challenge: what it will owe. Empty when it will go on, or end by its final state."""
    newest = _newest(record, seen)
    if newest is None or newest.is_final:
        return b""
    clears = newest.turn > seen.latest.status.turn_record and not record.exit_reason
    return b"" if clears else newest.outcome


def is_reclaimed(record: LedgerRecord, channel: ChannelId) -> bool:
    """Does the ledger, which is finalized on chain for good, hold no guarantee for the channel any more? That one's
    record hears of it by `virtual.defunding.ledger_settled`."""
    seen = record.chain
    if seen is None or not seen.ended:
        return False
    if seen.settled:
        return True
    certain = seen.owed is not None and seen.latest.status == seen.confirmed.status
    return certain and seen.owed is not None and channel not in guaranteed(decode_outcome(seen.owed[1]))


def guaranteed(outcome: Outcome) -> list[ChannelId]:
    """The channels of the guarantees in an outcome, asset by asset."""
    return [
        ChannelId(item.destination)
        for exit_ in outcome
        for item in exit_.allocations
        if item.allocation_type == AllocationType.GUARANTEE
    ]


def _newest(record: LedgerRecord, seen: LedgerSeen) -> SignedState | None:
    """The newest state under both signatures: ours, or one that the other has shown to the chain."""
    newest = newest_enforceable(record)
    for at in (seen.latest, seen.confirmed):
        shown = at.registered
        if shown is not None and (newest is None or shown.turn > newest.turn):
            newest = shown.candidate
    return newest


def _answer(record: LedgerRecord, seen: LedgerSeen) -> tuple[Transaction, ...]:
    """A challenge stands: one with an older state is answered at once, one with the newest is waited for."""
    newest = _newest(record, seen)
    if newest is None or newest.turn <= seen.latest.status.turn_record:
        return ()
    leaves = record.exit_reason and not record.recovering  # rule 10
    return (Challenge(newest),) if leaves else (Checkpoint(newest),)


def _leave(record: LedgerRecord, seen: LedgerSeen) -> tuple[Transaction, ...]:
    newest = _newest(record, seen)
    if seen.ended or record.recovering or newest is None or newest.turn < seen.latest.status.turn_record:
        return ()
    if not any(amounts(seen.latest.holdings)):
        return ()  # nothing to take out
    return (Challenge(newest),)


def _after(
    record: LedgerRecord, seen: LedgerSeen, settled: Mapping[ChannelId, Settled], context: Context
) -> tuple[Transaction, ...]:
    """The ledger is finalized: reclaim, then pay out. The leader at once, the follower a while later if that is still
    to be done, so that usually one of them pays for it."""
    waited_s = context.head_time_s - max(seen.seen.time_s, seen.latest.status.finalizes_at)
    delay_s = context.terms.conclude_delay_s
    known = owed(record, seen, settled, context.head_time_s)
    if known is None or not any(amounts(seen.latest.holdings)) or (not record.leads and waited_s < delay_s):
        return ()
    state_hash, outcome = Hash(known[0]), decode_outcome(known[1])
    reclaim = _reclaim(state_hash, outcome, settled)
    if reclaim is not None:
        return (reclaim,)
    if seen.confirmed.status.mode(context.head_time_s) is not Mode.FINALIZED:
        return ()
    mine = _own_transfers(record, seen, state_hash, outcome)
    if guaranteed(outcome):  # its channel is not finalized yet: what is certain need not wait for it
        return mine if waited_s >= delay_s else ()
    blocked = waited_s >= BLOCKED_AFTER * delay_s
    return (TransferAll(outcome, state_hash), *(mine if blocked else ()))


def _reclaim(state_hash: Hash, outcome: Outcome, settled: Mapping[ChannelId, Settled]) -> Reclaim | None:
    """The first guarantee that can be reclaimed; the next one when this one shows in the ledger's outcome."""
    for each in reclaimable(outcome, settled):
        try:
            after_reclaim(outcome, each)
        except InvalidValue:
            continue
        target = each.target
        return Reclaim(
            outcome, state_hash, each.asset_index, each.guarantee_index,
            target.outcome, target.state_hash, each.target_asset_index,
        )  # fmt: skip
    return None


def _own_transfers(
    record: LedgerRecord, seen: LedgerSeen, state_hash: Hash, outcome: Outcome
) -> tuple[Transaction, ...]:
    """This node's own allocations alone, asset by asset: past an account of the other that refuses payment, and past
    guarantees that cannot be reclaimed yet. One at a time, for each changes the outcome that the next has to name."""
    mine = record.setup.opening.parties.of(record.setup.my_index)
    for at, (exit_, held) in enumerate(zip(outcome, amounts(seen.latest.holdings), strict=True)):
        indices = tuple(
            index
            for index, item in enumerate(exit_.allocations)
            if item.destination == mine and item.amount and item.allocation_type != AllocationType.GUARANTEE
        )
        if held and indices:
            return (Transfer(at, outcome, state_hash, indices),)
    return ()
