"""Paying out a finalized channel: which outcome the chain has recorded, found among all that it can be."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations, islice, product

from scapp.channels.adjudicator_status import Mode, fingerprint
from scapp.channels.channel.chain_rules import amounts
from scapp.channels.channel.events import ChainSeen, Signed
from scapp.channels.channel.full_set import newest_full
from scapp.channels.channel.model import ChannelState, Head
from scapp.channels.channel.session import Session
from scapp.channels.onchain import TransferAll
from scapp.channels.outcome import Outcome, outcome_hash
from scapp.channels.payouts import transfer_effects
from scapp.channels.types import ZERO_HASH, Hash

REDUCTIONS_MAX = 4_096  # seconds at most, for the largest outcomes


def payout(state: ChannelState, session: Session, seen: ChainSeen, head_time_s: int) -> TransferAll | None:
    """The transfer that pays what a finalized channel still holds; None while that is not confirmed, when nothing is
    held, or when the recorded outcome is not known here."""
    if not any(amounts(seen.latest.holdings)) or seen.confirmed.status.mode(head_time_s) is not Mode.FINALIZED:
        return None
    asked = (state.head, state.candidates, seen)
    if session.payout is None or session.payout[0] != asked:  # an outcome that others reduced may take seconds
        session.payout = (asked, recorded_outcome(state, seen))
    found = session.payout[1]
    return TransferAll(found[1], found[0]) if found is not None else None


def recorded_outcome(state: ChannelState, seen: ChainSeen) -> tuple[Hash, Outcome] | None:
    """State hash and outcome whose fingerprint stands in the newest block."""
    target = seen.latest.status.fingerprint
    bases = list(_bases(state, seen))
    for state_hash, outcome in bases:
        if fingerprint(state_hash, outcome_hash(outcome)) == target:
            return state_hash, outcome
    tries = ((state_hash, reduced) for state_hash, outcome in bases for reduced in _reductions(state, seen, outcome))
    parts = ((state_hash, rest) for state_hash, outcome in bases for rest in _paid_in_part(outcome))
    # Bounds are those of all together: a participant can make many bases.
    for state_hash, reduced in chain(islice(tries, REDUCTIONS_MAX), islice(parts, REDUCTIONS_MAX)):
        if fingerprint(state_hash, outcome_hash(reduced)) == target:
            return state_hash, reduced
    return None


def _bases(state: ChannelState, seen: ChainSeen) -> Iterator[tuple[Hash, Outcome]]:
    """What may have been registered or concluded. A conclude records no state hash."""
    setup = state.setup
    registered = (seen.latest.registered, seen.confirmed.registered)
    known: list[Signed | Head | None] = [*registered, newest_full(state), state.head, *state.candidates, state.prefund]
    for each in known:
        if each is not None:
            outcome = setup.outcome(each.amounts)
            yield setup.hash(each), outcome
            if each.is_final:
                yield ZERO_HASH, outcome


def _reductions(state: ChannelState, seen: ChainSeen, outcome: Outcome) -> Iterator[Outcome]:
    """What a payout from too small holdings leaves. How much was there is not on chain any more; it was what some of
    the participants had deposited, in their order, or what this node saw last."""
    shares = state.setup.shares
    assert shares is not None
    choices: list[tuple[int, ...]] = []
    for position, held in enumerate(amounts(seen.held)):
        sums = (share[position].target for share in shares.of)
        choices.append(tuple(dict.fromkeys((held, *sums, 0))))
    for held_of in product(*choices):
        yield tuple(
            type(exit_)(exit_.asset, transfer_effects(held, exit_.allocations).remaining, exit_.metadata)
            for exit_, held in zip(outcome, held_of, strict=True)
        )


def _paid_in_part(outcome: Outcome) -> Iterator[Outcome]:
    """What `transfer` of chosen allocations leaves, which anybody may call: those are paid in full and 0, the others
    as before. Few of them first."""
    places = [(k, i) for k, exit_ in enumerate(outcome) for i, item in enumerate(exit_.allocations) if item.amount]
    for count in range(1, len(places)):
        for paid in map(set, combinations(places, count)):
            yield tuple(
                type(exit_)(
                    exit_.asset,
                    tuple(
                        type(item)(item.destination, 0, item.allocation_type, item.metadata) if (k, i) in paid else item
                        for i, item in enumerate(exit_.allocations)
                    ),
                    exit_.metadata,
                )
                for k, exit_ in enumerate(outcome)
            )
