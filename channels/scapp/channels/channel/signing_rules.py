"""The one place where this node puts its signature under a channel state (safety rules 2 and 5)."""

from __future__ import annotations

from typing import Protocol

import msgspec

from scapp.channels.channel import succession, top_ups
from scapp.channels.channel.events import Signed, with_signature
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.session import Checking, Session
from scapp.channels.errors import ScappError
from scapp.channels.types import Address, Hash, Signature

TURN_LEAD_MAX = 2**16
REPLACED_MAX = 256  # replaced proposals are kept until one above them is supported, so their number is bounded

_replace = msgspec.structs.replace


class StateSigner(Protocol):
    """`scapp.channels.signing.Signer`, as far as it is needed here."""

    @property
    def address(self) -> Address: ...

    def sign(self, state_hash: Hash, /) -> Signature: ...


class Content(Protocol):
    """What the rules look at in a state that is to be signed: `events.Signed` and `messages.Propose` have it."""

    @property
    def turn(self) -> int: ...

    @property
    def is_final(self) -> bool: ...

    @property
    def amounts(self) -> bytes: ...


class MayNotSign(ScappError):
    """Signing this state would break a safety rule; nothing was signed."""


class BeforeRestore(MayNotSign):
    """The turn may have been signed before this node was restored; one above it would do."""


def check_may_sign(state: ChannelState, new: Content) -> None:
    """Raises MayNotSign with the rule that forbids it."""
    supported, turn, candidates, recovery = state.turn, new.turn, state.candidates, state.recovery
    if recovery.token:
        raise MayNotSign(f"turn {turn}: this node was restored and others have not told what it signed (rule 10)")
    signed = candidates[-1].turn if candidates else supported
    if turn <= signed:
        raise MayNotSign(f"turn {turn} is not above turn {signed}, which is signed already (rule 2)")
    # Turns 0 and 1 have one possible content each, so signing them again says nothing new.
    if turn <= recovery.floor and turn > 1:
        raise BeforeRestore(f"turn {turn} may have been signed before a restore, at most {recovery.floor} (rule 10)")
    if turn - supported > TURN_LEAD_MAX:
        raise MayNotSign(f"turn {turn} is more than {TURN_LEAD_MAX} above supported turn {supported} (rule 2)")
    if (
        supported < 1 and turn > 1 and state.backed is not None
    ):  # whatever comes later is enforceable through turn 1 alone
        raise MayNotSign(f"turn {turn} over a prefund state: the postfund state comes first (rule 8)")
    head = state.head
    if not candidates and head is not None and not head.is_final:
        return  # as nearly always, and asking the property costs more
    if not state.final_signed:
        return
    if not new.is_final:
        raise MayNotSign("a final state is signed already (rule 5)")
    for old in (head, *candidates):
        if old is not None and old.is_final and old.amounts != new.amounts:
            raise MayNotSign("a final state with another outcome is signed already (rule 5)")


def sign_state(
    state: ChannelState, session: Session, signer: StateSigner, new: Signed, checked: Checking | None = None
) -> Signed:
    """`new` with our signature added. Raises MayNotSign.

    `checked` is what was found when this very state was proposed."""
    # The rules look at nothing but the channel's state and what is proposed: over the same state they say the same.
    if checked is None or checked.base is not state:
        check_may_sign(state, new)
    setup, turn = state.setup, new.turn
    if setup.funded and turn > 0:
        hindered = succession.hindrance(state, session, new.amounts, is_final=new.is_final)
        if hindered is None:
            hindered = top_ups.hindrance(state, new.amounts)
        if hindered is not None:
            raise MayNotSign(f"{hindered.reason} (rule 8)")
    state_hash = checked.state_hash if checked is not None else setup.hasher.hash(new)
    session.hashed = turn, state_hash
    signatures = with_signature(new.signatures, setup.my_index, signer.sign(state_hash))
    return _replace(new, signatures=signatures)
