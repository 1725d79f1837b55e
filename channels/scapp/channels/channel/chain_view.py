"""What the chain shows of a channel, as facts: checked, compared with what was known, and told to listeners.

A view comes from outside, the candidate in it from a stranger: nothing of it is believed beyond what its fingerprint
and signatures prove. `chain_rules.py` and `settling.py` read the facts.
"""

from __future__ import annotations

import msgspec

from scapp.channels.abi import InvalidValue
from scapp.channels.adjudicator_status import NO_STATE_FINGERPRINT, Mode, fingerprint
from scapp.channels.app_data import decode_app_data
from scapp.channels.channel import signatures
from scapp.channels.channel.chain_rules import is_funded
from scapp.channels.channel.effects import Effect, Tell
from scapp.channels.channel.ended import Expected, with_end
from scapp.channels.channel.events import ChainSeen, OnChain, Signed
from scapp.channels.channel.full_set import as_supported
from scapp.channels.channel.model import ChannelState, evolve
from scapp.channels.channel.session import NOTHING, Session, Step
from scapp.channels.channel.setup import Setup
from scapp.channels.cosigned import encode_slots_outcome, low_s
from scapp.channels.crypto import keccak256
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.onchain import ChainView, ChannelOnChain
from scapp.channels.outcome import encode_outcome
from scapp.channels.reading import SignedState
from scapp.channels.signing import InvalidSignature, recover
from scapp.channels.types import U256_MAX, Hash

SIGNATURES_READ_MAX = 10_000  # a challenger may add foreign ones; more than fit a block are of no contract


def on_chain(state: ChannelState, session: Session, view: ChainView, head_time_s: int) -> Step:
    """A view of the chain: store what has changed, adopt a full state that is newer than ours (safety rule 4)."""
    setup = state.setup
    if setup.shares is None or state.rejected is not None:
        return NOTHING
    known = state.chain
    before_s = max(known.time_s if known is not None else 0, session.seen_at_s)
    session.head_time_s = session.seen_at_s = max(head_time_s, session.head_time_s)
    told = session.news if session.news is not None else news(state, known.time_s if known is not None else 0)
    latest = _facts(state, view.latest)
    confirmed = _facts(state, view.confirmed)
    seen = _with_end(state, latest, confirmed, before_s, session.head_time_s)
    if known is not None and _same(known, seen):
        session.news = told
        return NOTHING
    session.news = news(evolve(state, seen), session.head_time_s)
    effects: list[Effect] = [Tell(kind) for kind in session.news if kind not in told]
    if "challenged" in told and not latest.status.finalizes_at and not seen.ended:
        effects.append(Tell("cleared"))
    effects.append(Tell("chain"))
    adopted = _adopt(state, session, latest.registered)
    return Step((seen, *adopted.events), (*effects, *adopted.effects), adopted.ask)


def finalized_below(state: ChannelState, session: Session) -> Step | None:
    """What follows when the chain has finalized, for good, a replaced proposal of ours that everybody has signed."""
    seen = state.chain
    if seen is None or session.work is not None or session.failure:
        return None
    shown = seen.confirmed.registered
    if shown is None or seen.confirmed.status.mode(session.head_time_s) is not Mode.FINALIZED:
        return None
    candidate = state.candidate(shown.turn)
    if candidate is None or b"" in candidate.signatures or state.setup.hash(candidate) != state.setup.hash(shown):
        return None
    return signatures.support_finalized(state, session, candidate)


def news(state: ChannelState, head_time_s: int) -> tuple[str, ...]:
    """What holds of the channel on chain, in the words of `service.NodeEvent`."""
    seen = state.chain
    if seen is None or state.setup.shares is None:
        return ()
    mode = seen.latest.status.mode(head_time_s)
    found = [
        ("funded", is_funded(state, seen)),
        ("challenged", mode is Mode.CHALLENGE),
        ("finalized", mode is Mode.FINALIZED),
        ("settled", seen.settled),
    ]
    return tuple(word for word, holds_now in found if holds_now)


def tick(state: ChannelState, session: Session, head_time_s: int) -> tuple[Effect, ...]:
    """The chain's clock goes on: a challenge becomes final without any view that says so.

    A new block may come before the view of it, so that it only proves that nothing has changed up to the last one."""
    before_s = session.head_time_s
    session.head_time_s = max(head_time_s, before_s)
    if session.news is None or state.chain is None:
        return ()
    if head_time_s > before_s:
        session.seen_at_s = before_s
    told, session.news = session.news, news(state, session.head_time_s)
    return tuple(Tell(kind) for kind in session.news if kind not in told)


def _facts(state: ChannelState, found: ChannelOnChain) -> OnChain:
    setup, known = state.setup, state.chain
    registered = _registered(setup, found, _redirected(state))
    if registered is None and known is not None:  # its event may lie before the blocks that are read after a restart
        for old in (known.latest, known.confirmed):
            if old.status == found.status:
                registered = registered or old.registered
    assert setup.shares is not None
    if len(found.holdings) != len(setup.shares.assets):
        raise LocalError(f"a view with {len(found.holdings)} holdings of {len(setup.shares.assets)} assets")
    holdings = tuple(amount.to_bytes(32, "big") for amount in found.holdings)
    return OnChain(found.block, found.block_hash, holdings, found.status, registered)


def _same(known: ChainSeen, seen: ChainSeen) -> bool:
    return all(
        (old.holdings, old.status, old.registered) == (new.holdings, new.status, new.registered)
        for old, new in ((known.latest, seen.latest), (known.confirmed, seen.confirmed))
    ) and (known.ended, known.held) == (seen.ended, seen.held)


def _redirected(state: ChannelState) -> tuple[bytes, ...]:
    """Blobs of the final states here that pass on to a successor: what moves of which slot, an outcome does not say."""
    known = (*state.candidates, *((state.head,) if state.head is not None else ()))
    return tuple(each.amounts for each in known if each.is_final and state.setup.redirect(each.amounts) is not None)


def _registered(setup: Setup, found: ChannelOnChain, redirected: tuple[bytes, ...]) -> Signed | None:
    """The registered candidate as a state of this channel, with those of its signatures that are right.

    A checkpoint leaves no trace of its state: a service that finds it elsewhere may show it, and all its signatures
    prove it."""
    candidate = found.registered
    if candidate is None or candidate.turn != found.status.turn_record:
        return None
    state = as_registered(setup, candidate, redirected)
    if state is None:
        return None
    proved = found.status.fingerprint == fingerprint(setup.hash(state), Hash(keccak256(candidate.outcome)))
    if not proved and (found.status.fingerprint != NO_STATE_FINGERPRINT or b"" in state.signatures):
        return None
    return state


def as_registered(setup: Setup, candidate: SignedState, redirected: tuple[bytes, ...] = ()) -> Signed | None:
    """A stranger's candidate as a state of this channel, with those of the participants' signatures that are right."""
    state = _as_state(setup, candidate, redirected)
    if state is None:
        return None
    signatures = _by_participant(setup, setup.hash(state), candidate.signatures)
    return msgspec.structs.replace(state, signatures=signatures)


def _as_state(setup: Setup, candidate: SignedState, redirected: tuple[bytes, ...]) -> Signed | None:
    try:
        app_data = decode_app_data(candidate.app_data)
    except InvalidValue:
        return None
    paid = _read_outcome(setup, candidate.outcome, redirected)
    if paid is None or app_data.deployment != setup.deployment_id or setup.amounts_fault(paid):
        return None
    return Signed(
        turn=candidate.turn,
        is_final=candidate.is_final,
        entries=(),
        sequence=app_data.sequence,
        log_root=app_data.log_root,
        state_root=app_data.state_root,
        amounts=paid,
        time_ms=app_data.time_ms,
        signatures=setup.unsigned,
        last=(),
    )


def _read_outcome(setup: Setup, outcome: bytes, redirected: tuple[bytes, ...]) -> bytes | None:
    """The blob of an encoded outcome of this channel's slots, None for any other outcome. All that such encodings
    can differ in are the words of the amounts."""
    for blob in redirected:
        if encode_outcome(setup.outcome(blob)) == outcome:
            return blob
    none = encode_slots_outcome(setup.slots, (0,) * len(setup.slots))
    most = encode_slots_outcome(setup.slots, (U256_MAX,) * len(setup.slots))
    if len(outcome) != len(none):
        return None
    places = [at for at in range(0, len(none), 32) if none[at : at + 32] != most[at : at + 32]]
    found = tuple(int.from_bytes(outcome[at : at + 32], "big") for at in places)
    return setup.pack(found) if encode_slots_outcome(setup.slots, found) == outcome else None


def _by_participant(setup: Setup, state_hash: Hash, found: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The signatures in the participants' order; the contract takes them in any, and such with a high s as well."""
    by_index = list(setup.unsigned)
    for signature in found[:SIGNATURES_READ_MAX]:
        try:
            signer = recover(state_hash, low := low_s(signature))
        except InvalidSignature:
            continue
        if signer in setup.participants:
            by_index[setup.participants.index(signer)] = low
    return tuple(by_index)


def _with_end(state: ChannelState, latest: OnChain, confirmed: OnChain, before_s: int, now_s: int) -> ChainSeen:
    shares, setup = state.setup.shares, state.setup
    assert shares is not None
    claims = shares.claims(setup.unpack(state.head.amounts) if state.head is not None else setup.start_amounts)
    expected = Expected(
        totals=claims,
        claims=claims,
        deposits=tuple(min(filter(None, (of[k].amount for of in shares.of))) for k in range(len(shares.assets))),
        challenge_duration=state.setup.fixed.challenge_duration,
        final_signed=state.final_signed,
        leaving=bool(state.exit_reason),
    )
    ended, held = with_end(state.chain, latest, confirmed, expected, before_s, now_s)
    return ChainSeen(latest, confirmed, now_s, ended, held)


def _adopt(state: ChannelState, session: Session, shown: Signed | None) -> Step:
    """A full state on chain is adopted like one from a peer; whoever has its entries is asked for them."""
    if shown is None or b"" in shown.signatures or shown.turn <= state.turn:
        return NOTHING
    message = as_supported(state.setup, shown, shown.signatures)
    effects: list[Effect] = []
    for peer in state.setup.others:
        try:
            step = signatures.receive_supported(state, session, peer, message)
        except PeerError as error:
            return Step(effects=(Tell("refused", f"registered on chain: {error}"),))
        effects.extend(step.effects)
        if step.events or session.work is not None:
            return Step(step.events, tuple(effects), step.ask)
    return Step(effects=tuple(effects))
