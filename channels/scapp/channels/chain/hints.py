"""The state behind a checkpoint, looked for in the calldata of the transaction that recorded it. Pure.

The adjudicator keeps no copy of a checkpointed state and no event tells it. Calldata is believed for nothing else: it
may be wrapped, hidden or false. Here it is a hint, and what it shows counts only under all signatures (ADR 0055), or
if the channel's app would support it: then it can be shown to the chain again, whoever made it.
"""

from __future__ import annotations

from collections.abc import Mapping

from scapp.channels.abi import InvalidValue
from scapp.channels.chain.calls import CALLDATA_BYTES_MAX, Checkpoint, decode_call, selector_of
from scapp.channels.chain.judging import channel_of, state_hash_of
from scapp.channels.chain.support import App, is_supported
from scapp.channels.cosigned import low_s
from scapp.channels.reading import SignedState
from scapp.channels.signing import InvalidSignature, recover
from scapp.channels.types import ChannelId

ATTEMPTS_MAX = 16
SIGNATURES_MAX = 512  # of one candidate; a channel has at most 255 participants


def checkpointed_in(
    calldata: bytes, channel: ChannelId, turn: int, apps: Mapping[bytes, App]
) -> tuple[SignedState, tuple[SignedState, ...]] | None:
    """The state of that channel and turn in a `checkpoint` call, with its proof, be it the whole calldata or somewhere
    in it, as other contracts and batches carry it. None when none that counts is found in the first few places."""
    selector = selector_of(Checkpoint)
    calldata = calldata[:CALLDATA_BYTES_MAX]
    at = -1
    for _ in range(ATTEMPTS_MAX):
        at = calldata.find(selector, at + 1)
        if at < 0:
            return None
        found = _checkpoint(calldata[at:])
        if found is None or found.candidate.turn != turn or channel_of(found.candidate) != channel:
            continue
        if _signed_by_all(found.candidate) or is_supported(apps, found.candidate, found.proof):
            return found.candidate, found.proof
    return None


def _checkpoint(data: bytes) -> Checkpoint | None:
    try:
        call = decode_call(data)
    except InvalidValue:
        return None
    return call if isinstance(call, Checkpoint) else None


def _signed_by_all(state: SignedState) -> bool:
    """In any order and with either s, as the contract takes them."""
    state_hash = state_hash_of(state)
    missing = set(state.participants)
    for signature in state.signatures[:SIGNATURES_MAX]:
        try:
            missing.discard(recover(state_hash, low_s(signature)))
        except InvalidSignature:
            continue
    return not missing
