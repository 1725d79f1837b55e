"""From a view of the chain to the facts of one block, for ledgers and virtual channels alike.

A view comes from outside and the candidate in it from a stranger: nothing of it is believed beyond what signatures and
fingerprint prove.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from scapp.channels.abi import InvalidValue
from scapp.channels.books.wire import to_wire_amount
from scapp.channels.chain.judging import channel_of, state_hash_of
from scapp.channels.cosigned import low_s
from scapp.channels.ledger.chain_facts import Enforceable, Seen, Shown
from scapp.channels.onchain import ChannelOnChain
from scapp.channels.reading import SignedState
from scapp.channels.signing import InvalidSignature, recover
from scapp.channels.state import FixedPart
from scapp.channels.types import ChannelId

SIGNATURES_READ_MAX = 10_000  # a challenger may add foreign ones; more than fit a block are of no contract

Believes = Callable[[Enforceable, ChannelOnChain], bool]
"""Is what a view shows as registered proved by its signatures, or by the fingerprint that the view has?"""


def shown(fixed: FixedPart, channel: ChannelId, found: ChannelOnChain, known: Seen | None, believes: Believes) -> Shown:
    """The facts of one block. What was registered is also kept from an earlier fact with the same turn and end: its
    event may lie before the blocks that are read after a restart."""
    registered = _registered(fixed, channel, found)
    if registered is not None and not believes(registered, found):
        registered = None
    for old in (known.latest, known.confirmed) if known is not None and registered is None else ():
        if _recorded(old) == (found.status.turn_record, found.status.finalizes_at):
            registered = registered or old.registered
    holdings = tuple(map(to_wire_amount, found.holdings))
    return Shown(found.block, found.block_hash, holdings, found.status, registered)


def same(known: Seen, seen: Seen) -> bool:
    """Do both say the same of the channel, be it of other blocks?"""
    return all(
        (old.holdings, old.status, old.registered) == (new.holdings, new.status, new.registered)
        for old, new in ((known.latest, seen.latest), (known.confirmed, seen.confirmed))
    )


def _recorded(at: Shown) -> tuple[int, int]:
    return at.status.turn_record, at.status.finalizes_at


def _registered(fixed: FixedPart, channel: ChannelId, found: ChannelOnChain) -> Enforceable | None:
    candidate = found.registered
    if candidate is None or candidate.turn != found.status.turn_record:
        return None
    try:
        states = [_of_channel(fixed, channel, state) for state in (candidate, *found.proof)]
    except InvalidValue:
        return None
    return Enforceable(states[0], tuple(states[1:]))


def _of_channel(fixed: FixedPart, channel: ChannelId, state: SignedState) -> SignedState:
    """With the fixed part, and the participants' signatures in their order; the contract takes them in any, with
    others' among them, and such with a high s. Raises InvalidValue."""
    whole = msgspec.structs.replace(
        state,
        participants=fixed.participants,
        nonce=fixed.nonce,
        app_definition=fixed.app_definition,
        challenge_duration=fixed.challenge_duration,
        signatures=(),
    )
    if channel_of(whole) != channel:
        raise InvalidValue("a state of another channel")
    state_hash = state_hash_of(whole)
    by_index = [b""] * len(fixed.participants)
    for signature in state.signatures[:SIGNATURES_READ_MAX]:
        try:
            signer = recover(state_hash, low := low_s(signature))
        except InvalidSignature:
            continue
        if signer in fixed.participants:
            by_index[fixed.participants.index(signer)] = low
    return msgspec.structs.replace(whole, signatures=tuple(by_index))
