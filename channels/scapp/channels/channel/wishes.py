"""What participants want to take out of a running channel: asked of the sequencer, which proposes a successor.

A wish binds nobody and is not stored: after a restart it is asked again or it is not. It is what the asking node's
operator has agreed to, so that the very successor that was asked for is accepted at once: from the state that the
operator saw. A successor makes the app begin anew, and a sequencer could keep a wish until it profits by that.
"""

from __future__ import annotations

from collections.abc import Mapping

from scapp.channels.channel.effects import SendNow, Tell
from scapp.channels.channel.messages import ResizeAsked, encode_message
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.opening import opening_params
from scapp.channels.channel.session import NOTHING, Session, Step
from scapp.channels.channel.setup import Setup
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.types import Address, money


def ask(state: ChannelState, session: Session, withdrawn: Mapping[Address, int]) -> Step:
    """Our operator wants so much out. Raises LocalError when we do not have it."""
    found = fault(state, state.setup.my_index, withdrawn)
    if found:
        raise LocalError(found)
    session.wishes[state.setup.my_index] = dict(withdrawn)
    session.wished_turn = state.signed_turn
    return Step(effects=again(state, session, 0))


def again(state: ChannelState, session: Session, peer: int) -> tuple[SendNow, ...]:
    """What we want, to the sequencer."""
    mine = session.wishes.get(state.setup.my_index) if peer == 0 else None
    if not mine:
        return ()
    amounts = tuple((asset, amount.to_bytes(32, "big")) for asset, amount in mine.items())
    return (SendNow(0, encode_message(ResizeAsked(state.setup.channel_id, amounts))),)


def receive(state: ChannelState, session: Session, index: int, message: ResizeAsked) -> Step:
    """A participant wants something out: that is for our operator to decide. Raises PeerError when it has less."""
    withdrawn = {Address(asset): int.from_bytes(amount, "big") for asset, amount in message.withdrawn}
    found = fault(state, index, withdrawn)
    if found:
        raise PeerError(found)
    if session.wishes.get(index) == withdrawn:
        return NOTHING
    session.wishes[index] = withdrawn
    return Step(effects=(Tell("resize", described(index, withdrawn)),))


def described(index: int, withdrawn: Mapping[Address, int]) -> str:
    """For people."""
    amounts = " and ".join(money(amount, asset) for asset, amount in withdrawn.items())
    return f"participant {index} wants to take out {amounts}"


def grants(old: ChannelState, session: Session, new: Setup, entry: bytes) -> bool:
    """Is the successor `new`, which begins with that entry, just what our operator has asked for, and of that state?"""
    setup, shares, head = old.setup, old.setup.shares, old.head
    wish = session.wishes.get(setup.my_index)
    if shares is None or head is None or not wish or head.turn != session.wished_turn:
        return False
    places = {asset: shares.position(setup.my_index, asset) for asset in shares.assets}
    owed = setup.unpack(head.amounts)
    taken = {asset: owed[at] - new.start_amounts[at] for asset, at in places.items() if at is not None}
    asked = {asset: wish.get(asset, 0) for asset in shares.assets}
    return taken == asked and opening_params(entry) == opening_params(old.prefund.entries[0])


def fault(state: ChannelState, index: int, withdrawn: Mapping[Address, int]) -> str:
    """Why a participant cannot take out so much now, or an empty string."""
    shares, head = state.setup.shares, state.head
    if shares is None or head is None or state.phase != "running":
        return f"the channel is {state.phase}: only a directly funded one that runs can be resized"
    owed = state.setup.unpack(head.amounts)
    for asset, amount in withdrawn.items():
        at = shares.position(index, asset)
        if at is None or not 0 < amount <= owed[at]:
            has = owed[at] if at is not None else 0
            return f"participant {index} takes out {money(amount, asset)}, it has {money(has, asset, named=True)}"
    return "" if withdrawn else "nobody takes anything out"
