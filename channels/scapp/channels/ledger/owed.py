"""What a finalized ledger owes now: found among all that strangers can have made of what was registered.

Anybody may reclaim guarantees and pay allocations out, in any order; the chain keeps no more of it than a fingerprint.
The search begins with what was found before: a node that follows its ledger has one step to find, or a few.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

import msgspec

from scapp.channels.abi import InvalidValue
from scapp.channels.adjudicator_status import fingerprint
from scapp.channels.chain.calls import decode_outcome
from scapp.channels.chain.judging import state_hash_of
from scapp.channels.channel.chain_rules import amounts
from scapp.channels.crypto import keccak256
from scapp.channels.ledger.chain_facts import LedgerSeen
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.setup import POSTFUND, PREFUND
from scapp.channels.ledger.signed import newest_enforceable, signed_state
from scapp.channels.outcome import AllocationType, Outcome, SingleAssetExit, encode_outcome
from scapp.channels.payouts import predict_reclaim, transfer_effects
from scapp.channels.reading import SignedState
from scapp.channels.types import ZERO_HASH, ChannelId, Hash

TRIES_MAX = 4_096  # seconds at most, for a ledger with many guarantees


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What a virtual channel is finalized with on chain. It never changes: such a channel pays nothing out."""

    state_hash: Hash
    outcome: Outcome


class Reclaimable(msgspec.Struct, frozen=True, gc=False):
    """A guarantee whose channel is finalized, by its place in the ledger's outcome and the asset's in the channel's."""

    asset_index: int
    guarantee_index: int
    target: Settled
    target_asset_index: int


def owed(
    record: LedgerRecord, fact: LedgerSeen, settled: Mapping[ChannelId, Settled], now_s: int
) -> tuple[bytes, bytes] | None:
    """State hash and encoded outcome whose fingerprint the ledger has in the newest block; None when it is not
    finalized, or not with anything that is known here."""
    if not fact.seen.finalized(now_s):
        return None
    target = fact.latest.status.fingerprint
    seen: set[tuple[bytes, bytes]] = set()
    queue: deque[tuple[Hash, Outcome]] = deque(_starts(record, fact))
    for state_hash, outcome in queue:  # usually one of these, and nothing need be worked out
        encoded = encode_outcome(outcome)
        if fingerprint(state_hash, Hash(keccak256(encoded))) == target:
            return state_hash, encoded
    queue.extend([(state_hash, _reclaimed(outcome, settled)) for state_hash, outcome in queue])
    while queue and len(seen) < TRIES_MAX:
        state_hash, outcome = queue.popleft()
        encoded = encode_outcome(outcome)
        if (state_hash, encoded) in seen:
            continue
        if fingerprint(state_hash, Hash(keccak256(encoded))) == target:
            return state_hash, encoded
        seen.add((state_hash, encoded))
        queue.extend((state_hash, later) for later in _later(record, fact, outcome, settled))
    return None


def reclaimable(outcome: Outcome, settled: Mapping[ChannelId, Settled]) -> Iterator[Reclaimable]:
    """The guarantees that can be reclaimed now, in the outcome's order."""
    for asset_index, exit_ in enumerate(outcome):
        for index, allocation in enumerate(exit_.allocations):
            found = settled.get(ChannelId(allocation.destination))
            if allocation.allocation_type != AllocationType.GUARANTEE or found is None:
                continue
            for target_index, target in enumerate(found.outcome):
                if target.asset == exit_.asset:
                    yield Reclaimable(asset_index, index, found, target_index)


def after_reclaim(outcome: Outcome, each: Reclaimable) -> Outcome:
    """The ledger's outcome after it. Raises InvalidValue where the contract refuses."""
    exit_ = outcome[each.asset_index]
    target = each.target.outcome[each.target_asset_index].allocations
    left = predict_reclaim(exit_.allocations, target, each.guarantee_index)
    return _with(outcome, each.asset_index, msgspec.structs.replace(exit_, allocations=left))


def _starts(record: LedgerRecord, fact: LedgerSeen) -> Iterator[tuple[Hash, Outcome]]:
    """What was found before, and what may have been registered or concluded. A conclusion records no state hash."""
    known = record.chain
    if known is not None and known.owed is not None:
        yield Hash(known.owed[0]), decode_outcome(known.owed[1])
    for state in _states(record, fact):
        outcome = decode_outcome(state.outcome)
        yield state_hash_of(state), outcome
        if state.is_final:
            yield ZERO_HASH, outcome


def _states(record: LedgerRecord, fact: LedgerSeen) -> Iterator[SignedState]:
    for at in (fact.latest, fact.confirmed):
        if at.registered is not None:
            yield at.registered.candidate
    newest, setup, unsigned = newest_enforceable(record), record.setup, (b"", b"")
    if newest is not None:
        yield newest
    if record.final is not None:
        yield signed_state(setup, record.final.balances, unsigned, is_final=True)
    if record.ledger is not None:
        yield signed_state(setup, record.ledger.current, unsigned)
        for queued in record.ledger.queue:
            yield signed_state(setup, queued.after, unsigned)
    for turn in (POSTFUND, PREFUND):
        yield signed_state(setup, setup.stage(turn), unsigned)


def _reclaimed(outcome: Outcome, settled: Mapping[ChannelId, Settled]) -> Outcome:
    """With everything reclaimed that can be: what a ledger comes to when nobody disturbs it."""
    while True:
        for each in reclaimable(outcome, settled):
            try:
                outcome = after_reclaim(outcome, each)
                break
            except InvalidValue:
                continue
        else:
            return outcome


def _later(
    record: LedgerRecord, fact: LedgerSeen, outcome: Outcome, settled: Mapping[ChannelId, Settled]
) -> Iterator[Outcome]:
    """What one call of anybody makes of it."""
    for each in reclaimable(outcome, settled):
        try:
            yield after_reclaim(outcome, each)
        except InvalidValue:
            continue
    held_of = amounts(fact.held)
    for at, exit_ in enumerate(outcome):
        items = exit_.allocations
        for index, item in enumerate(items):
            if item.amount and item.allocation_type != AllocationType.GUARANTEE:
                paid = (*items[:index], msgspec.structs.replace(item, amount=0), *items[index + 1 :])
                yield _with(outcome, at, msgspec.structs.replace(exit_, allocations=paid))
        if any(item.allocation_type == AllocationType.GUARANTEE for item in items):
            continue
        shares = (share[at].target for share in record.setup.shares.of)
        for held in dict.fromkeys((held_of[at], *shares, 0)):  # too little may have been there
            remaining = transfer_effects(held, items).remaining
            yield _with(outcome, at, msgspec.structs.replace(exit_, allocations=remaining))


def _with(outcome: Outcome, at: int, exit_: SingleAssetExit) -> Outcome:
    return (*outcome[:at], exit_, *outcome[at + 1 :])
