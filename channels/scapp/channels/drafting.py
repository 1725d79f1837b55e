"""A channel that a local caller asks for, before its reducer has run: `node.py` has it run, signs and proposes it."""

from __future__ import annotations

from scapp.channels.channel.events import ChannelCreated
from scapp.channels.channel.opening import opening_entry, prefund_of, virtual
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


def _amount(amount: int) -> bytes:
    if not 0 <= amount <= U256_MAX:
        raise LocalError(f"amount {amount}; allowed are 0 to 2^256 - 1")
    return amount.to_bytes(32, "big")
