"""Leaving a channel by a challenge: when the operator says so, or when the terms do."""

from __future__ import annotations

from scapp.channels.channel import catchup
from scapp.channels.channel.chain_rules import holds
from scapp.channels.channel.events import ExitStarted
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.session import NOTHING, OWN_ACCEPTANCE, Session, Step, Successor
from scapp.channels.errors import LocalError

REASON_MAX = 256


def leave(state: ChannelState, reason: str) -> Step:
    """From here on nothing but a final state is signed, and the newest supported state is taken to the chain.

    Raises LocalError when there is nothing that a challenge could end."""
    if not state.setup.funded:
        raise LocalError("the channel is not funded: no chain knows it, and there is nothing to take out")
    nothing = state.backed is not None and state.backed.stage == "none"
    if state.rejected is not None or state.head is None or nothing:
        raise LocalError(f"the channel is {state.phase}: nothing is put up for it yet, reject it")
    if state.head.is_final:
        raise LocalError(f"the channel is {state.phase}: its final state is signed by everybody and pays out")
    if state.phase == "settled":
        raise LocalError("the channel is settled: everything is paid out")
    if state.recovering:  # rule 10: our newest state may be an old one, and to claim it would be a cheat's challenge
        raise LocalError("the channel is recovering: what was signed last is not known yet")
    return NOTHING if state.exit_reason else Step((ExitStarted(reason[:REASON_MAX]),))


def exit_due(state: ChannelState, session: Session) -> str:
    """Why this node should leave now by its terms, or an empty string. Measured with the chain's clock."""
    head, terms, now_s = state.head, session.terms, session.head_time_s
    over = state.phase in ("settled", "recovering", "rejected")
    if state.exit_reason or head is None or head.is_final or state.chain is None or over:
        session.unsettled_since_s = 0
        return ""
    if state.turn < 1:
        waited_s = now_s - state.chain.time_s
        if not terms.funding_timeout_s or waited_s < terms.funding_timeout_s:
            return ""
        return f"funding stood still for {waited_s} seconds" + ("" if _is_in(state) else ", before our own deposit")
    return silence_due(state, session, now_s)


def silence_due(state: ChannelState, session: Session, now_s: int) -> str:
    """Why a running channel should be left for the others' silence, or an empty string."""
    ended = state.exit_reason or state.turn < 1 or state.phase in ("closed", "rejected", "settled", "recovering")
    if ended or not catchup.unsettled(state, session):
        session.unsettled_since_s = 0
        session.excused = False
        return ""
    session.unsettled_since_s = session.unsettled_since_s or now_s
    session.excused = session.excused or _asks_us(session.successor)
    waited_s, limit_s = now_s - session.unsettled_since_s, session.terms.silence_timeout_s
    # Twice the time, not for ever: else whoever proposes a successor to a node without its operator could fall silent.
    if not limit_s or waited_s < limit_s * (1 + session.excused):
        return ""
    return f"no answer from the others for {waited_s} seconds"


def undecided(session: Session, successor: Successor) -> str:
    """Why this node should turn down a successor of the channel, or an empty string: its operator has not decided for
    as long as it would wait for others."""
    since_s, limit_s = session.unsettled_since_s, session.terms.silence_timeout_s
    if not (_asks_us(successor) and limit_s and since_s and session.head_time_s - since_s >= limit_s):
        return ""
    return f"not decided here within {limit_s} seconds, disputes.silence_timeout_s"


def _asks_us(successor: Successor | None) -> bool:
    """Do the others wait for our operator's decision about a successor?"""
    return successor is not None and successor.waits == OWN_ACCEPTANCE


def _is_in(state: ChannelState) -> bool:
    shares, seen = state.setup.shares, state.chain
    assert shares is not None
    assert seen is not None
    return holds(seen.latest.holdings, tuple(share.target for share in shares.of[state.setup.my_index]))
