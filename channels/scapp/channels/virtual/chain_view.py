"""What the chain shows of a virtual channel, as the fact that its record keeps; and what it is finalized with."""

from __future__ import annotations

from collections.abc import Iterator

from scapp.channels.abi import InvalidValue
from scapp.channels.adjudicator_status import NO_STATE_FINGERPRINT, fingerprint
from scapp.channels.books.step import NOTHING, Context, Step
from scapp.channels.chain.calls import decode_outcome
from scapp.channels.chain.judging import state_hash_of
from scapp.channels.chain.support import App, is_supported
from scapp.channels.crypto import keccak256
from scapp.channels.ledger.chain_facts import Enforceable, Seen, Shown, VirtualSeen
from scapp.channels.ledger.chain_states import same, shown
from scapp.channels.ledger.owed import Settled
from scapp.channels.onchain import ChainView, ChannelOnChain
from scapp.channels.outcome import Outcome, encode_outcome
from scapp.channels.reading import SignedState
from scapp.channels.state import VariablePart
from scapp.channels.types import ZERO_HASH, Hash
from scapp.channels.virtual.defunding import amounts_of, settled_on_chain
from scapp.channels.virtual.events import Milestone
from scapp.channels.virtual.record import VirtualRecord


def on_view(record: VirtualRecord, view: ChainView, context: Context) -> Step:
    """A view of the channel, which is watched without assets. NOTHING when it shows what is known."""
    fixed, known = record.agreement.fixed, record.chain
    before = known.seen if known is not None else None

    def believes(registered: Enforceable, found: ChannelOnChain) -> bool:
        return _proved(registered, found) or is_enforceable(record, registered)

    latest, confirmed = (
        shown(fixed, record.channel_id, found, before, believes) for found in (view.latest, view.confirmed)
    )
    now_s = max(context.head_time_s, before.time_s if before is not None else 0)
    fact = VirtualSeen(record.channel_id, Seen(latest, confirmed, now_s), _newest(record, latest, confirmed))
    if known is not None and same(known.seen, fact.seen) and known.newest == fact.newest:
        return NOTHING
    return Step((fact,))


def on_head(record: VirtualRecord, enforceable: Enforceable | None, context: Context) -> Step:
    """The chain's clock goes on, or a view came: once the channel is finalized for good, the amounts are stored that
    the guarantees still standing are worth (`SettledOnChain`). Until then no ledger is changed because of it.

    For good is some time after the end of a challenge: a reorganisation may still put an answer before it.
    `enforceable` as in `virtual.settling.wanted`."""
    seen = record.chain.seen if record.chain is not None else None
    if seen is None or record.on_chain is not None:
        return NOTHING
    if not seen.finalized_for_good(context.head_time_s - context.terms.conclude_delay_s):
        return NOTHING
    found = settled(record, enforceable, context.head_time_s)
    return settled_on_chain(record, VariablePart(found.outcome, b"", 0, False)) if found is not None else NOTHING


def settled(record: VirtualRecord, enforceable: Enforceable | None, head_time_s: int) -> Settled | None:
    """What the channel is finalized with in the newest block; None when it is not, or with what is not known here."""
    chain = record.chain
    if chain is None or not chain.seen.finalized(head_time_s):
        return None
    found = _finalized(record, chain, enforceable)
    if found is None:
        return None
    state_hash, state = found
    outcome = decode_outcome(state.outcome)
    return Settled(state_hash, outcome) if _has_amounts(record, outcome) else None


def finalized_state(record: VirtualRecord) -> SignedState | None:
    """The state with which the chain has finalized the channel for good; None before that, and where it was never
    shown here (its amounts are known then, `record.on_chain`)."""
    if record.on_chain is None or record.chain is None:
        return None
    found = _finalized(record, record.chain, None)
    return found[1] if found is not None else None


def _finalized(
    record: VirtualRecord, chain: VirtualSeen, enforceable: Enforceable | None
) -> tuple[Hash, SignedState] | None:
    """The state behind the newest status, with the hash that is recorded of it."""
    target = chain.seen.latest.status.fingerprint
    for state_hash, state in _possible(record, chain, enforceable):
        if fingerprint(state_hash, Hash(keccak256(state.outcome))) == target:
            return state_hash, state
    return None


def _has_amounts(record: VirtualRecord, outcome: Outcome) -> bool:
    """Two amounts for each asset, as every app of virtual channels wants it."""
    try:
        record.agreement.outcome(amounts_of(VariablePart(outcome, b"", 0, False)))
    except InvalidValue:
        return False
    return True


def is_enforceable(record: VirtualRecord, state: Enforceable) -> bool:
    """Would the channel's app on chain support it? A payment channel's may be either, as redemptions without locks are
    the same in both; which locks were opened is the chain's to say."""
    app: App = "hash-lock" if record.agreement.kind == "payment" else "two-party"
    return is_supported({record.agreement.fixed.app_definition: app}, state.candidate, state.proof)


def milestone_state(record: VirtualRecord, milestone: Milestone) -> SignedState | None:
    """The state of that milestone with the signatures that are known; None while it is not known itself."""
    known, variable = record.milestone(milestone), record.variable(milestone)
    if known is None or variable is None:
        return None
    fixed = record.agreement.fixed
    return SignedState(
        participants=fixed.participants,
        nonce=fixed.nonce,
        app_definition=fixed.app_definition,
        challenge_duration=fixed.challenge_duration,
        app_data=variable.app_data,
        outcome=encode_outcome(variable.outcome),
        turn=variable.turn,
        is_final=variable.is_final,
        signatures=known.signatures,
    )


def _possible(
    record: VirtualRecord, chain: VirtualSeen, enforceable: Enforceable | None
) -> Iterator[tuple[Hash, SignedState]]:
    """All that may have been registered or concluded, each with the hash that the chain then records of it."""
    shown_there = (chain.seen.latest.registered, chain.seen.confirmed.registered, chain.newest, enforceable)
    states = [each.candidate for each in shown_there if each is not None]
    milestones: tuple[Milestone, ...] = ("final", "aborted", "postfund", "prefund")
    states += [state for each in milestones if (state := milestone_state(record, each)) is not None]
    for state in states:
        yield state_hash_of(state), state
        if state.is_final:
            yield ZERO_HASH, state  # a conclusion records no state


def _proved(registered: Enforceable, found: ChannelOnChain) -> bool:
    """Has the status the fingerprint of this very state? The contract has then taken it with its proof."""
    state = registered.candidate
    if found.status.fingerprint == NO_STATE_FINGERPRINT:
        return False
    return found.status.fingerprint == fingerprint(state_hash_of(state), Hash(keccak256(state.outcome)))


def _newest(record: VirtualRecord, *blocks: Shown) -> Enforceable | None:
    newest = record.chain.newest if record.chain is not None else None
    for each in (block.registered for block in blocks):
        if each is not None and (newest is None or each.turn > newest.turn) and is_enforceable(record, each):
            newest = each
    return newest
