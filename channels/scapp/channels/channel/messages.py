"""What participants say to each other (docs/reference/app-channel.md section 3), as MessagePack arrays.

Everything here is a peer's claim until `engine` has checked it. Decoding checks shapes and lengths only.
"""

from __future__ import annotations

from typing import Annotated, final

import msgspec

from scapp.channels.backing import HUBS_MAX
from scapp.channels.channel.events import Refused
from scapp.channels.errors import PeerError

B20 = Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
B32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
B65 = Annotated[bytes, msgspec.Meta(min_length=65, max_length=65)]
U48 = Annotated[int, msgspec.Meta(ge=0, lt=2**48)]
U63 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Index = Annotated[int, msgspec.Meta(ge=0, lt=256)]
Short = Annotated[str, msgspec.Meta(max_length=1024)]


class Proposal(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="open"):
    """Participant 0 proposes a channel: everything needed to build entry 0's state, and its prefund signature."""

    channel: B32
    participants: Annotated[tuple[B20, ...], msgspec.Meta(min_length=2, max_length=255)]
    nonce: Annotated[int, msgspec.Meta(ge=0)]
    app_definition: B20
    challenge_duration: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    deployment: Annotated[bytes, msgspec.Meta(max_length=1024)]
    slots: Annotated[tuple[tuple[B20, B32, B32], ...], msgspec.Meta(max_length=512)]
    entry: bytes
    state_root: B32
    time_ms: U63
    signature: B65


class VirtualProposal(Proposal, frozen=True, array_like=True, gc=False, tag="open.2"):
    """The same for a virtual channel: `participants` are its two app parties, `hubs` those between them with what each
    of them gets."""

    hubs: Annotated[tuple[B20, ...], msgspec.Meta(max_length=HUBS_MAX)]
    fees: Annotated[tuple[B32, ...], msgspec.Meta(max_length=HUBS_MAX)]


class SuccessorProposal(Proposal, frozen=True, array_like=True, gc=False, tag="open.3"):
    """The same for a channel that takes over what channel `renews` holds under its state of turn `base_turn`."""

    renews: B32
    base_turn: U48


class Rejected(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="reject"):
    """A participant does not join."""

    channel: B32
    reason: Short


class Submit(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="submit"):
    """An author's payloads for the sequencer, counters `first_counter ..`."""

    channel: B32
    first_counter: U63
    kind: Index
    payloads: tuple[bytes, ...]


class Decisions(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="decide"):
    """The sequencer refused these submissions of the receiver."""

    channel: B32
    refused: tuple[Refused, ...]


@final
class Propose(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="propose"):
    """The sequencer's next state over the receiver's supported log, with its signature."""

    channel: B32
    turn: U48
    is_final: bool
    first_sequence: U63
    entries: tuple[bytes, ...]
    log_root: B32
    state_root: B32
    amounts: bytes
    time_ms: U63
    refused: tuple[Refused, ...]
    signature: B65


@final
class Countersign(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="sign"):
    """A participant's signature under the state of `turn`."""

    channel: B32
    turn: U48
    signature: B65


class Refuse(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="refuse"):
    """A participant will not sign `turn`; `entry` is the index of the entry to blame, or -1."""

    channel: B32
    turn: U48
    code: Annotated[str, msgspec.Meta(max_length=32)]
    reason: Short
    entry: Annotated[int, msgspec.Meta(ge=-1, lt=2**31)] = -1


class Status(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="status"):
    """Where the sender stands; -1 for "none yet". `answer` asks the receiver to tell its own status. Whoever recovers
    from a restore asks with a token in `recovery`; the answer carries it back, and the highest counter of the sender's
    own submissions that is decided (`recovery.py`)."""

    channel: B32
    supported_turn: Annotated[int, msgspec.Meta(ge=-1, lt=2**48)]
    signed_turn: Annotated[int, msgspec.Meta(ge=-1, lt=2**48)]
    sequence: U63
    log_root: B32
    answer: bool = False
    recovery: Annotated[bytes, msgspec.Meta(max_length=32)] = b""
    decided: U63 = 0


class Supported(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="full"):
    """A fully signed state."""

    channel: B32
    turn: U48
    is_final: bool
    sequence: U63
    log_root: B32
    state_root: B32
    amounts: bytes
    time_ms: U63
    signatures: Annotated[tuple[B65, ...], msgspec.Meta(min_length=2, max_length=255)]


class EntriesWanted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="want"):
    """Ask for entries `first .. end-1` of the supported log."""

    channel: B32
    first: U63
    end: U63


class Entries(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="entries"):
    """Answer to `EntriesWanted`; possibly fewer entries than asked for."""

    channel: B32
    first: U63
    entries: tuple[bytes, ...]


class ResizeAsked(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="resize?"):
    """Ask the sequencer for a successor channel in which the sender has so much less of these assets."""

    channel: B32
    withdrawn: Annotated[tuple[tuple[B20, B32], ...], msgspec.Meta(min_length=1, max_length=256)]


class Recall(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="recall"):
    """To a participant that recovers: a state under its signature that the sender has signed as well. `signatures` has
    one item per participant, empty where it is not known."""

    channel: B32
    turn: U48
    is_final: bool
    first_sequence: U63
    entries: tuple[bytes, ...]
    log_root: B32
    state_root: B32
    amounts: bytes
    time_ms: U63
    signatures: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=65)], ...], msgspec.Meta(min_length=2, max_length=255)
    ]


class ModuleWanted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="module?"):
    """Ask for the bytes of the channel's reducer module from `first` on."""

    channel: B32
    first: U63


class ModulePart(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="module"):
    """Bytes `first …` of a module of `total` bytes."""

    channel: B32
    first: U63
    total: U63
    data: bytes


Message = (
    Proposal
    | VirtualProposal
    | SuccessorProposal
    | Rejected
    | Submit
    | Decisions
    | Propose
    | Countersign
    | Refuse
    | Status
    | Supported
    | EntriesWanted
    | Entries
    | ResizeAsked
    | Recall
)
"""What the engine takes."""

AnyMessage = Message | ModuleWanted | ModulePart

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)

encode_message = _encoder.encode


class MalformedMessage(PeerError):
    """The bytes are no message of this protocol."""


def decode_message(data: bytes) -> AnyMessage:
    """Raises MalformedMessage."""
    try:
        return _decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's own errors and UnicodeDecodeError are ValueErrors
        raise MalformedMessage(f"message of {len(data)} bytes cannot be read: {error}") from error
