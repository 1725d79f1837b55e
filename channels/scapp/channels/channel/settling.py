"""What a funded channel wants done on chain now: read from top to bottom like a flowchart, computed, never stored.

The same state gives the same answer, so a restart or a reorganisation needs nothing of its own (ADR 0007, 0044). Which
states may be signed meanwhile stands in `chain_rules.py`, what is paid out of a finalized channel in `finalized.py`.
"""

from __future__ import annotations

from scapp.channels.adjudicator_status import Mode
from scapp.channels.channel.chain_rules import amounts, holds
from scapp.channels.channel.ended import given_up
from scapp.channels.channel.events import ChainSeen, Signed
from scapp.channels.channel.finalized import payout
from scapp.channels.channel.full_set import for_contracts, newest_enforceable
from scapp.channels.channel.model import ChannelState, Head
from scapp.channels.channel.session import NOTHING, Session, Step
from scapp.channels.channel.top_ups import deposits as top_ups
from scapp.channels.errors import LocalError
from scapp.channels.onchain import Challenge, Checkpoint, Conclude, Deposit, Transaction


def wanted(state: ChannelState, session: Session, head_time_s: int, now_ms: int) -> tuple[Transaction, ...]:
    """The transactions that this node wants in the chain's next blocks. None before the chain has been seen since the
    start: what is stored may be long over."""
    seen = state.chain if session.seen_at_s else None
    full = newest_enforceable(state)
    if seen is None or full is None or state.rejected is not None or seen.settled:
        return ()
    mode = seen.latest.status.mode(head_time_s)
    if mode is Mode.FINALIZED:
        paid = payout(state, session, seen, head_time_s)
        return (paid,) if paid is not None else ()
    if not any(amounts(seen.latest.holdings)):
        return _deposits(state, seen)
    if full.is_final and not (seen.ended and mode is Mode.OPEN):
        return (Conclude(for_contracts(state, full)),) if _concludes(state, session, full, mode, now_ms) else ()
    if mode is Mode.CHALLENGE:
        return _answer(state, seen, full)
    if state.exit_reason:
        return _leave(state, seen, full)
    if session.checkpoint_turn > seen.latest.status.turn_record and not seen.ended:
        return (Checkpoint(for_contracts(state, full)), *_deposits(state, seen))
    return _deposits(state, seen)


def _concludes(state: ChannelState, session: Session, full: Signed | Head, mode: Mode, now_ms: int) -> bool:
    """Is it this node's turn? The participants follow each other, so that usually one of them pays for it; under a
    challenge nobody waits."""
    if mode is Mode.CHALLENGE or session.conclude_now:
        return True
    delay_ms = 1_000 * session.terms.conclude_delay_s * state.setup.my_index
    return now_ms >= full.time_ms + delay_ms


def _answer(state: ChannelState, seen: ChainSeen, full: Signed | Head) -> tuple[Transaction, ...]:
    """A challenge stands: one with an older state is answered at once, one with the newest is waited for."""
    if full.turn <= seen.latest.status.turn_record:
        return ()
    newest = for_contracts(state, full)
    challenges = state.exit_reason and not state.recovering  # rule 10
    return (Challenge(newest),) if challenges else (Checkpoint(newest),)


def _leave(state: ChannelState, seen: ChainSeen, full: Signed | Head) -> tuple[Transaction, ...]:
    if seen.ended or state.recovering or full.turn < seen.latest.status.turn_record:
        return ()
    return (Challenge(for_contracts(state, full)),)


def _deposits(state: ChannelState, seen: ChainSeen) -> tuple[Transaction, ...]:
    """Our own share of every asset, once all that ranks before it is there in every asset, confirmed; wanted until it
    is confirmed itself."""
    shares = state.setup.shares
    assert shares is not None
    if state.head is None or state.recovering or state.exit_reason or state.final_signed or seen.ended or seen.disputed:
        return ()
    mine = shares.of[state.setup.my_index]
    if not holds(seen.confirmed.holdings, tuple(share.safety for share in mine)):
        return ()
    held = map(min, amounts(seen.latest.holdings), amounts(seen.confirmed.holdings))
    first = tuple(
        Deposit(asset, share.safety, share.target, share.amount)
        for asset, share, now, past in zip(shares.assets, mine, held, given_up(seen), strict=True)
        if share.amount and max(now, past) < share.target
    )
    more = top_ups(state, seen)
    return more if state.setup.renews is not None else (*first, *more)  # a successor gets what the old channel holds


def conclude_now(state: ChannelState, session: Session) -> Step:
    """Take the final state to the chain without waiting for the participants before us. Raises LocalError."""
    head = state.head
    _check_on_chain(state)
    if head is None or not (head.is_final or state.chain_ended):
        phase = state.phase
        raise LocalError(f"the channel is {phase}: close it or leave it first, then it pays out by itself")
    session.conclude_now = True
    return NOTHING


def checkpoint_now(state: ChannelState, session: Session) -> Step:
    """Have the newest supported state recorded on chain, though no challenge stands. Raises LocalError."""
    _check_on_chain(state)
    full, seen = newest_enforceable(state), state.chain
    if full is None or seen is None or not any(amounts(seen.latest.holdings)):
        raise LocalError("nothing of this channel is on chain")
    if full.is_final or state.exit_reason or seen.ended:
        raise LocalError(f"the channel is {state.phase}: it ends on chain by itself")
    if full.turn <= seen.latest.status.turn_record:
        raise LocalError(f"turn {full.turn} is recorded on chain already")
    session.checkpoint_turn = full.turn
    return NOTHING


def _check_on_chain(state: ChannelState) -> None:
    if state.setup.shares is None:
        kind = "virtual: its ledgers settle it" if state.setup.virtual else "not funded"
        raise LocalError(f"nothing of this channel is on chain, it is {kind}")
