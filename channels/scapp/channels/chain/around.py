"""A way around a recipient that refuses payment, which makes a payout to many revert for all of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from scapp.channels.chain import calls
from scapp.channels.chain import requests as ask
from scapp.channels.chain.client import Refused
from scapp.channels.chain.requests import Steps
from scapp.channels.outcome import Allocation, AllocationType, encode_outcome
from scapp.channels.payouts import transfer_effects
from scapp.channels.types import Address


def around(adjudicator: Address, call: calls.Call, held: Sequence[int]) -> Steps[calls.Call]:
    """The call if it goes through now, or if nothing better does; else the part of it that does.

    `held` are the channel's holdings of the outcome's assets. A conclusion goes without payment, a payout of everything
    becomes one of those allocations of an asset that can be paid."""
    if not isinstance(call, calls.ConcludeAndTransfer | calls.TransferAll) or (yield from _works(adjudicator, call)):
        return call
    if isinstance(call, calls.ConcludeAndTransfer):
        alone = calls.Conclude(call.candidate)
        return alone if (yield from _works(adjudicator, alone)) else call
    encoded = encode_outcome(call.outcome)
    for index, (exit_, has) in enumerate(zip(call.outcome, held, strict=True)):
        takes = []
        for position in _due(has, exit_.allocations):
            one = calls.Transfer(index, call.channel, encoded, call.state_hash, (position,))
            if (yield from _works(adjudicator, one)):
                takes.append(position)
        if takes:
            return calls.Transfer(index, call.channel, encoded, call.state_hash, tuple(takes))
    return call


def _due(held: int, allocations: Sequence[Allocation]) -> list[int]:
    """Which allocations get something of that; guarantees are reclaimed, not paid."""
    simple = [msgspec.structs.replace(item, allocation_type=AllocationType.SIMPLE) for item in allocations]
    pays = zip(allocations, transfer_effects(held, simple).exits, strict=True)
    guarantee = AllocationType.GUARANTEE
    return [at for at, (item, paid) in enumerate(pays) if paid.amount and item.allocation_type != guarantee]


def _works(adjudicator: Address, call: calls.Call) -> Steps[bool]:
    answer = yield ask.Estimate(adjudicator, calls.encode_call(call), 0)
    return not (isinstance(answer, Refused) and answer.kind == "reverted")
