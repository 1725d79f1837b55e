"""A virtual channel and what stands behind it: what the node's ledgers say comes in, milestone states go out to them.

The ledgers' side is `scapp.channels.backing`. Hubs sign turns 0 and 1 and the final state and know nothing of the app;
everything between is enforceable through turn 1, which all have signed, and the two app parties' signatures.
"""

from __future__ import annotations

import msgspec

from scapp.channels.backing import Backing
from scapp.channels.channel.chain_view import as_registered
from scapp.channels.channel.effects import Effect, SendRejected, Tell
from scapp.channels.channel.events import BackingSeen, ChannelRejected, Signed
from scapp.channels.channel.full_set import as_supported, newest_full, signed_state
from scapp.channels.channel.model import Backed, ChannelState, Head, Milestones, merged
from scapp.channels.channel.session import NOTHING, Session, Step
from scapp.channels.channel.signatures import receive_supported, support_finalized
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.reading import SignedState

REASON_MAX = 1024
ENDED = frozenset(("failed", "released"))
FUNDED = frozenset(("complete", "releasing", "released", "disputed"))


def on_backing(state: ChannelState, session: Session, backing: Backing) -> Step:
    """The ledgers say how they stand to this channel. What is known already, or older than that, changes nothing.

    Raises LocalError for what cannot be: signatures that are wrong, or a failure after batches were signed."""
    backed = state.backed
    if backed is None:
        raise LocalError("the channel is not virtual: no ledger stands behind it")
    if state.rejected is not None:
        return NOTHING
    if backing.stage == "failed" and (backed.funded or state.signed_turn > 1):
        raise LocalError(f"the backing has failed, but the channel is {state.phase}: it can no longer be given up")
    signed = merged(backed.signed, _checked(state, backing.signatures))
    detail = backing.detail[:REASON_MAX] or ("the channel was not funded" if backing.stage == "failed" else "")
    if backed.stage in ENDED or (backed.stage in FUNDED and backing.stage in ("none", "guaranteed")):
        return NOTHING
    if backing.stage == "complete" and b"" in dict(signed).get(1, (b"",)):
        raise LocalError("the backing is complete, but the postfund state is not signed by everybody")
    if (backing.stage, detail, signed) == (backed.stage, backed.detail, backed.signed):
        return NOTHING
    told = tuple(Tell(kind) for kind in _news(backed, backing))
    seen = BackingSeen(backing.stage, detail, signed)
    if backing.stage != "released" or backing.settled is None:
        return Step((seen,), told)
    adopted = shown(state, session, backing.settled, finalized=True)
    return Step((seen, *adopted.events), (*told, *adopted.effects), adopted.ask)


def _news(backed: Backed, backing: Backing) -> list[str]:
    """In the words of `service.NodeEvent`."""
    before, now = backed.stage, backing.stage
    told = {
        "complete": "cleared" if before == "disputed" else "funded",
        "disputed": "challenged",
        "released": "settled",
    }
    return [told[now], "backing"] if now != before and now in told else ["backing"]


def _checked(state: ChannelState, found: Milestones) -> Milestones:
    """Those that are of states known here; each is under its state's hash, by the right participant."""
    setup = state.setup
    kept: list[tuple[int, tuple[bytes, ...]]] = []
    for turn, signatures in found:
        content = milestone(state, turn)
        if content is None:
            continue
        if len(signatures) != len(setup.fixed.participants):
            raise LocalError(f"{len(signatures)} signatures of turn {turn}, {len(setup.fixed.participants)} can be")
        state_hash = setup.hash(content)
        for position, signature in enumerate(signatures):
            if signature and not setup.signed_at(position, state_hash, signature):
                who = setup.fixed.participants[position].hex()
                raise LocalError(f"the backing's signature of 0x{who} under turn {turn} is wrong")
        kept.append((turn, signatures))
    return tuple(kept)


def milestone(state: ChannelState, turn: int) -> Signed | Head | None:
    """A state that concerns the hubs: turn 0 or 1, whose content is fixed from the start, or a final one of ours."""
    if turn == 0:
        return state.prefund
    if turn == 1:
        return msgspec.structs.replace(state.prefund, turn=1, entries=())
    known = (state.head, *state.candidates)
    return next((one for one in known if one is not None and one.turn == turn and one.is_final), None)


def may_give_up(state: ChannelState) -> bool:
    """Has this node signed nothing above turn 1, and does not everybody stand to it that the channel is funded? What
    is signed above could be claimed beside what the channel began with."""
    backed = state.backed
    if backed is None or backed.funded or state.recovering:
        return False
    # A restored node may have signed more than it knows, but not if the ledgers say that it was never funded.
    return state.signed_turn <= 1 and (state.recovery.floor <= 1 or backed.stage == "failed")


def follow_failure(state: ChannelState) -> Step | None:
    """The ledgers will not fund it: it is given up, once this node knows what it has signed."""
    assert state.backed is not None
    if state.rejected is not None or not may_give_up(state):
        return None
    return given_up(state, state.backed.detail)


def given_up(state: ChannelState, reason: str) -> Step:
    """This node signs nothing more here, so that the channel may end with what it began with. Raises LocalError when
    it is too late for that."""
    if not may_give_up(state):
        raise LocalError(
            f"the channel is {state.phase}: turn {state.signed_turn} is signed, it can no longer be given up"
        )
    event = ChannelRejected(state.setup.my_index, reason[:REASON_MAX])
    sends: tuple[Effect, ...] = tuple(SendRejected(peer) for peer in state.setup.others)
    return Step((event,), (*sends, Tell("rejected", reason[:REASON_MAX])))


def offered(state: ChannelState) -> tuple[SignedState, ...]:
    """The milestones that both app parties have signed, oldest first, with those of the hubs that are known."""
    backed = state.backed
    if backed is None or state.recovering:
        return ()
    return tuple(found for turn, _ in backed.signed if (found := _with_hubs(state, turn)) is not None)


def _with_hubs(state: ChannelState, turn: int) -> SignedState | None:
    """A milestone under what is known of its signatures; None unless both app parties' are."""
    assert state.backed is not None
    content, signatures = milestone(state, turn), state.backed.signatures(turn)
    if content is None or not signatures or b"" in (signatures[0], signatures[-1]):
        return None
    state_hash = state.setup.hash(content)
    return signed_state(state.setup, content, state.setup.completed_at(state_hash, signatures))


def enforceable_stack(state: ChannelState) -> tuple[SignedState, tuple[SignedState, ...]] | None:
    """What the chain takes as the channel's newest state: a candidate and what proves it. None while not even the
    prefund state has all signatures, and for a channel that is not virtual. A node that recovers may know newer ones
    only later, so that it may answer with this and must not challenge with it (safety rule 10)."""
    if state.backed is None:
        return None
    opening = [
        found for turn in (1, 0) if (found := _with_hubs(state, turn)) is not None and b"" not in found.signatures
    ]
    newest = newest_full(state)
    if newest is not None and newest.turn >= 2 and opening and opening[0].turn == 1:
        candidate = _with_hubs(state, newest.turn) if newest.is_final else None
        return candidate or _of_pair(state, newest), (opening[0],)
    return (opening[0], ()) if opening else None


def _of_pair(state: ChannelState, full: Signed | Head) -> SignedState:
    setup = state.setup
    return signed_state(setup, full, setup.in_place(setup.completed(setup.hash(full), full.signatures)))


def shown(state: ChannelState, session: Session, candidate: SignedState, *, finalized: bool = False) -> Step:
    """The chain shows a state of this channel, from whomever: a newer one that both app parties have signed is adopted
    like one from a peer, and where it is `finalized` also below what is signed here (safety rule 4): then nothing is
    signed here any more. Anything else changes nothing."""
    found = as_registered(state.setup, candidate)
    if state.backed is None or found is None or b"" in found.signatures or found.turn <= state.turn:
        return NOTHING
    ours = state.candidate(found.turn)
    if finalized and ours is not None and state.setup.hash(ours) == state.setup.hash(found):
        return support_finalized(state, session, msgspec.structs.replace(ours, signatures=found.signatures))
    message = as_supported(state.setup, found, found.signatures)
    try:
        return receive_supported(state, session, state.setup.others[0], message)
    except PeerError as error:
        return Step(effects=(Tell("refused", f"shown on chain: {error}"),))
