"""When a submission is decided: at once, or only when the state that leaves it out is supported (safety rule 4).

A proposal that is replaced can still be completed, and its entries then join the log. So nobody is told that a
submission was refused while a signed proposal of ours contains it: it is *dropped* first, and refused later.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence

from scapp.channels.channel.events import Event, Refused, Signed, SubmissionsDropped, SubmissionsRefused
from scapp.channels.channel.model import ChannelState
from scapp.channels.entries import unpack_header

RESTORED = "restored"
"""The code of a refusal by a sequencer that was restored. It knows only up to where the author's submissions were
decided before, and takes none of them any more: all that the author still waits for up to there are refused by it."""


OMITTED = "omitted"
"""The code with which an author refuses a proposal that passes over a submission of its own and does not refuse it."""


_KEY = operator.itemgetter(1, 2)  # author and counter of a header


def keys(entries: Iterable[bytes]) -> set[tuple[int, int]]:
    """(author, counter) of each entry."""
    return set(map(_KEY, map(unpack_header, entries)))


def last_counters(included: tuple[int, ...], entries: Sequence[bytes]) -> tuple[int, ...]:
    """Per author: the highest counter in the log after the entries, whose counters increase per author."""
    last = list(included)
    if len(entries) == 1:
        _, author, counter, _ = unpack_header(entries[0])
        last[author] = counter
    else:
        for author, counter in dict(map(_KEY, map(unpack_header, entries))).items():
            last[author] = counter
    return tuple(last)


def left_out(state: ChannelState, refused: Sequence[Refused]) -> tuple[Event, ...]:
    """Facts about submissions that the next state will not contain: refused, or dropped if signed proposals do."""
    if not refused:
        return ()
    signed: set[tuple[int, int]] = set()
    for candidate in state.candidates:
        signed |= keys(candidate.entries)
    now = tuple(r for r in refused if (r.author, r.counter) not in signed)
    known = {(r.author, r.counter) for r in state.dropped}
    later = tuple(r for r in refused if (r.author, r.counter) in signed - known)
    events: list[Event] = [SubmissionsRefused(now)] if now else []
    if later:
        events.append(SubmissionsDropped(later))
    return tuple(events)


def settled_by(state: ChannelState, supported: Signed) -> tuple[Event, ...]:
    """What becomes refused when `supported` becomes the head: what was dropped and is not in it, and, when it is
    final, all that we still had to say."""
    if not state.dropped and not (supported.is_final and state.outstanding):
        return ()
    return _settled_by(state, supported)


def _settled_by(state: ChannelState, supported: Signed) -> tuple[Event, ...]:
    included = keys(supported.entries)
    refused = {(r.author, r.counter): r for r in state.dropped}
    if supported.is_final:
        me = state.setup.my_index
        for own in state.outstanding:
            refused.setdefault((me, own.counter), Refused(me, own.counter, "closing", "the channel is closed"))
    left = tuple(r for key, r in refused.items() if key not in included)
    return (SubmissionsRefused(left),) if left else ()


def authors_to_tell(state: ChannelState, events: Iterable[Event]) -> dict[int, int]:
    """The sequencer's duty: author and lowest counter of what the events decide as refused, others' only."""
    told: dict[int, int] = {}
    if state.setup.my_index != 0:
        return told
    for event in events:
        if isinstance(event, SubmissionsRefused):
            for r in event.refused:
                if r.author != 0:
                    told[r.author] = min(r.counter, told.get(r.author, r.counter))
    return told
