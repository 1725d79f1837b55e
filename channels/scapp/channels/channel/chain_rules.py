"""What the chain forbids to sign in a funded channel (safety rule 8), and the money it is about.

Good news counts once it is confirmed, bad news at first sight. `chain_view.py` makes the facts that are read here.
"""

from __future__ import annotations

import operator

import msgspec

from scapp.channels.channel.events import ChainSeen
from scapp.channels.channel.model import Backed, ChannelState
from scapp.channels.channel.session import Session


class Hindrance(msgspec.Struct, frozen=True, gc=False):
    """Why a state may not be signed. `passes`: what is missing may come, so it is waited for; else it is refused."""

    code: str
    reason: str
    passes: bool


LEAVING = "leaving"
FINALIZING = "finalizing"
UNFUNDED = "unfunded"
CHALLENGED = "challenged"


def amounts(holdings: tuple[bytes, ...]) -> tuple[int, ...]:
    """Stored holdings as numbers."""
    return tuple(int.from_bytes(amount, "big") for amount in holdings)


def holds(holdings: tuple[bytes, ...], wanted: tuple[int, ...]) -> bool:
    """Is there at least that much of every asset?"""
    return all(map(operator.ge, amounts(holdings), wanted))


def is_funded(state: ChannelState, seen: ChainSeen) -> bool:
    """Is every deposit under the newest state there, confirmed and not about to be taken back?"""
    shares = state.setup.shares
    assert shares is not None
    needed = shares.totals
    if shares.grows and state.head is not None:
        needed = shares.needed(state.setup.unpack(state.head.amounts))
    return holds(seen.confirmed.holdings, needed) and holds(seen.latest.holdings, needed)


def hindrance(state: ChannelState, session: Session, *, is_final: bool) -> Hindrance | None:
    """What keeps this node from signing a state above the prefund state now."""
    seen = state.chain
    if state.setup.shares is None:
        return _backing_hindrance(state, state.backed, is_final=is_final) if state.backed is not None else None
    if state.exit_reason and not is_final:
        return Hindrance(LEAVING, f"this node leaves the channel: {state.exit_reason}", passes=False)
    if seen is None or not session.seen_at_s:
        return Hindrance(UNFUNDED, "the chain has not been seen yet", passes=True)
    if seen.ended:
        return Hindrance(FINALIZING, "the channel is finalized on chain", passes=True)
    ends = seen.latest.status.finalizes_at
    if ends:
        margin = session.terms.margin(state.setup.fixed.challenge_duration)
        if session.head_time_s >= ends - margin:
            return Hindrance(FINALIZING, f"a challenge ends at {ends}, within {margin} seconds", passes=True)
    if is_final and (seen.disputed or state.exit_reason):
        return None
    if seen.disputed:
        return Hindrance(CHALLENGED, f"a challenge of turn {_challenged_turn(seen)} stands on chain", passes=True)
    if not is_funded(state, seen):
        return Hindrance(UNFUNDED, "not every deposit is confirmed", passes=True)
    return None


def _backing_hindrance(state: ChannelState, backed: Backed, *, is_final: bool) -> Hindrance | None:
    """The same for a virtual channel, whose money lies in ledgers. Over the prefund state only the postfund state is
    signed (`signing_rules`): for that this node's own ledger must hold the guarantee; for more, everybody's signature
    under the postfund state, the hubs' included."""
    if state.exit_reason and not is_final:
        return Hindrance(LEAVING, f"this node leaves the channel: {state.exit_reason}", passes=False)
    match backed.stage:
        case "none":
            return Hindrance(UNFUNDED, "this node's ledger does not guarantee the channel yet", passes=True)
        case "guaranteed" if state.turn >= 1:
            return Hindrance(UNFUNDED, "the postfund state is not signed by everybody", passes=True)
        case "failed" | "released":
            return Hindrance(FINALIZING, "no ledger guarantees the channel any more", passes=True)
        case "disputed" if not is_final:
            return Hindrance(CHALLENGED, "the channel is being settled on chain", passes=True)
        case "releasing" if not is_final:
            return Hindrance(FINALIZING, "a final state of the channel goes round", passes=True)
        case _:
            return None


def _challenged_turn(seen: ChainSeen) -> int:
    where = seen.latest if seen.latest.status.finalizes_at else seen.confirmed
    return where.status.turn_record
