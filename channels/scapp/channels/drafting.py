"""A channel that a local caller asks for, before its reducer has run: `node.py` has it run, signs and proposes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scapp.channels.channel.events import ChannelCreated, SuccessorCreated
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.opening import opening_entry, opening_params, prefund_of, successor, virtual
from scapp.channels.channel.succession import successor_slots
from scapp.channels.channel.wishes import fault
from scapp.channels.deployment import encode_deployment
from scapp.channels.errors import LocalError
from scapp.channels.service import OpenRequest
from scapp.channels.types import U256_MAX, Address


def draft(request: OpenRequest, me: Address, app_definition: Address, nonce: int, now_ms: int) -> ChannelCreated:
    """The channel's first event, its prefund state not signed. Raises LocalError for what no channel can be."""
    participants = (me, *request.peers)
    slots = tuple((asset, destination, _amount(amount)) for asset, destination, amount in request.slots)
    entry = opening_entry(participants, slots, request.params, now_ms)
    created = ChannelCreated(
        my_index=0,
        participants=participants,
        nonce=nonce,
        app_definition=app_definition,
        challenge_duration=request.challenge_duration,
        deployment=encode_deployment(request.deployment),
        slots=slots,
        prefund=prefund_of(slots, len(participants), entry, bytes(32), now_ms),
    )
    if request.fund == "virtual":
        fees = request.fees or (0,) * len(request.via)
        return virtual(created, request.via, tuple(map(_amount, fees)))
    if request.via or request.fees:
        raise LocalError(f"hubs and fees belong to virtual channels; fund is {request.fund!r}")
    return created


def draft_successor(
    old: ChannelState, withdrawn: Mapping[int, Mapping[Address, int]], params: Any, nonce: int, now_ms: int
) -> SuccessorCreated:
    """The first event of the channel that takes over what `old`, our own, holds now, less what its participants take
    out, by index and asset. Without `params` it begins with those of `old`. Raises LocalError for what cannot be."""
    setup, shares, head = old.setup, old.setup.shares, old.head
    faults = [found for index, amounts in withdrawn.items() if (found := fault(old, index, amounts))]
    if faults or not withdrawn or shares is None or head is None or old.candidates:
        raise LocalError(faults[0] if faults else "nobody takes anything out of a channel that runs")
    kept = list(setup.unpack(head.amounts))
    for index, amounts in withdrawn.items():
        for asset, amount in amounts.items():
            at = shares.position(index, asset)
            assert at is not None
            kept[at] -= amount
    only_own = tuple(amount if position in shares.owned else 0 for position, amount in enumerate(kept))
    slots = tuple((asset, to, _amount(amount)) for asset, to, amount in successor_slots(setup, only_own))
    given = opening_params(old.prefund.entries[0]) if params is None else params
    entry = opening_entry(setup.participants, slots, given, now_ms)
    created = ChannelCreated(
        my_index=setup.my_index,
        participants=setup.participants,
        nonce=nonce,
        app_definition=setup.fixed.app_definition,
        challenge_duration=setup.fixed.challenge_duration,
        deployment=encode_deployment(setup.deployment),
        slots=slots,
        prefund=prefund_of(slots, setup.count, entry, bytes(32), now_ms),
    )
    return successor(created, setup.channel_id, head.turn)


def _amount(amount: int) -> bytes:
    if not 0 <= amount <= U256_MAX:
        raise LocalError(f"amount {amount}; allowed are 0 to 2^256 - 1")
    return amount.to_bytes(32, "big")
