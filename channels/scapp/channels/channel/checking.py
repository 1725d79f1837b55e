"""A countersigner's decisions: may this proposal carry our signature? (safety rules 1-5)

The cheap checks come first and need no reducer; then admission runs the batch and its answer is compared.
"""

from __future__ import annotations

import functools

import msgspec

from scapp.channels.admission import Admitted
from scapp.channels.channel import succession, top_ups
from scapp.channels.channel.chain_rules import Hindrance
from scapp.channels.channel.decided import OMITTED, RESTORED, keys, left_out, settled_by
from scapp.channels.channel.effects import (
    COMMIT,
    RollbackBatch,
    SendCountersign,
    SendNow,
    Tell,
)
from scapp.channels.channel.events import Event, Refused, Signed, StateCompleted, StateSigned
from scapp.channels.channel.full_set import fully_signed, supported_message
from scapp.channels.channel.messages import Propose, Refuse, encode_message
from scapp.channels.channel.model import ChannelState, Head, evolve
from scapp.channels.channel.ordering import CLOSE, MESSAGE, payload_fault
from scapp.channels.channel.session import NOTHING, Checking, Session, Step
from scapp.channels.channel.signing_rules import (
    TURN_LEAD_MAX,
    BeforeRestore,
    MayNotSign,
    StateSigner,
    check_may_sign,
    sign_state,
)
from scapp.channels.entries import HEADER_BYTES, extend_log_root, unpack_header
from scapp.channels.errors import PeerError

SEQUENCER = 0


class Fault(msgspec.Struct, frozen=True, gc=False):
    """Why a proposal is not signed; `entry` blames one entry, or is -1."""

    code: str
    reason: str
    entry: int = -1


def receive_propose(state: ChannelState, session: Session, message: Propose, now_ms: int) -> Step:
    """Check the sequencer's proposal up to the point where the reducer must run.

    Raises PeerError for what nobody honest sends; answers with Refuse what an honest sequencer can mend."""
    turn = message.turn
    if state.head is None or state.rejected is not None:
        raise PeerError(f"proposal of turn {turn} in a channel that is {state.phase}")
    mine = state.candidate(turn) if state.candidates else None
    if mine is not None:
        return _again(mine, message)
    if turn <= state.turn or message.first_sequence < state.sequence:
        return _answer_with_full_set(state, session)
    if turn > state.turn + TURN_LEAD_MAX:
        raise PeerError(f"turn {turn} is more than {TURN_LEAD_MAX} above supported turn {state.turn}")
    if state.recovery.token:
        return NOTHING  # it comes again when we ask, after we have recovered
    if session.failure:
        return refuse_proposal(message.channel, message.turn, Fault("halted", session.failure))
    hindered = _hindered(state, session, message) if state.setup.funded else None
    # A full set is on its way in: sign only what extends it.
    waits = session.wanted is not None or (hindered is not None and hindered.passes)
    if is_ahead(state, message) or waits:
        session.held = message
        return NOTHING
    if hindered is not None:
        blamed = _asks_most(state, message) if hindered.code == top_ups.OUTCOME else -1
        return refuse_proposal(message.channel, message.turn, Fault(hindered.code, hindered.reason, blamed))
    return _check(state, session, message, now_ms)


def _asks_most(state: ChannelState, message: Propose) -> int:
    """The entry that most likely asks us for money: our own, for who else would; -1 without any."""
    authors = [data[1] for data in message.entries if len(data) >= HEADER_BYTES]
    me = state.setup.my_index
    return authors.index(me) if me in authors else 0 if authors else -1


def is_ahead(state: ChannelState, message: Propose) -> bool:
    """Is the proposal over a state that is not supported here yet? No entry before the postfund state (rule 8)."""
    return message.first_sequence > state.sequence or (state.turn < 1 and bool(message.entries))


def must_wait(state: ChannelState, session: Session, message: Propose) -> bool:
    """Does the chain not yet show what the proposal needs: the deposits, or the end of a challenge (rule 8)?"""
    hindered = _hindered(state, session, message) if state.setup.funded else None
    return hindered is not None and hindered.passes


def _hindered(state: ChannelState, session: Session, message: Propose) -> Hindrance | None:
    hindered = succession.hindrance(state, session, message.amounts, is_final=message.is_final)
    return hindered if hindered is not None else top_ups.hindrance(state, message.amounts)


def _again(mine: Signed, message: Propose) -> Step:
    if message.signature == mine.signatures[SEQUENCER] and message.log_root == mine.log_root:
        return Step(effects=(SendCountersign(SEQUENCER, mine.turn),))
    raise PeerError(f"a second proposal of turn {message.turn}, which is signed already")


def _answer_with_full_set(state: ChannelState, session: Session) -> Step:
    full = supported_message(state, session)
    return Step(effects=(SendNow(SEQUENCER, full),)) if full is not None else NOTHING


def _check(state: ChannelState, session: Session, message: Propose, now_ms: int) -> Step:
    setup, turn, entries, signature = state.setup, message.turn, message.entries, message.signature
    fault = setup.amounts_fault(message.amounts)
    if fault:
        raise PeerError(fault)
    sequence = state.sequence + len(entries)
    state_hash = setup.hasher.hash_of(
        turn,
        message.is_final,
        sequence,
        message.log_root,
        message.state_root,
        message.amounts,
        message.time_ms,
    )
    if not setup.signed[SEQUENCER](state_hash, signature):
        raise PeerError(f"wrong signature under the proposal of turn {turn}")
    last = list(state.included)
    found = _find_fault(state, message, message.refused, now_ms, last)
    if found is not None:
        return refuse_proposal(message.channel, turn, found)
    proposed = Signed(
        turn,
        message.is_final,
        entries,
        sequence,
        message.log_root,
        message.state_root,
        message.amounts,
        message.time_ms,
        (signature, *setup.unsigned[1:]),
        tuple(last),
    )
    session.work = work = Checking(state.sequence, entries, True, proposed, message.refused, state_hash, state)
    return Step((), (), work)


def refuse_proposal(channel: bytes, turn: int, fault: Fault) -> Step:
    """Tell the sequencer and the operator."""
    text = f"refused turn {turn}: {fault.code}: {fault.reason}"
    answer = Refuse(channel, turn, fault.code, fault.reason[:1024], fault.entry)
    return Step(effects=(SendNow(SEQUENCER, encode_message(answer)), Tell("refused", text)))


def _find_fault(
    state: ChannelState, proposed: Propose, refused: tuple[Refused, ...], now_ms: int, last: list[int]
) -> Fault | None:
    """The signed bytes are the sequencer's; are they ones we may sign as well?"""
    try:
        check_may_sign(state, proposed)
    except MayNotSign as error:
        return Fault("recovered" if isinstance(error, BeforeRestore) else "turn", str(error))
    full = fully_signed(state) if state.candidates else None
    if full is not None:
        if proposed.entries[: len(full.entries)] != full.entries:
            return Fault("fork", f"turn {full.turn} has all signatures and is not extended")
        if _same_content(proposed, full):  # signed by us before; by now its time is old and our entries may be decided
            last[:] = full.last
            return None
    if extend_log_root(state.log_root, proposed.entries) != proposed.log_root:
        return Fault("log", "the log root does not follow from the entries")
    entries = proposed.entries
    if not entries:
        assert state.head is not None
        same = _same_content(proposed, state.head)
        return None if same else Fault("root", "a state without entries changes root, outcome, time or finality")
    limits = state.setup.limits
    count = len(entries)
    size = len(entries[0]) if count == 1 else sum(map(len, entries))
    if count > limits.batch_entries_max or size > limits.batch_bytes_max:
        allowed = f"the limits are {limits.batch_entries_max} and {limits.batch_bytes_max}"
        return Fault("limit", f"batch of {count} entries, {size} bytes; {allowed}")
    time_ms, tolerance = proposed.time_ms, limits.time_tolerance_ms
    if time_ms > state.time_ms and abs(time_ms - now_ms) > tolerance:
        return Fault("time", f"state time {time_ms} ms, our clock {now_ms}, tolerance {tolerance}")
    return check_entries(state, proposed, refused, last)


def _same_content(proposed: Propose, known: Signed | Head) -> bool:
    return (proposed.log_root, proposed.state_root, proposed.amounts, proposed.time_ms, proposed.is_final) == (
        known.log_root,
        known.state_root,
        known.amounts,
        known.time_ms,
        known.is_final,
    )


def check_entries(
    state: ChannelState, proposed: Propose, refused: tuple[Refused, ...], last: list[int]
) -> Fault | None:
    """Safety rule 3: own entries unaltered and complete, counters increase, times never decrease.

    `last` holds each author's highest counter so far and is moved on."""
    setup = state.setup
    me = setup.my_index
    own = {s.counter: s for s in state.outstanding} if state.outstanding else {}
    gone = _refused_counters(state, refused) if refused else ()
    payload_max = setup.limits.payload_bytes_max
    count = setup.count
    time_before, time_last = state.time_ms, proposed.time_ms
    for position, data in enumerate(proposed.entries):
        size = len(data) - HEADER_BYTES
        if size < 0:
            return Fault("entry", f"entry of {len(data)} bytes", position)
        kind, author, counter, time_ms = unpack_header(data)
        if author >= count:
            return Fault("entry", f"author {author} of {count} participants", position)
        if kind != MESSAGE or size > payload_max:
            fault = payload_fault(kind, data[HEADER_BYTES:], payload_max)
            if fault:
                return Fault("entry", fault, position)
            if kind == CLOSE and len(proposed.entries) != 1:
                return Fault("entry", "a close shares its batch", position)
        if counter <= last[author]:
            return Fault("entry", f"counter {counter} of author {author} after {last[author]}", position)
        last[author] = counter
        if time_ms < time_before or time_ms > time_last:
            return Fault("entry", f"entry time {time_ms} outside {time_before}..{proposed.time_ms}", position)
        time_before = time_ms
        if author == me:
            submitted = own.pop(counter, None)
            if submitted is None and kind != MESSAGE and state.recovery.floor >= 0:
                continue  # forgotten by a restore; the sequencer may tick and close as well, so it gains nothing
            if submitted is None or submitted.kind != kind or submitted.payload != data[HEADER_BYTES:]:
                return Fault("entry", f"entry {counter} of ours is not what we submitted", position)
            if counter in gone:
                return Fault("entry", f"entry {counter} of ours is included and refused at once", position)
    if proposed.is_final != (kind == CLOSE):  # the last entry's; a close is the only one
        return Fault("entry", "a state is final exactly when its batch is a close")
    if not own:
        return None
    below = last[me]
    for counter in own:
        if counter < below and counter not in gone:
            return Fault(OMITTED, f"our submission {counter} is left out and not refused")
    return None


def _refused_counters(state: ChannelState, refused: tuple[Refused, ...]) -> set[int]:
    """Our submissions that the sequencer says it refused."""
    me = state.setup.my_index
    return {r.counter for r in (*refused, *own_refusals(state, refused)) if r.author == me}


def checked(state: ChannelState, session: Session, signer: StateSigner, work: Checking, result: Admitted) -> Step:
    """Admission has run the batch: sign when everything is equal, else refuse."""
    fault = compare(state, work.state, result)
    if fault is not None:
        step = refuse_proposal(state.setup.channel_id, work.state.turn, fault)
        return Step(effects=(RollbackBatch(), *step.effects))
    return countersign(state, session, signer, work)


def compare(state: ChannelState, proposed: Signed, result: Admitted) -> Fault | None:
    """Does our own run give what the state commits to?"""
    if result.refusals:
        first = result.refusals[0]
        return Fault(first.code, first.reason, first.index)
    if result.state_root != proposed.state_root:
        return Fault("root", f"state root 0x{proposed.state_root.hex()}, ours is 0x{result.state_root.hex()}")
    if result.amounts != state.setup.unpack(proposed.amounts):
        return Fault("outcome", f"outcome {state.setup.unpack(proposed.amounts)}, ours is {result.amounts}")
    return None


def countersign(state: ChannelState, session: Session, signer: StateSigner, work: Checking) -> Step:
    """Sign, and see whether ours was the last signature missing."""
    proposed, refused = work.state, work.refused
    turn = proposed.turn
    with_early = _add_early(state, session, work) if session.early else proposed
    signed = sign_state(state, session, signer, with_early, work)
    session.layer = turn
    left = _own_left_out(state, proposed, refused) if refused else ()
    sends = state.setup.to_others(SendCountersign, turn)
    if b"" in signed.signatures:
        return Step((*left, StateSigned(signed)), sends)
    settled = settled_by(functools.reduce(evolve, left, state) if left else state, signed)
    completed = StateCompleted(signed)
    events = (*left, completed, *settled) if left or settled else (completed,)
    return Step(events, sends + COMMIT)


def _own_left_out(state: ChannelState, proposed: Signed, refused: tuple[Refused, ...]) -> tuple[Event, ...]:
    me = state.setup.my_index
    if not any(r.author == me for r in refused):
        return ()
    included = keys(proposed.entries)
    return left_out(state, [r for r in own_refusals(state, refused) if (me, r.counter) not in included])


def own_refusals(state: ChannelState, refused: tuple[Refused, ...]) -> list[Refused]:
    """Undecided submissions of ours that the sequencer says it refused, its texts cut to what we keep."""
    me = state.setup.my_index
    waiting = [s.counter for s in state.outstanding]
    mine: dict[int, Refused] = {}
    for r in refused:
        if r.author == me:
            covered = [c for c in waiting if c == r.counter or (r.code == RESTORED and c < r.counter)]
            mine.update((c, Refused(me, c, r.code[:32], r.reason[:1024])) for c in covered)
    return list(mine.values())


def _add_early(state: ChannelState, session: Session, work: Checking) -> Signed:
    """Signatures that came before the proposal, where they are valid for it."""
    proposed, state_hash = work.state, work.state_hash
    early = {i: s for (turn, i), s in session.early.items() if turn == proposed.turn}
    if not early:
        return proposed
    signatures = list(proposed.signatures)
    for index, signature in early.items():
        if not signatures[index] and state.setup.signed[index](state_hash, signature):
            signatures[index] = signature
    return msgspec.structs.replace(proposed, signatures=tuple(signatures))
