"""The state of one channel and `evolve`, the fold of its events. Nothing here decides anything.

A node that replays its events gets this state and nothing else; what need not survive a restart is `Session`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from scapp.channels.backing import Stage
from scapp.channels.channel.events import (
    BackingSeen,
    ChainSeen,
    ChannelCreated,
    ChannelRejected,
    Event,
    ExitStarted,
    Recovered,
    Refused,
    Restored,
    RestoreSeen,
    Retired,
    SignatureSeen,
    Signed,
    StateAdopted,
    StateCompleted,
    StateRecalled,
    StateSigned,
    StateSupported,
    SubmissionsDropped,
    SubmissionsRefused,
    Submitted,
    TopUpApproved,
    with_signature,
)
from scapp.channels.channel.setup import Setup
from scapp.channels.entries import EMPTY_LOG_ROOT
from scapp.channels.errors import CorruptionError

REMEMBERED_REFUSALS = 1024


class Head(msgspec.Struct, frozen=True, gc=False):
    """The latest supported state, without its entries."""

    turn: int
    is_final: bool
    sequence: int
    log_root: bytes
    state_root: bytes
    amounts: bytes
    time_ms: int
    signatures: tuple[bytes, ...]


class Submission(msgspec.Struct, frozen=True, gc=False):
    """One own submission that is not decided yet."""

    counter: int
    kind: int
    payload: bytes


class Recovery(msgspec.Struct, frozen=True, gc=False):
    """What restores have left behind: the token of our own one that is not recovered from yet (or nothing), the highest
    turn that we may have signed before, and for others index, token and the turn they were told."""

    token: bytes = b""
    floor: int = -1
    seen: tuple[tuple[int, bytes, int], ...] = ()


Milestones = tuple[tuple[int, tuple[bytes, ...]], ...]
"""(turn, one signature per participant of the fixed part, empty where it is not known), ascending."""


class Backed(msgspec.Struct, frozen=True, gc=False):
    """What stands behind a virtual channel, and who has signed the states that concern its hubs: turns 0 and 1, and
    the final one."""

    stage: Stage = "none"
    detail: str = ""
    signed: Milestones = ()

    def signatures(self, turn: int) -> tuple[bytes, ...]:
        """Who has signed that turn; nothing for a turn that nobody is known to have signed."""
        return next((signatures for known, signatures in self.signed if known == turn), ())

    @property
    def complete(self) -> bool:
        """Do the ledgers say that it is funded, and do not say that it is disputed?"""
        return self.stage in ("complete", "releasing", "released")

    @property
    def funded(self) -> bool:
        """Has everybody signed the postfund state, for all that is known here?"""
        return self.complete or b"" not in (self.signatures(1) or (b"",))


class ChannelState(msgspec.Struct, frozen=True, gc=False):
    """All that this node knows durably of one channel."""

    setup: Setup
    prefund: Signed
    head: Head | None = None
    candidates: tuple[Signed, ...] = ()  # signed by us, above the head, ascending turns
    included: tuple[int, ...] = ()  # per author: highest counter in the supported log
    decided: tuple[int, ...] = ()  # per author: highest counter included or refused
    outstanding: tuple[Submission, ...] = ()  # own, ascending counters
    next_counter: int = 1
    since_head: tuple[Refused, ...] = ()  # refused since the last supported state
    dropped: tuple[Refused, ...] = ()  # left out of a replacement, refused once that is supported
    remembered: tuple[Refused, ...] = ()  # the newest refusals, to answer repeats
    rejected: str | None = None
    # Of the head, or of a log without entries; only `_advance` sets them, with the head.
    turn: int = -1
    sequence: int = 0
    log_root: bytes = EMPTY_LOG_ROOT
    time_ms: int = 0
    chain: ChainSeen | None = None  # of a funded channel: what the chain showed last
    exit_reason: str = ""  # why this node leaves by a challenge
    recovery: Recovery = Recovery()
    allowances: tuple[int, ...] = ()  # per asset: approved top-ups that no supported state asks for yet; empty for none
    backed: Backed | None = None  # of a virtual channel

    @property
    def recovering(self) -> bool:
        """Safety rule 10: restored, and what this node has signed before is not known yet."""
        return self.recovery.token != b""

    def next_turn(self) -> int:
        """The lowest turn for something new. (Not a property: to ask one enters the interpreter anew.)"""
        signed = self.candidates[-1].turn if self.candidates else self.turn  # `signed_turn`, which would cost as much
        return (signed if signed > self.recovery.floor else self.recovery.floor) + 1

    @property
    def signed_turn(self) -> int:
        """Highest turn this node has signed, -1 for none."""
        return self.candidates[-1].turn if self.candidates else self.turn

    @property
    def final_signed(self) -> bool:
        """Safety rule 5: after this only the same final outcome may be signed."""
        head = self.head
        if head is not None and head.is_final:
            return True
        for candidate in self.candidates:  # noqa: SIM110 - asked several times per state, and a generator costs more
            if candidate.is_final:
                return True
        return False

    @property
    def chain_ended(self) -> bool:
        """Has the chain finalized the channel, or paid it out?"""
        return self.chain is not None and self.chain.ended

    @property
    def phase(self) -> str:
        """Computed, never stored: see `service.ChannelInfo`."""
        if self.rejected is not None:
            return "rejected"
        head, chain, backed = self.head, self.chain, self.backed
        if self.recovery.token and not (head is not None and head.is_final):
            return "recovering"
        if head is None:
            return "opening" if self.candidates else "proposed"
        if (chain is not None and chain.settled) or (backed is not None and backed.stage == "released"):
            return "settled"
        if head.is_final:
            return "closed"
        if self.exit_reason or (chain is not None and chain.disputed):
            return "disputed"
        if backed is not None and (backed.stage == "disputed" or not backed.complete):
            return "disputed" if backed.stage == "disputed" else "funding"
        for candidate in self.candidates:
            if candidate.is_final:
                return "closing"
        if head.turn >= 1:
            return "running"
        return "funding" if self.setup.funded else "opening"

    def candidate(self, turn: int) -> Signed | None:
        """Our signed, not yet superseded state of that turn."""
        for candidate in self.candidates:
            if candidate.turn == turn:
                return candidate
        return None


def create(created: ChannelCreated) -> ChannelState:
    """State after a channel's first event."""
    setup = Setup(created)
    zeros = (0,) * setup.count
    backed = Backed() if setup.virtual else None
    return ChannelState(setup=setup, prefund=created.prefund, included=zeros, decided=zeros, backed=backed)


def evolve(state: ChannelState, event: Event) -> ChannelState:
    """The next state. Raises CorruptionError when the event cannot follow (the log contradicts itself)."""
    try:
        fold = _FOLDS[type(event)]
    except KeyError:
        raise CorruptionError(f"event {type(event).__name__} cannot follow the creation of a channel") from None
    return fold(state, event)


_replace = msgspec.structs.replace


def _restored(state: ChannelState, event: Restored) -> ChannelState:
    return _replace(state, recovery=_replace(state.recovery, token=event.token))


def _restore_seen(state: ChannelState, event: RestoreSeen) -> ChannelState:
    seen = (*(s for s in state.recovery.seen if s[0] != event.index), (event.index, event.token, event.floor))
    return _replace(state, recovery=_replace(state.recovery, seen=seen))


def _recovered(state: ChannelState, event: Recovered) -> ChannelState:
    return _replace(state, recovery=_replace(state.recovery, token=b"", floor=max(state.recovery.floor, event.turn)))


def _signed(state: ChannelState, event: StateSigned | StateRecalled) -> ChannelState:
    new, candidates = event.state, state.candidates
    if new.turn <= (candidates[-1].turn if candidates else state.turn):
        _refuse_turn(state, new)
    return _replace(state, candidates=(*candidates, new) if candidates else (new,))


def _refuse_turn(state: ChannelState, new: Signed) -> NoReturn:
    raise CorruptionError(f"turn {new.turn} signed after turn {state.signed_turn}")


def _seen(state: ChannelState, event: SignatureSeen) -> ChannelState:
    return _replace(
        state,
        candidates=tuple(
            _with_signature(c, event.index, event.signature) if c.turn == event.turn else c for c in state.candidates
        ),
    )


def _with_signature(state: Signed, index: int, signature: bytes) -> Signed:
    return _replace(state, signatures=with_signature(state.signatures, index, signature))


def _supported(state: ChannelState, event: StateSupported) -> ChannelState:
    candidates = state.candidates
    if candidates and candidates[-1].turn == event.turn:
        return _advance(state, candidates[-1], event.signatures)
    return _supported_below(state, event)


def _supported_below(state: ChannelState, event: StateSupported) -> ChannelState:
    """Signed something higher that does not extend it (safety rule 4): keep the full set, append nothing."""
    supported = state.candidate(event.turn)
    if supported is None:
        raise CorruptionError(f"turn {event.turn} supported but never signed here")
    complete = _replace(supported, signatures=event.signatures)
    return _replace(state, candidates=tuple(complete if c is supported else c for c in state.candidates))


def _completed(state: ChannelState, event: StateCompleted) -> ChannelState:
    new, candidates = event.state, state.candidates
    if new.turn <= (candidates[-1].turn if candidates else state.turn):
        _refuse_turn(state, new)
    return _advance(state, new, new.signatures)


def _adopted(state: ChannelState, event: StateAdopted) -> ChannelState:
    return _advance(state, event.state, event.state.signatures)


def _advance(state: ChannelState, to: Signed, signatures: tuple[bytes, ...]) -> ChannelState:
    """`to` becomes the head; its entries join the log, and what they decide is settled."""
    turn, sequence, log_root, time_ms = to.turn, to.sequence, to.log_root, to.time_ms
    head = Head(turn, to.is_final, sequence, log_root, to.state_root, to.amounts, time_ms, signatures)
    included, decided, outstanding, next_counter = state.included, state.decided, state.outstanding, state.next_counter
    if to.entries:
        last = to.last
        # One object as long as nothing is refused beyond what is included, and mostly they are.
        decided = last if decided is included else tuple(map(max, decided, last))
        included = last
        mine = last[state.setup.my_index]
        if outstanding and outstanding[0].counter <= mine:
            outstanding = _beyond(outstanding, mine)
        if next_counter <= mine:
            next_counter = mine + 1
    advanced = _replace(
        state,
        head=head,
        candidates=(),
        included=included,
        decided=decided,
        outstanding=outstanding,
        next_counter=next_counter,
        since_head=(),
        dropped=(),
        turn=turn,
        sequence=sequence,
        log_root=log_root,
        time_ms=time_ms,
    )
    if state.allowances:
        advanced = _replace(advanced, allowances=_allowances_left(state, to))
    backed = state.backed
    if backed is not None and (turn <= 1 or to.is_final):
        signed = merged(backed.signed, ((turn, state.setup.in_place(signatures)),))
        advanced = _replace(advanced, backed=_replace(backed, signed=signed))
    return advanced


def _beyond(outstanding: tuple[Submission, ...], counter: int) -> tuple[Submission, ...]:
    return tuple(s for s in outstanding if s.counter > counter)


def _allowances_left(state: ChannelState, to: Signed) -> tuple[int, ...]:
    """What is approved, less what `to` asks this node to deposit."""
    setup, head = state.setup, state.head
    if setup.shares is None or head is None:
        return ()
    asked = setup.shares.asked(setup.my_index, setup.unpack(head.amounts), setup.unpack(to.amounts))
    return tuple(max(0, allowed - now) for allowed, now in zip(state.allowances, asked, strict=True))


def merged(known: Milestones, more: Milestones) -> Milestones:
    """What is known, and where it has a gap what the others know."""
    turns = dict(known)
    for turn, signatures in more:
        before = turns.get(turn)
        turns[turn] = signatures if before is None else tuple(a or b for a, b in zip(before, signatures, strict=True))
    return tuple(sorted(turns.items()))


def _submitted(state: ChannelState, event: Submitted) -> ChannelState:
    if event.first_counter != state.next_counter:
        raise CorruptionError(f"own counter {event.first_counter} recorded, {state.next_counter} is next")
    new = tuple(Submission(event.first_counter + i, event.kind, p) for i, p in enumerate(event.payloads))
    return _replace(state, outstanding=state.outstanding + new, next_counter=event.first_counter + len(event.payloads))


def _refused(state: ChannelState, event: SubmissionsRefused) -> ChannelState:
    decided = list(state.decided)
    gone = set()
    for item in event.refused:
        decided[item.author] = max(decided[item.author], item.counter)
        if item.author == state.setup.my_index:
            gone.add(item.counter)
    return _replace(
        state,
        decided=tuple(decided),
        outstanding=tuple(s for s in state.outstanding if s.counter not in gone),
        next_counter=max(state.next_counter, decided[state.setup.my_index] + 1),
        since_head=state.since_head + event.refused,
        remembered=(state.remembered + event.refused)[-REMEMBERED_REFUSALS:],
    )


def _dropped(state: ChannelState, event: SubmissionsDropped) -> ChannelState:
    return _replace(state, since_head=state.since_head + event.refused, dropped=state.dropped + event.refused)


def _backing_seen(state: ChannelState, event: BackingSeen) -> ChannelState:
    if state.backed is None:
        raise CorruptionError("a backing is recorded of a channel that is not virtual")
    signed = merged(state.backed.signed, event.signatures)
    return _replace(state, backed=Backed(event.stage, event.detail, signed))


def _top_up_approved(state: ChannelState, event: TopUpApproved) -> ChannelState:
    assets = state.setup.shares.assets if state.setup.shares is not None else ()
    allowances = list(state.allowances or (0,) * len(assets))
    allowances[[bytes(asset) for asset in assets].index(event.asset)] += int.from_bytes(event.amount, "big")
    return _replace(state, allowances=tuple(allowances))


_FOLDS: dict[type, Callable[[ChannelState, Any], ChannelState]] = {
    ChannelRejected: lambda state, event: _replace(state, rejected=event.reason),
    StateSigned: _signed,
    SignatureSeen: _seen,
    StateSupported: _supported,
    StateCompleted: _completed,
    StateAdopted: _adopted,
    Submitted: _submitted,
    SubmissionsRefused: _refused,
    SubmissionsDropped: _dropped,
    ChainSeen: lambda state, event: _replace(state, chain=event),
    BackingSeen: _backing_seen,
    ExitStarted: lambda state, event: _replace(state, exit_reason=event.reason),
    TopUpApproved: _top_up_approved,
    Restored: _restored,
    RestoreSeen: _restore_seen,
    StateRecalled: _signed,
    Recovered: _recovered,
    Retired: lambda state, event: state,
}
