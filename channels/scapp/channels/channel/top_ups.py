"""Top-ups: deposits into a channel that runs (docs/reference/app-channel.md section 7.4, ADR 0060).

A depositor first has everybody sign a state that owes it more, in its reserve slot, which ranks after all that is on
chain already; then it deposits; once that is confirmed, the app may move the amount anywhere. So a deposit that never
comes is missing to the depositor alone, and one that comes is under a signed state.
"""

from __future__ import annotations

from scapp.channels.channel.chain_rules import UNFUNDED, Hindrance, amounts
from scapp.channels.channel.ended import GIVEN_UP, given_up
from scapp.channels.channel.events import ChainSeen, TopUpApproved
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.session import Step
from scapp.channels.channel.shares import Room
from scapp.channels.errors import LocalError
from scapp.channels.onchain import Deposit
from scapp.channels.types import Address

OUTCOME = "outcome"


def approve(state: ChannelState, asset: Address, amount: int) -> Step:
    """Our operator brings that much more of the asset: from here on this node signs states that say so, and deposits.

    Raises LocalError when the channel has no room for it."""
    shares = state.setup.shares
    if shares is None or asset not in shares.assets:
        raise LocalError(f"the channel holds nothing of asset 0x{asset.hex()}, so nothing can be added")
    k = shares.assets.index(asset)
    room, head = shares.rooms[k], state.head
    if room is None:
        raise LocalError(f"the channel was opened without room for top-ups of asset 0x{asset.hex()}")
    if state.phase != "running" or head is None:
        raise LocalError(f"the channel is {state.phase}: only a running one can be topped up")
    left = state.setup.unpack(head.amounts)[room.headroom] - _allowed(state, k)
    if not 0 < amount <= left:
        raise LocalError(f"top-up of {amount}: 1 to {left} are possible in this channel")
    return Step((TopUpApproved(asset, amount.to_bytes(32, "big")),))


def _allowed(state: ChannelState, k: int) -> int:
    return state.allowances[k] if state.allowances else 0


def hindrance(state: ChannelState, new: bytes) -> Hindrance | None:
    """What keeps this node from signing these amounts after those of the head: money that nobody brings, or that is
    not there yet. Amounts that are no outcome of the channel are not looked at."""
    shares, head = state.setup.shares, state.head
    if shares is None or not shares.grows or head is None or new == head.amounts or state.setup.amounts_fault(new):
        return None
    before, after = state.setup.unpack(head.amounts), state.setup.unpack(new)
    owed = zip(shares.claims(before), shares.claims(after), strict=True)
    for k, (room, (claims_before, claims_after)) in enumerate(zip(shares.rooms, owed, strict=True)):
        fault = _growth_fault(state, k, room, before, after, claims_after - claims_before) if room is not None else ""
        if fault:
            return Hindrance(OUTCOME, f"asset 0x{shares.assets[k].hex()}: {fault}", passes=False)
    seen = state.chain
    held = _held(seen) if seen is not None else (0,) * len(shares.assets)
    for asset, now, needed in zip(shares.assets, held, shares.needed(after), strict=True):
        if now < needed:
            reason = f"{needed} of asset 0x{asset.hex()} are paid out, {now} are on chain, confirmed"
            return Hindrance(UNFUNDED, reason, passes=True)
    return None


def _growth_fault(
    state: ChannelState, k: int, room: Room, before: tuple[int, ...], after: tuple[int, ...], growth: int
) -> str:
    """Why what is owed of one asset may not change so. At most one reserve at a time: it alone bears a missing
    deposit. What is owed never shrinks: a deposit that is on its way would be nobody's."""
    reserved = [after[i] for i in room.reserves]
    if len(reserved) - reserved.count(0) > 1:
        return "two top-ups at once: the first must be moved out of its reserve slot before another begins"
    if growth < 0:
        return f"{-growth} go back to the headroom, which never grows"
    if growth > sum(max(0, after[i] - before[i]) for i in room.reserves):
        return f"{growth} more are owed, and no reserve slot says who deposits them"
    shares = state.setup.shares
    assert shares is not None
    raised = shares.asked(state.setup.my_index, before, after)[k]
    if raised > _allowed(state, k):
        return f"{raised} more from this node, whose operator has approved {_allowed(state, k)}"
    return ""


def begins(state: ChannelState, new: bytes) -> bool:
    """Do these amounts ask a participant for a deposit that the head does not? It may not have approved that."""
    shares, head = state.setup.shares, state.head
    if shares is None or not shares.grows or head is None or new == head.amounts:
        return False
    before, after = state.setup.unpack(head.amounts), state.setup.unpack(new)
    return any(after[i] > before[i] for room in shares.rooms if room is not None for i in room.reserves)


def deposits(state: ChannelState, seen: ChainSeen) -> tuple[Deposit, ...]:
    """What everybody has signed that this node deposits, once all that ranks before it is there, confirmed."""
    shares, head = state.setup.shares, state.head
    if shares is None or not shares.grows or head is None:
        return ()
    owed = state.setup.unpack(head.amounts)
    found = []
    rows = zip(shares.assets, shares.rooms, _held(seen), given_up(seen), shares.claims(owed), strict=True)
    for asset, room, now, past, target in rows:
        mine = owed[room.reserves[state.setup.my_index]] if room is not None else 0
        if mine and target - mine <= now < target and past < target:
            found.append(Deposit(asset, target - mine, target, mine))
    return tuple(found)


def pause(state: ChannelState) -> str:
    """The top-up that a running channel waits for, in words; empty when there is none."""
    shares, head, seen = state.setup.shares, state.head, state.chain
    if shares is None or not shares.grows or head is None or seen is None:
        return ""
    owed = state.setup.unpack(head.amounts)
    rows = zip(shares.assets, shares.rooms, _held(seen), given_up(seen), shares.claims(owed), strict=True)
    for asset, room, now, past, target in rows:
        for index, position in enumerate(room.reserves if room is not None else ()):
            if owed[position] and now < target:
                what = f"top-up of {owed[position]} of asset 0x{asset.hex()}"
                if index != state.setup.my_index:
                    return f"participant {index}'s {what} to be confirmed"
                gone = f"nothing: this node's {what}, {GIVEN_UP}; a further one brings both"
                return gone if target <= past else f"this node's {what} to be confirmed"
    return ""


def _held(seen: ChainSeen) -> tuple[int, ...]:
    """What is there, confirmed and not about to be taken back."""
    return tuple(map(min, amounts(seen.latest.holdings), amounts(seen.confirmed.holdings)))
