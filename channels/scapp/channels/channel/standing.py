"""Where a channel stands, for people: what it waits for in words, and the figures behind it, on chain or in ledgers."""

from __future__ import annotations

import msgspec

from scapp.channels.adjudicator_status import Mode
from scapp.channels.channel import recovery, top_ups, wishes
from scapp.channels.channel.chain_rules import amounts, holds, is_funded
from scapp.channels.channel.ended import GIVEN_UP, given_up
from scapp.channels.channel.events import ChainSeen
from scapp.channels.channel.full_set import newest_enforceable
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.session import Session
from scapp.channels.types import Address, money


class ChannelOnChainInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A funded channel on chain. Amounts are in the assets' smallest units, one per asset, in the order of `assets`.

    `mode` is open, challenge, finalized, or unknown until the chain has been read. `exit_reason` is empty unless this
    node leaves by a challenge. `settled`: all that can be paid out is, confirmed."""

    assets: tuple[Address, ...]
    needed: tuple[int, ...]  # all deposits together
    own: tuple[int, ...]  # this participant's deposit
    holdings: tuple[int, ...]  # in the newest block
    confirmed: tuple[int, ...]
    mode: str
    turn_record: int
    finalizes_at: int  # block timestamp in seconds, 0 while nothing runs
    challenge_duration: int  # seconds
    exit_reason: str
    settled: bool


class BackingInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What stands behind a virtual channel: `stage` and `detail` as in `backing.Backing`; hub i gets `fees[i]` of the
    channel's asset."""

    hubs: tuple[Address, ...]
    fees: tuple[int, ...]
    stage: str
    detail: str
    exit_reason: str


def describe(state: ChannelState, session: Session) -> str:
    """The pause point of a channel, for people."""
    if session.failure:
        return session.failure
    if state.phase == "recovering":
        return recovery.waiting_for(state, session)
    if state.phase == "proposed":
        return "this node's acceptance" + (f": {session.asked}" if session.asked else "")
    if state.phase in ("rejected", "settled") or (state.phase == "closed" and not state.setup.funded):
        return ""
    if state.setup.funded and state.head is not None:
        pause = chain_pause(state, session) if state.backed is None else backing_pause(state)
        if pause or state.head.is_final:
            return pause
    refused = [f"participant {i} refuses turn {t}: {r}" for i, (t, r) in sorted(session.refusals.items())]
    if refused:
        return "; ".join(refused)
    if state.candidates:
        newest = state.candidates[-1]
        missing = [str(i) for i, s in enumerate(newest.signatures) if not s]
        several = "s" if len(missing) > 1 else ""
        return f"the signature{several} of participant{several} {', '.join(missing)} under turn {newest.turn}"
    if state.turn < 1:
        return "the sequencer's postfund state"
    known = session.successor
    if known is not None and known.base_turn == state.turn:
        return f"channel 0x{known.channel.hex()}, which is to renew it" + (f": {known.waits}" if known.waits else "")
    if state.outstanding and state.setup.my_index != 0:
        return f"the sequencer to order {len(state.outstanding)} submissions"
    asked = [wishes.described(i, wish) for i, wish in sorted(session.wishes.items()) if i != state.setup.my_index]
    return "; ".join(asked) if state.setup.my_index == 0 and asked else top_ups.pause(state)


def chain_pause(state: ChannelState, session: Session) -> str:
    """The pause point on chain of a channel whose prefund state is supported; empty when it waits for no chain."""
    seen = state.chain
    if seen is None or not session.seen_at_s:
        return "the chain to be read"
    mode = seen.latest.status.mode(session.head_time_s)
    if mode is Mode.FINALIZED:
        return _payout_pause(state, seen)
    if mode is Mode.CHALLENGE:
        return _challenge_pause(state, seen)
    if seen.ended:
        return "the payout to be confirmed"
    if state.head is not None and state.head.is_final:
        return "the final state to be concluded on chain"
    if state.exit_reason:
        return _exit_pause(state, seen)
    if seen.disputed:
        return "the end of the challenge to be confirmed"
    return _funding_pause(state, seen)


def backing_pause(state: ChannelState) -> str:
    """The pause point of a virtual channel in the ledgers; empty when it waits for none of them."""
    backed, head = state.backed, state.head
    assert backed is not None
    assert head is not None
    because = f" ({backed.detail})" if backed.detail else ""
    if backed.stage == "disputed":
        return f"the channel to be settled on chain{because}"
    if head.is_final:
        return f"{_hubs_missing(state, head.turn) or 'the ledgers to release what they guarantee'}{because}"
    if state.exit_reason:
        return f"the ledgers to take the channel to the chain{because}"
    if backed.stage == "none":
        return f"this node's ledger to guarantee the channel{because}"
    if backed.stage == "guaranteed" and head.turn >= 1:
        return f"{_hubs_missing(state, 1) or 'the ledgers to confirm the postfund state'}{because}"
    return ""


def _hubs_missing(state: ChannelState, turn: int) -> str:
    assert state.backed is not None
    found = state.backed.signatures(turn)
    missing = [hub for hub, signature in zip(state.setup.hubs, found[1:-1], strict=False) if not signature]
    named = ", ".join(f"0x{hub.hex()}" for hub in missing)
    return f"the signature{'s' if len(missing) > 1 else ''} of {named} under turn {turn}" if missing else ""


def backing_info(state: ChannelState) -> BackingInfo | None:
    """What stands behind a virtual channel; None for any other."""
    backed, setup = state.backed, state.setup
    if backed is None:
        return None
    stage = "failed" if state.rejected is not None else backed.stage
    return BackingInfo(
        hubs=setup.hubs, fees=setup.fees, stage=stage, detail=backed.detail, exit_reason=state.exit_reason
    )


def _payout_pause(state: ChannelState, seen: ChainSeen) -> str:
    if not any(amounts(seen.latest.holdings)):
        return "the payout to be confirmed"
    if not seen.confirmed.status.finalizes_at:
        return "the chain to confirm that the channel is finalized"
    return "the payout"


def _challenge_pause(state: ChannelState, seen: ChainSeen) -> str:
    status = seen.latest.status
    challenged = f"the challenge of turn {status.turn_record}"
    full = newest_enforceable(state)
    if full is not None and full.turn > status.turn_record:
        return f"{challenged} to be answered with turn {full.turn}"
    return f"{challenged} to end, or a final state"


def _exit_pause(state: ChannelState, seen: ChainSeen) -> str:
    full = newest_enforceable(state)
    assert full is not None
    if not any(amounts(seen.latest.holdings)):
        return "nothing: the channel is given up, and nothing is held on chain"
    if full.turn < seen.latest.status.turn_record:
        return f"the state of turn {seen.latest.status.turn_record}, which another participant has shown to the chain"
    return f"our challenge with turn {full.turn} to be registered"


def _funding_pause(state: ChannelState, seen: ChainSeen) -> str:
    shares = state.setup.shares
    assert shares is not None
    if is_funded(state, seen):
        return ""
    held = amounts(seen.latest.holdings)
    if state.setup.renews is not None and not holds(seen.latest.holdings, shares.totals):
        return f"what channel 0x{state.setup.renews[0].hex()} holds to be moved here"
    for index, mine in enumerate(shares.of):
        levels = zip(mine, held, given_up(seen), strict=True)
        if index == state.setup.my_index and any(now < share.target <= past for share, now, past in levels):
            return f"nothing: it lacks this node's deposit, {GIVEN_UP}; close or leave it"
        missing = [
            money(share.target - max(now, share.safety), asset)
            for asset, share, now in zip(shares.assets, mine, held, strict=True)
            if share.amount and now < share.target
        ]
        if missing:
            whose = "this node's" if index == state.setup.my_index else f"participant {index}'s"
            return f"{whose} deposit of {' and '.join(missing)}{_unconfirmed(state, seen, index)}"
    return "the deposits to be confirmed"


def _unconfirmed(state: ChannelState, seen: ChainSeen, index: int) -> str:
    """Our own deposit also waits for the others' to be confirmed."""
    shares = state.setup.shares
    assert shares is not None
    safety = tuple(share.safety for share in shares.of[index])
    if index != state.setup.my_index or holds(seen.confirmed.holdings, safety):
        return ""
    return ", once those before it are confirmed"


def chain_info(state: ChannelState, session: Session) -> ChannelOnChainInfo | None:
    """Figures of the channel on chain; None for an unfunded one."""
    shares, seen = state.setup.shares, state.chain
    if shares is None:
        return None
    nothing = (0,) * len(shares.assets)
    return ChannelOnChainInfo(
        assets=shares.assets,
        needed=shares.claims(state.setup.unpack(state.head.amounts)) if state.head is not None else shares.totals,
        own=tuple(share.amount for share in shares.of[state.setup.my_index]),
        holdings=amounts(seen.latest.holdings) if seen is not None else nothing,
        confirmed=amounts(seen.confirmed.holdings) if seen is not None else nothing,
        mode=seen.latest.status.mode(session.head_time_s).value if seen is not None else "unknown",
        turn_record=seen.latest.status.turn_record if seen is not None else 0,
        finalizes_at=seen.latest.status.finalizes_at if seen is not None else 0,
        challenge_duration=state.setup.fixed.challenge_duration,
        exit_reason=state.exit_reason,
        settled=seen is not None and seen.settled,
    )
