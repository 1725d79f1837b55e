"""Events of the adjudicator as values, from and to the logs of a chain (docs/reference/contracts.md, Events)."""

from __future__ import annotations

import msgspec

from scapp.channels import abi_types
from scapp.channels.abi import InvalidValue
from scapp.channels.chain.calls import SIGNED_VARIABLE, signed_state, signed_value
from scapp.channels.reading import SignedState
from scapp.channels.types import Address, ChannelId


class Deposited(msgspec.Struct, frozen=True):
    channel: ChannelId
    asset: Address
    holdings: int


class AllocationUpdated(msgspec.Struct, frozen=True):
    channel: ChannelId
    asset_index: int
    initial_holdings: int
    final_holdings: int


class ChallengeRegistered(msgspec.Struct, frozen=True):
    """The event does not say the fixed part of the states; those four fields of them are empty."""

    channel: ChannelId
    finalizes_at: int
    proof: tuple[SignedState, ...]
    candidate: SignedState


class ChallengeCleared(msgspec.Struct, frozen=True):
    channel: ChannelId
    turn: int


class Checkpointed(msgspec.Struct, frozen=True):
    channel: ChannelId
    turn: int


class Concluded(msgspec.Struct, frozen=True):
    channel: ChannelId
    finalizes_at: int


class Reclaimed(msgspec.Struct, frozen=True):
    channel: ChannelId
    asset_index: int


ContractEvent = (
    Deposited | AllocationUpdated | ChallengeRegistered | ChallengeCleared | Checkpointed | Concluded | Reclaimed
)

# Types without the channel id, which is the indexed first argument of each.
DATA: dict[type, str] = {
    Deposited: "(address,uint256)",
    AllocationUpdated: "(uint256,uint256,uint256)",
    ChallengeRegistered: f"(uint48,{SIGNED_VARIABLE}[],{SIGNED_VARIABLE})",
    ChallengeCleared: "(uint48)",
    Checkpointed: "(uint48)",
    Concluded: "(uint48)",
    Reclaimed: "(uint256)",
}
TOPICS = {kind: abi_types.topic(kind.__name__, f"(bytes32,{types[1:]}") for kind, types in DATA.items()}
_KINDS = {topic: kind for kind, topic in TOPICS.items()}


def encode_event(event: ContractEvent) -> tuple[tuple[bytes, ...], bytes]:
    """Topics and data of its log."""
    values = [getattr(event, name) for name in event.__struct_fields__[1:]]
    if isinstance(event, ChallengeRegistered):
        proof = [signed_value(state) for state in event.proof]
        values = [event.finalizes_at, proof, signed_value(event.candidate)]
    return (TOPICS[type(event)], event.channel), abi_types.encode(DATA[type(event)], values)


def decode_event(topics: tuple[bytes, ...], data: bytes) -> ContractEvent:
    """An event from its log. Raises InvalidValue for one that the adjudicator does not have."""
    kind = _KINDS.get(topics[0]) if len(topics) == 2 else None
    if kind is None:
        raise InvalidValue(f"a log with topics {[topic.hex() for topic in topics]} is no event of the adjudicator")
    values = abi_types.decode(DATA[kind], data)
    channel = ChannelId(topics[1])
    if kind is ChallengeRegistered:
        proof = tuple(signed_state(state) for state in values[1])
        return ChallengeRegistered(channel, values[0], proof, signed_state(values[2]))
    event: ContractEvent = kind(channel, *values)
    return event
