"""A channel and the successor that takes over what it holds (docs/reference/app-channel.md section 7.5, ADR 0061).

Both are channels with engines of their own. The old one hears of its successor (`Successor`, as `seen_by_old` tells it)
and signs the final state that moves the money only when the successor's prefund state is under all signatures: from
then on whatever happens, the chain pays everybody by the one state or by the other. The successor hears when the old
channel will never pass anything on (`over`). What is heard is computed from facts that are stored, and is not stored.
"""

from __future__ import annotations

from scapp.channels.abi import OutcomeSlot
from scapp.channels.channel import chain_rules
from scapp.channels.channel.chain_rules import Hindrance
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.redirect import Redirect
from scapp.channels.channel.session import OWN_ACCEPTANCE, Session, Successor
from scapp.channels.channel.setup import Setup
from scapp.channels.types import ChannelId

SUCCESSOR = "successor"


def successor_slots(setup: Setup, kept: tuple[int, ...]) -> tuple[OutcomeSlot, ...]:
    """The slots of a successor in which participants begin with `kept` (per slot, others' 0): the same accounts, and
    the same room for top-ups as at the beginning."""
    shares = setup.shares
    assert shares is not None
    fresh = {room.headroom for room in shares.rooms if room is not None}
    return tuple(
        (asset, destination, start if position in fresh else kept[position])
        for position, (asset, destination, start) in enumerate(setup.slots)
    )


def moved_to(successor: Setup, setup: Setup) -> tuple[int, ...]:
    """What the old channel passes on, per slot: with what its participants begin in the successor."""
    shares = setup.shares
    assert shares is not None
    return tuple(amount if position in shares.owned else 0 for position, amount in enumerate(successor.start_amounts))


def proposal_fault(old: ChannelState, new: Setup) -> str:
    """Why the proposed channel `new` cannot take over what `old` holds, or an empty string."""
    setup, head = old.setup, old.head
    if setup.shares is None or head is None or old.phase != "running":
        return f"the channel that it renews is {old.phase}, and is not running"
    same = ("participants", "app_definition", "challenge_duration")
    if any(getattr(new.fixed, name) != getattr(setup.fixed, name) for name in same):
        return "participants, app definition or challenge duration are not those of the channel that it renews"
    if new.deployment_id != setup.deployment_id:
        return "its app is not that of the channel that it renews"
    assert new.renews is not None
    if new.renews[1] != head.turn:
        return f"it renews turn {new.renews[1]}, here turn {head.turn} is the newest"
    if len(new.slots) != len(setup.slots):
        return f"{len(new.slots)} slots, the channel that it renews has {len(setup.slots)}"
    moved = moved_to(new, setup)
    if new.slots != successor_slots(setup, moved):
        return "its slots are not those of the channel that it renews, with what its participants keep in it"
    for slot, (part, amount) in enumerate(zip(moved, setup.unpack(head.amounts), strict=True)):
        if part > amount:
            return f"slot {slot} begins with {part}, in the channel that it renews it has {amount}"
    return ""


def seen_by_old(state: ChannelState, session: Session, old: Setup) -> Successor | None:
    """What the channel that `state` renews has to know of it; None when it is given up."""
    setup, seen = state.setup, state.chain
    if state.rejected is not None or setup.renews is None:
        return None
    waits = ""
    if state.phase == "proposed":
        waits = OWN_ACCEPTANCE
    elif state.head is None:
        waits = "everybody's signature under the prefund state"
    elif state.exit_reason or state.recovering:
        waits = f"nothing: it is {state.phase}"
    elif seen is None or not session.seen_at_s:
        waits = "the chain to be read"
    elif seen.disputed or seen.ended:
        waits = "the end of a challenge"
    return Successor(setup.channel_id, setup.renews[1], moved_to(setup, old), waits)


def over(old: ChannelState, successor: ChannelState) -> str:
    """Why `old` will never pass anything on to the successor, for good, or an empty string."""
    setup, redirect = successor.setup, redirected(old)
    assert setup.renews is not None
    if old.recovering or (redirect is not None and redirect.successor == setup.channel_id):
        return ""
    channel = f"channel 0x{old.setup.channel_id.hex()}, which it renews,"
    if successor.exit_reason:
        return f"this node has left it before anything came: {successor.exit_reason}"
    if old.final_signed:
        return f"{channel} is closed otherwise"
    if old.turn > setup.renews[1]:
        return f"{channel} has gone on to turn {old.turn}"
    if old.exit_reason or old.chain_ended:
        return f"{channel} is left" if old.exit_reason else f"{channel} has ended on chain"
    return ""


def redirected(state: ChannelState) -> Redirect | None:
    """What a final state that is signed here passes on."""
    finals = (each for each in (state.head, *state.candidates) if each is not None and each.is_final)
    return next((state.setup.redirect(each.amounts) for each in finals), None)


def successor_of(state: ChannelState, session: Session) -> ChannelId | None:
    """The channel that takes over from this one, or is to."""
    redirect = redirected(state)
    if redirect is not None:
        return redirect.successor
    known = session.successor
    return known.channel if known is not None and stands_still(state, session) else None


def stands_still(state: ChannelState, session: Session) -> bool:
    """Is nothing but a final state ordered, because a successor is under way?"""
    known = session.successor
    under_way = session.resizing or (known is not None and known.base_turn == state.turn)
    return under_way and not state.final_signed


def tail(state: ChannelState, session: Session) -> bytes:
    """What a final state ordered now passes on, as the tail of its amounts: what an earlier one does (rule 5), else
    everything for a successor that is ready."""
    if state.final_signed:
        redirect = redirected(state)
        return redirect.tail if redirect is not None else b""
    known = session.successor
    if known is None or known.waits or known.base_turn != state.turn:
        return b""
    if chain_rules.hindrance(state, session, is_final=False) is not None:
        return b""
    return Redirect(known.channel, known.moved).tail


def hindrance(state: ChannelState, session: Session, amounts: bytes, *, is_final: bool) -> Hindrance | None:
    """What keeps this node from signing a state above the prefund state now, by the chain and by what it passes on.

    The first signature under a redirect wants a channel that could go on as well: funded, and not disputed."""
    redirect = state.setup.redirect(amounts) if state.setup.shares is not None else None
    if redirect is None:
        return chain_rules.hindrance(state, session, is_final=is_final)
    again = any(each.is_final and each.amounts == amounts for each in state.candidates)
    found = chain_rules.hindrance(state, session, is_final=is_final and again)
    return found if found is not None or again else _redirect_hindrance(state, session, redirect, is_final=is_final)


def _redirect_hindrance(
    state: ChannelState, session: Session, redirect: Redirect, *, is_final: bool
) -> Hindrance | None:
    known, name = session.successor, f"0x{redirect.successor.hex()}"
    if not is_final:
        return Hindrance(SUCCESSOR, "a state that is not final passes money on", passes=False)
    if known is None:
        return Hindrance(SUCCESSOR, f"channel {name} is not here", passes=True)
    if known.channel != redirect.successor:
        return Hindrance(SUCCESSOR, f"channel {name} is not its successor, 0x{known.channel.hex()} is", passes=False)
    if known.moved != redirect.moved:
        reason = f"{redirect.moved} of the slots move on, the successor begins with {known.moved}"
        return Hindrance(SUCCESSOR, reason, passes=False)
    if state.turn != known.base_turn:
        reason = f"the successor renews turn {known.base_turn}, here turn {state.turn} is the newest"
        return Hindrance(SUCCESSOR, reason, passes=state.turn < known.base_turn)
    if known.waits:
        return Hindrance(SUCCESSOR, f"the successor waits for {known.waits}", passes=True)
    return None
