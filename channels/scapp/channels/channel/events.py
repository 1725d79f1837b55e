"""Stored facts of one channel, in the past tense; `model.evolve` folds them. Inputs are never stored, decisions are.

Each type's tag carries its version and never changes meaning; a new shape gets a new tag and an upcaster.
Amounts are one blob of 32-byte big-endian integers, one per outcome slot; in a final state that passes money on to a
successor the tail of `redirect.py` follows.
"""

from __future__ import annotations

import msgspec

from scapp.channels.adjudicator_status import Status
from scapp.channels.backing import Stage
from scapp.channels.errors import CorruptionError


class Refused(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A submission decided as refused: author index, the author's counter, machine-readable code, reason."""

    author: int
    counter: int
    code: str
    reason: str


class Signed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One state as its signers see it, relative to a supported base whose log has `sequence - len(entries)` entries.

    `signatures` has one item per participant, empty where it is not known yet."""

    turn: int
    is_final: bool
    entries: tuple[bytes, ...]
    sequence: int  # after the entries
    log_root: bytes
    state_root: bytes
    amounts: bytes
    time_ms: int
    signatures: tuple[bytes, ...]
    last: tuple[int, ...]  # per author: highest counter in the log after the entries


class ChannelCreated(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="created.1"):
    """A channel came to be here: opened by this node (index 0), or proposed to it with `prefund` signed by index 0."""

    my_index: int
    participants: tuple[bytes, ...]
    nonce: int
    app_definition: bytes
    challenge_duration: int
    deployment: bytes  # canonical deployment bytes
    slots: tuple[tuple[bytes, bytes, bytes], ...]  # asset, destination, amount (32 B)
    prefund: Signed


class VirtualCreated(ChannelCreated, frozen=True, array_like=True, gc=False, tag="created.2"):
    """The same of a virtual channel: `participants` are its two app parties, `hubs` those between them, who run no app
    and sign turns 0, 1 and the final one. Hub i gets `fees[i]` (32 B) of the channel's asset, from participant 0."""

    hubs: tuple[bytes, ...]
    fees: tuple[bytes, ...]


class SuccessorCreated(ChannelCreated, frozen=True, array_like=True, gc=False, tag="created.3"):
    """The same of a channel that takes over what channel `renews` holds, as its state of turn `base_turn` says: nobody
    deposits, the final state of that channel moves the money here."""

    renews: bytes
    base_turn: int


class ChannelRejected(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="rejected.1"):
    """Participant `by` refused to join; the channel never runs."""

    by: int
    reason: str


class StateSigned(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="signed.1"):
    """This node put its signature under the state (own signature included). Stored before it leaves the node."""

    state: Signed


class SignatureSeen(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="seen.1"):
    """A valid signature of another participant under one of our signed, not yet supported states."""

    turn: int
    index: int
    signature: bytes


class StateSupported(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="supported.1"):
    """All signatures of a state we have signed are here; its entries are part of the log."""

    turn: int
    signatures: tuple[bytes, ...]


class StateCompleted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="completed.1"):
    """This node put the last missing signature under the state: `StateSigned` and `StateSupported` at once."""

    state: Signed


class StateAdopted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="adopted.1"):
    """A fully signed state that this log did not hold, with its entries, checked like a proposal."""

    state: Signed


class Submitted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="submitted.1"):
    """Own submissions, recorded before they are sent; counters `first_counter ..`, all of one kind."""

    first_counter: int
    kind: int
    payloads: tuple[bytes, ...]


class SubmissionsRefused(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="refused.1"):
    """Submissions decided as refused: by us (the sequencer), or told to us about our own."""

    refused: tuple[Refused, ...]


class SubmissionsDropped(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="dropped.1"):
    """Submissions of a signed proposal that its replacement leaves out. They are refused once a state without them is
    supported; until then the replaced proposal may still be completed."""

    refused: tuple[Refused, ...]


class OnChain(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The channel in one block, as `onchain.ChannelOnChain` says it. `registered` is kept only if its fingerprint is
    the status's and its outcome one of this channel; its signatures are checked, missing ones are empty, and it
    comes without entries."""

    block: int
    block_hash: bytes
    holdings: tuple[bytes, ...]  # 32 B each, one per asset
    status: Status
    registered: Signed | None


class ChainSeen(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="chain.1"):
    """The chain shows the channel so; stored when anything but the block has changed. `time_s` is the newest block's
    timestamp.

    `ended` is what was concluded from this view and those before: the channel was finalized there, or its money paid
    out. `held` is what it held before that, in the same form as `holdings`; in a channel that goes on also what this
    node does not deposit again (`ended.given_up`)."""

    latest: OnChain
    confirmed: OnChain
    time_s: int
    ended: bool
    held: tuple[bytes, ...]

    @property
    def disputed(self) -> bool:
        """Does a challenge stand or is the channel finalized, or is the end of that not confirmed?"""
        now = self.latest.status
        return now.finalizes_at != 0 or now != self.confirmed.status

    @property
    def settled(self) -> bool:
        """Is everything paid out that can be, for good?"""
        latest, confirmed = self.latest, self.confirmed
        if not self.ended or latest.status != confirmed.status or latest.holdings != confirmed.holdings:
            return False
        return not latest.status.finalizes_at or not any(map(any, latest.holdings))


class BackingSeen(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="backing.1"):
    """What stands behind a virtual channel is so, as `backing.Backing` says it: stored when it has changed. The
    signatures were checked against the states of their turns."""

    stage: Stage
    detail: str
    signatures: tuple[tuple[int, tuple[bytes, ...]], ...]


class ExitStarted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="exit.1"):
    """This node leaves the channel by a challenge: from here on it signs nothing but a final state."""

    reason: str


class TopUpApproved(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="top-up.1"):
    """This node's operator deposits `amount` (32 B) more of `asset` into the running channel, once a state that says
    so is signed by everybody."""

    asset: bytes
    amount: bytes


class Restored(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="restored.1"):
    """This log came from a backup made at `backup_ms` and put in place at `at_ms`, and may be older than what this node
    has signed. `token` (16 random bytes) tells answers to this restore from older ones."""

    token: bytes
    at_ms: int
    backup_ms: int


class RestoreSeen(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="restore-seen.1"):
    """Participant `index` was restored (by its `token`) and was told to go on above turn `floor`, which is above all
    that it may have signed; stored before it is told, so that the next restore goes on above that."""

    index: int
    token: bytes
    floor: int


class StateRecalled(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="recalled.1"):
    """Another participant gave back a state that this node had signed and, restored, did not know."""

    state: Signed


class Recovered(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="recovered.1"):
    """Every other participant has told its highest signed state (or the operator goes on without): from here on this
    node signs above `turn` only."""

    turn: int
    by_operator: bool


class Retired(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="retired.1"):
    """The channel is over: it ended in `phase` with supported turn `turn` (-1 for none), and nothing of it is open
    here. Changes nothing of its state; as a stream's last event it tells a start to leave the channel on the disk."""

    phase: str
    turn: int
    deployment_id: bytes


Event = (
    ChannelCreated
    | VirtualCreated
    | SuccessorCreated
    | ChannelRejected
    | StateSigned
    | SignatureSeen
    | StateSupported
    | StateCompleted
    | StateAdopted
    | Submitted
    | SubmissionsRefused
    | SubmissionsDropped
    | ChainSeen
    | BackingSeen
    | ExitStarted
    | TopUpApproved
    | Restored
    | RestoreSeen
    | StateRecalled
    | Recovered
    | Retired
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)

encode_event = _encoder.encode


_tag = msgspec.msgpack.Decoder(str)
_any = msgspec.msgpack.Decoder(list[msgspec.Raw])


def retired_by(data: bytes) -> Retired | None:
    """What a stream's last event says of a channel that is over; None for any other event, also of other streams."""
    try:
        if _tag.decode(_any.decode(data)[0]) != Retired.__struct_config__.tag:
            return None
        return msgspec.msgpack.decode(data, type=Retired)
    except (ValueError, RecursionError, IndexError):
        return None


def with_signature(signatures: tuple[bytes, ...], index: int, signature: bytes) -> tuple[bytes, ...]:
    """The signatures with one of them put in."""
    if len(signatures) == 2:  # as in most channels
        return (signatures[0], signature) if index else (signature, signatures[1])
    return (*signatures[:index], signature, *signatures[index + 1 :])


def decode_event(data: bytes) -> Event:
    """Raises CorruptionError for bytes that are no known event: an unknown event is never skipped."""
    try:
        return _decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's own errors and UnicodeDecodeError are ValueErrors
        raise CorruptionError(f"stored event cannot be read: {error}; first bytes {data[:24].hex()}") from error
