"""The sequencer's decisions: what becomes a batch, and the proposal of the next state.

Only participant 0 runs this. One proposal is in flight at a time; what arrives meanwhile gathers into the next.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence

from scapp.channels.admission import Admitted
from scapp.channels.channel import catchup, succession, top_ups
from scapp.channels.channel.chain_rules import Hindrance, hindrance
from scapp.channels.channel.decided import OMITTED, authors_to_tell, keys, last_counters, left_out
from scapp.channels.channel.effects import Effect, RollbackBatch, SendDecisions, SendNow, SendPropose
from scapp.channels.channel.events import Refused, Signed, StateSigned
from scapp.channels.channel.full_set import fully_signed, status_message
from scapp.channels.channel.messages import Refuse, Submit
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.session import NOTHING, Ordering, Queued, Session, Step
from scapp.channels.channel.signing_rules import REPLACED_MAX, StateSigner, sign_state
from scapp.channels.entries import HEADER, HEADER_BYTES, Kind, decode_entry, extend_log_root, pack_header
from scapp.channels.errors import PeerError

MESSAGE, CLOSE = int(Kind.MESSAGE), int(Kind.CLOSE)  # plain integers: members of an enumeration compare slower
SUBMITTABLE = frozenset((MESSAGE, int(Kind.TICK), CLOSE))
QUEUE_BATCHES_MAX = 4  # per author, in full batches
REFUSALS_PER_WINDOW_MAX = 200
REFUSAL_WINDOW_MS = 10_000
RETIMED_MAX = 3
REFUSED_AGAIN_MAX = 1_000
RECOVERED = "recovered"  # the code of a refusal by a participant that was restored


def payload_fault(kind: int, payload: bytes, payload_bytes_max: int) -> str:
    """Why such an entry is never ordered, or an empty string."""
    if kind not in SUBMITTABLE:
        return f"kind {kind} cannot be submitted"
    if len(payload) > payload_bytes_max:
        return f"payload of {len(payload)} bytes, the channel's limit is {payload_bytes_max}"
    if kind != Kind.MESSAGE and payload:
        return f"a {Kind(kind).name.lower()} carries no payload"
    return ""


def payloads_fault(kind: int, payloads: Sequence[bytes], payload_bytes_max: int) -> str:
    """The first fault of several payloads of one kind, or an empty string."""
    if kind == MESSAGE:
        longest = payloads[0] if len(payloads) == 1 else max(payloads, key=len, default=b"")
        if len(longest) <= payload_bytes_max:
            return ""
    for payload in payloads:
        fault = payload_fault(kind, payload, payload_bytes_max)
        if fault:
            return fault
    return ""


def receive_submit(state: ChannelState, session: Session, author: int, message: Submit, now_ms: int) -> Step:
    """Queue a participant's submissions; repeats are answered with what was decided."""
    limits = state.setup.limits
    if state.phase not in ("running", "closing", "opening", "funding", "disputed"):
        raise PeerError(f"submission to a channel that is {state.phase}")
    _check_rate(session, author, now_ms)
    waiting = sum(1 for q in session.queue if q.author == author)
    if waiting + len(message.payloads) > QUEUE_BATCHES_MAX * limits.batch_entries_max:
        raise PeerError(f"participant {author} has {waiting} submissions waiting")
    refused: list[Refused] = []
    repeated = gap = False
    for counter, payload in enumerate(message.payloads, message.first_counter):
        known = max(session.queued[author], state.decided[author])
        if counter <= known:
            repeated = repeated or counter <= state.decided[author]
            continue
        if counter != known + 1:
            gap = True
            break
        fault = payload_fault(message.kind, payload, limits.payload_bytes_max)
        session.queued[author] = counter
        if fault:
            refused.append(Refused(author, counter, "limit", fault))
        else:
            session.queue.append(Queued(author, counter, message.kind, payload))
    effects: list[Effect] = []
    if repeated:  # the recorded decision again; not kept in the outbox, for a repetition stores nothing (rule 11)
        answer = catchup.materialize(state, session, SendDecisions(author, message.first_counter))
        effects.extend(SendNow(author, decisions) for decisions in answer)
    if gap:  # an earlier submission was lost on the way: our status makes the author send all that is undecided
        effects.append(SendNow(author, status_message(state, answer=False)))
    return refuse(state, session, refused, now_ms, effects)


def _check_rate(session: Session, author: int, now_ms: int) -> None:
    times = session.refusal_times[author]
    while times and not now_ms - REFUSAL_WINDOW_MS <= times[0] <= now_ms:  # later ones: the clock was set back
        times.popleft()
    if len(times) >= REFUSALS_PER_WINDOW_MAX:
        raise PeerError(f"participant {author} had {len(times)} submissions refused in {REFUSAL_WINDOW_MS} ms")


def count_in_flight(state: ChannelState, session: Session) -> None:
    """After a restart: counters in our signed, not yet supported proposals are taken."""
    for candidate in state.candidates:
        for data in candidate.entries:
            _, author, counter, _ = HEADER.unpack_from(data)
            session.queued[author] = max(session.queued[author], counter)


def enqueue_own(session: Session, first_counter: int, kind: int, payloads: Iterable[bytes]) -> None:
    """Queue our own submissions (checked before)."""
    counter, queue = first_counter, session.queue
    for payload in payloads:
        queue.append(Queued(0, counter, kind, payload))
        counter += 1
    session.queued[0] = counter - 1


def refuse(
    state: ChannelState, session: Session, refused: Sequence[Refused], now_ms: int, effects: Sequence[Effect] = ()
) -> Step:
    """Record refusals and tell the authors of those that are final."""
    events = left_out(state, refused)
    told = authors_to_tell(state, events)
    for item in refused:
        if item.author in told:
            session.refusal_times[item.author].append(now_ms)
    return Step(events, (*effects, *(SendDecisions(author, counter) for author, counter in told.items())))


def next_batch(state: ChannelState, session: Session, now_ms: int) -> Step | None:
    """Hand the next batch to admission, or None before the postfund state. Something is queued, nothing in flight."""
    head = state.head
    if head is None:
        return None
    if head.is_final:
        rest = [Refused(q.author, q.counter, "closing", "the channel is closing") for q in session.queue]
        session.queue.clear()
        return refuse(state, session, rest, now_ms)
    if state.turn < 1:
        return None
    return _try(state, session, _take(state, session), (), now_ms)


def hindered_batch(state: ChannelState, session: Session, now_ms: int) -> Step | None:
    """The chain forbids to order: nothing goes on but, where it may, the end of the channel."""
    if state.turn < 1 or not session.queue or hindrance(state, session, is_final=True) is not None:
        return None
    return final_batch(state, session, now_ms)


def final_batch(state: ChannelState, session: Session, now_ms: int) -> Step | None:
    """When only a final state may be ordered: the first close that waits, past all that waits before it, in place of a
    proposal in flight. What is passed over is refused: the close's author's because counters only increase."""
    close = next((q for q in session.queue if q.kind == CLOSE), None)
    if close is None or state.final_signed or fully_signed(state) is not None:
        return None
    passed = [q for q in session.queue if q.author == close.author and q.counter < close.counter]
    session.queue = deque(q for q in session.queue if q is not close and q not in passed)
    gone = {(q.author, q.counter) for q in passed}
    for candidate in state.candidates:
        gone |= keys(candidate.entries)
    dropped = tuple(Refused(author, counter, "closing", "the channel is closing") for author, counter in sorted(gone))
    return _try(state, session, (close,), dropped, now_ms)


def _take(state: ChannelState, session: Session) -> tuple[Queued, ...]:
    """The longest prefix of the queue that fits a batch. A close is a batch of its own, so that the final state's
    outcome is the one already supported."""
    queue = session.queue
    if session.singly:
        session.singly -= 1
        return (queue.popleft(),)
    if len(queue) == 1:  # a single item fits always: `Setup` refuses limits under which it would not
        return (queue.popleft(),)
    limits = state.setup.limits
    entries_max, bytes_max = limits.batch_entries_max, limits.batch_bytes_max
    count = size = 0
    for item in queue:
        size += HEADER_BYTES + len(item.payload)
        closes = item.kind == CLOSE
        if count and (closes or size > bytes_max or count == entries_max):
            break
        count += 1
        if closes:
            break
    taken = tuple(itertools.islice(queue, count))
    if count == len(queue):
        queue.clear()
    else:
        for _ in taken:
            queue.popleft()
    return taken


def _try(
    state: ChannelState, session: Session, items: tuple[Queued, ...], dropped: tuple[Refused, ...], now_ms: int
) -> Step:
    time_ms = state.time_ms
    if time_ms < now_ms:
        time_ms = now_ms
    packed: list[bytes] = []
    for item in items:  # a comprehension would be a function of its own, with cells, for what is mostly one item
        packed.append(pack_header(item.kind, item.author, item.counter, time_ms) + item.payload)
    session.work = work = Ordering(state.sequence, tuple(packed), False, items, time_ms, dropped)
    return Step((), (), work)


def ordered(
    state: ChannelState, session: Session, signer: StateSigner, work: Ordering, result: Admitted, now_ms: int
) -> Step:
    """Admission has decided: propose the accepted entries, refuse the others."""
    step, entries, setup = NOTHING, work.candidates, state.setup
    amounts = setup.pack(result.amounts)
    if setup.funded:
        hindered = top_ups.hindrance(state, amounts)
        alone = len(work.items) == 1 or bool(state.candidates)
        if hindered is not None and alone:
            return _uncovered(state, session, work, hindered, now_ms)
        if hindered is not None or (not alone and top_ups.begins(state, amounts)):
            return _one_by_one(session, work)
    if work.dropped or result.refusals:
        step = refuse(state, session, [*work.dropped, *_refused(work, result)], now_ms)
    if len(result.accepted) != len(entries):
        entries = (*map(entries.__getitem__, result.accepted),)
    if not entries and not state.candidates:
        return Step(step.events, (RollbackBatch(), *step.effects))
    is_final = bool(entries) and entries[-1][0] == CLOSE
    if is_final and setup.shares is not None:
        amounts += succession.tail(state, session)
    proposal = Signed(
        state.next_turn(),
        is_final,
        entries,
        state.sequence + len(entries),
        extend_log_root(state.log_root, entries),
        result.state_root,
        amounts,
        work.time_ms if entries else state.time_ms,
        setup.unsigned,
        last_counters(state.included, entries),
    )
    return _propose(state, session, signer, proposal, step)


def _uncovered(state: ChannelState, session: Session, work: Ordering, hindered: Hindrance, now_ms: int) -> Step:
    """What this leads to may not be signed."""
    refused = [Refused(q.author, q.counter, hindered.code, hindered.reason) for q in work.items]
    if state.candidates:  # it was to replace a proposal: nothing is left of that
        return _try(state, session, (), (*work.dropped, *refused), now_ms)
    step = refuse(state, session, refused, now_ms)
    return Step(step.events, (RollbackBatch(), *step.effects))


def _one_by_one(session: Session, work: Ordering) -> Step:
    """Somebody may not sign what the batch leads to, for one of its entries: apart, only that one is refused."""
    session.queue.extendleft(reversed(work.items))
    session.singly = len(work.items)
    return Step(effects=(RollbackBatch(),))


def _refused(work: Ordering, result: Admitted) -> Iterable[Refused]:
    for refusal in result.refusals:
        item = work.items[refusal.index]
        yield Refused(item.author, item.counter, refusal.code, refusal.reason[:1024])


def _propose(state: ChannelState, session: Session, signer: StateSigner, proposal: Signed, before: Step) -> Step:
    signed = sign_state(state, session, signer, proposal)
    session.layer = signed.turn
    sends = state.setup.to_others(SendPropose, signed.turn)
    if before is NOTHING:
        return Step((StateSigned(signed),), sends)
    return Step((*before.events, StateSigned(signed)), (*before.effects, *sends))


def propose_postfund(state: ChannelState, session: Session, signer: StateSigner) -> Step:
    """Turn 1: everybody confirms that the channel is funded (nothing to wait for when it is unfunded)."""
    assert state.head is not None
    step = _propose(state, session, signer, _unchanged(state, turn=1), NOTHING)
    session.layer = None
    return step


def _unchanged(state: ChannelState, turn: int) -> Signed:
    head = state.head
    assert head is not None
    return Signed(
        turn=turn,
        is_final=head.is_final,
        entries=(),
        sequence=head.sequence,
        log_root=head.log_root,
        state_root=head.state_root,
        amounts=head.amounts,
        time_ms=head.time_ms,
        signatures=state.setup.unsigned,
        last=state.included,
    )


def propose_over_fork(state: ChannelState, session: Session, signer: StateSigner) -> Step | None:
    """When a replaced proposal turns out to be fully signed, propose its content again above everything signed.

    Its entries may be appended only under a turn higher than all that we have signed (safety rule 4)."""
    full = fully_signed(state)
    newest = state.candidates[-1] if state.candidates else None
    if full is None or newest is None or session.work is not None or _may_complete(state, session, newest, full):
        return None
    if state.final_signed and not full.is_final:
        return None  # rule 5: what was proposed as the end does not extend it, and only the chain can end the channel
    again = Signed(
        turn=state.next_turn(),
        is_final=full.is_final,
        entries=full.entries,
        sequence=full.sequence,
        log_root=full.log_root,
        state_root=full.state_root,
        amounts=full.amounts,
        time_ms=full.time_ms,
        signatures=state.setup.unsigned,
        last=full.last,
    )
    step = _propose(state, session, signer, again, NOTHING)
    session.layer = None
    return step


def _may_complete(state: ChannelState, session: Session, newest: Signed, full: Signed) -> bool:
    """Is `newest` itself such a repetition, still on its way? Two replaced proposals may both turn out to be fully
    signed; proposing now the one, now the other, each before the last one is complete, would never end."""
    again = any(turn == newest.turn and text.startswith(f"{RECOVERED}:") for turn, text in session.refusals.values())
    if again and len(state.candidates) < REPLACED_MAX:
        return False
    if newest.log_root == full.log_root:
        return True
    repeats = any(c.log_root == newest.log_root and b"" not in c.signatures for c in state.candidates[:-1])
    forked = any(turn == newest.turn and text.startswith("fork:") for turn, text in session.refusals.values())
    # Whoever has the higher full set as its log's end signs nothing that does not extend it.
    return repeats and not forked and max(session.peer_turns) < full.turn


def _may_retime(state: ChannelState, session: Session, proposal: Signed, now_ms: int) -> bool:
    """A proposal that has grown old gets a new time whenever it is refused for that; when it is fresh by our clock, the
    clocks differ, and trying more than a few times would only pile up signed turns."""
    if abs(now_ms - proposal.time_ms) > state.setup.limits.time_tolerance_ms // 2:
        return True
    session.retimed += 1
    return session.retimed <= RETIMED_MAX


def _forgotten(state: ChannelState, session: Session, author: int, newest: Signed, now_ms: int) -> Step:
    """Our proposal passes over submissions that we refused and, restored since, do not know: refuse them again."""
    included = {counter for by, counter in keys(newest.entries) if by == author}
    if state.recovery.floor < 0 or not included:
        return NOTHING
    last = max(included)
    passed = [c for c in range(max(state.decided[author] + 1, last - REFUSED_AGAIN_MAX), last) if c not in included]
    known = {r.counter for r in state.remembered if r.author == author}
    reason = "refused before the sequencer was restored"
    refused = [Refused(author, counter, "forgotten", reason) for counter in passed if counter not in known]
    if not refused:
        return NOTHING
    session.wire = None
    return refuse(state, session, refused, now_ms, [SendPropose(author, newest.turn)])


def receive_refuse(state: ChannelState, session: Session, index: int, message: Refuse, now_ms: int) -> Step:
    """A participant will not sign our proposal: replace it without the entry to blame, or wait and say so."""
    newest = state.candidates[-1] if state.candidates else None
    if newest is None or message.turn != newest.turn:
        return NOTHING
    session.refusals[index] = (message.turn, f"{message.code}: {message.reason}")
    if session.work is not None or fully_signed(state) is not None:
        return NOTHING
    if state.setup.funded and hindrance(state, session, is_final=newest.is_final) is not None:
        return NOTHING
    if state.backed is not None and state.turn < 1:
        return NOTHING  # turn 1 has one possible content, and nothing takes its place
    if message.code == OMITTED:
        return _forgotten(state, session, index, newest, now_ms)
    # Restored, that participant signs only above what we have signed: the same again, whatever is in it.
    recovered = message.code == RECOVERED and state.head is not None
    if not recovered and (state.turn < 1 or not newest.entries):
        return NOTHING  # prefund, postfund, or nothing that could be left out or be too old
    if len(state.candidates) >= REPLACED_MAX:
        return NOTHING
    blamed = 0 <= message.entry < len(newest.entries) and not newest.is_final
    retime = recovered or (message.code == "time" and _may_retime(state, session, newest, now_ms))
    if not blamed and not retime:
        return NOTHING
    kept: list[Queued] = []
    dropped: tuple[Refused, ...] = ()
    for position, data in enumerate(newest.entries):
        entry = decode_entry(data)
        if blamed and not retime and position == message.entry:
            reason = f"participant {index} does not accept it: {message.reason}"
            dropped = (Refused(entry.author, entry.counter, message.code, reason[:1024]),)
        else:
            kept.append(Queued(entry.author, entry.counter, entry.kind, entry.payload))
    return _try(state, session, tuple(kept), dropped, now_ms)
