"""Which state a channel's status tells of, and which events tell it; the watcher puts both together. Pure."""

from __future__ import annotations

from collections.abc import Container, Sequence

from scapp.channels.abi import InvalidValue
from scapp.channels.adjudicator_status import NO_STATE_FINGERPRINT, Mode, Status
from scapp.channels.chain.client import Log
from scapp.channels.chain.contract_events import (
    TOPICS,
    ChallengeCleared,
    ChallengeRegistered,
    Checkpointed,
    Concluded,
    ContractEvent,
    decode_event,
)
from scapp.channels.onchain import ChannelOnChain
from scapp.channels.reading import SignedState
from scapp.channels.types import ChannelId

Found = tuple[Log, ContractEvent]
WithProof = tuple[SignedState, tuple[SignedState, ...]]
TELLING = frozenset(TOPICS[kind] for kind in (ChallengeRegistered, ChallengeCleared, Checkpointed, Concluded))


def _event_of(log: Log) -> ContractEvent | None:
    try:
        return decode_event(log.topics, log.data)
    except InvalidValue:
        return None  # an endpoint's nonsense, or an event of another version of the contract


def recorded(status: Status) -> tuple[int, int]:
    """Turn and end: what tells the challenges and checkpoints of a channel apart; the end of the latter is 0."""
    return status.turn_record, status.finalizes_at


def told_by(event: ContractEvent) -> tuple[int, int]:
    """`_recorded` of the status after the event; (0, 0) for other events."""
    match event:
        case ChallengeRegistered(finalizes_at=ends, candidate=candidate):
            return candidate.turn, ends
        case Checkpointed(turn=turn) | ChallengeCleared(turn=turn):
            return turn, 0
        case Concluded(finalizes_at=ends):
            return 0, ends
        case _:
            return 0, 0


def records_a_state(status: Status) -> bool:
    """By a challenge, or by a checkpoint."""
    return status.mode(0) is not Mode.OPEN or (status.turn_record > 0 and status.fingerprint == NO_STATE_FINGERPRINT)


def registered(
    status: Status, block: int, events: Sequence[Found], earlier: Sequence[ChannelOnChain]
) -> WithProof | None:
    """The state that a status tells of and its proof, from the challenges just seen or an earlier reading."""
    if not records_a_state(status):
        return None
    for log, event in reversed(events):
        if isinstance(event, ChallengeRegistered) and log.block <= block and told_by(event) == recorded(status):
            return event.candidate, event.proof
    for before in reversed(earlier):
        if recorded(before.status) == recorded(status):
            return (before.registered, before.proof) if before.registered is not None else None
    return None


def events_of(logs: Sequence[Log], channels: Container[ChannelId]) -> dict[ChannelId, list[Found]]:
    """What tells of states of these channels, in order."""
    found: dict[ChannelId, list[Found]] = {}
    for log in logs:
        if len(log.topics) == 2 and log.topics[0] in TELLING and ChannelId(log.topics[1]) in channels:
            event = _event_of(log)
            if event is not None:
                found.setdefault(event.channel, []).append((log, event))
    return found
