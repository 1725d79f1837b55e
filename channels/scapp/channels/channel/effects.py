"""Orders to the shell, imperative; a send names what to say, not the words (`engine.materialize` finds them).

Most sends are pending as long as the state says so (`engine.pending`): our proposal until everybody has signed it, our
signature until the turn is supported, our submissions until they are decided. The few whose end no fact of ours shows
are kept in the log's outbox, written with the events they follow from, until the peer has acknowledged them.
Either way a send that is repeated after a restart says what is true then, or nothing when it no longer matters.
"""

from __future__ import annotations

import msgspec

from scapp.channels.errors import CorruptionError


class SendProposal(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="open"):
    """The channel proposal, to a participant that has not signed the prefund state."""

    peer: int


class SendRejected(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="reject"):
    """That we do not join."""

    peer: int


class SendPropose(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="propose"):
    """Our proposal of `turn`."""

    peer: int
    turn: int


class SendCountersign(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="sign"):
    """Our signature under `turn`."""

    peer: int
    turn: int


class SendSubmit(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="submit"):
    """Our undecided submissions from `first_counter` on."""

    peer: int
    first_counter: int


class SendDecisions(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="decide"):
    """That submissions of `peer` from `counter` on were refused, with the recorded reasons."""

    peer: int
    counter: int


class SendSupported(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="full"):
    """The full signature set of the latest supported state, when it is of `turn` or above."""

    peer: int
    turn: int


StoredSend = SendRejected | SendDecisions
PendingSend = SendProposal | SendPropose | SendCountersign | SendSubmit | SendSupported
Send = StoredSend | PendingSend


class SendNow(msgspec.Struct, frozen=True, gc=False):
    """A message that is not kept: a status, an answer, a refusal. Losing it delays, never breaks."""

    peer: int
    message: bytes


class LoadAdmission(msgspec.Struct, frozen=True, gc=False):
    """Build the admission base for a new channel."""


class TryBatch(msgspec.Struct, frozen=True, gc=False):
    """Ask admission what the candidates do; the answer goes to `engine.admitted`. `session.Work` says what for."""

    first_sequence: int
    candidates: tuple[bytes, ...]
    strict: bool


class CommitBatch(msgspec.Struct, frozen=True, gc=False):
    """The admission layer's batch is supported."""


class RollbackBatch(msgspec.Struct, frozen=True, gc=False):
    """The admission layer's batch is abandoned."""


class Fetch(msgspec.Struct, frozen=True, gc=False):
    """Read entries `first .. end-1` of the supported log and send them to `peer`, as many as a frame takes."""

    peer: int
    first: int
    end: int


class Tell(msgspec.Struct, frozen=True, gc=False):
    """Tell local listeners (kind as in `service.NodeEvent`)."""

    kind: str
    detail: str = ""


Effect = Send | SendNow | LoadAdmission | TryBatch | CommitBatch | RollbackBatch | Fetch | Tell

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StoredSend)

COMMIT = (CommitBatch(),)
STORED = frozenset((SendRejected, SendDecisions))
PENDING = (SendProposal, SendPropose, SendCountersign, SendSubmit, SendSupported)


def outbox_row(channel: bytes, send: StoredSend) -> tuple[bytes, bytes]:
    """Key and value of the send's outbox row. The same order to the same peer has the same key."""
    value = _encoder.encode(send)
    return channel + bytes((send.peer,)) + value, value


def parse_outbox_row(key: bytes, value: bytes) -> tuple[bytes, StoredSend]:
    """Inverse of `outbox_row`: channel id and send. Raises CorruptionError: an unknown row is never skipped."""
    try:
        return key[:32], _decoder.decode(value)
    except (ValueError, RecursionError) as error:  # msgspec's own errors and UnicodeDecodeError are ValueErrors
        raise CorruptionError(f"outbox row 0x{key.hex()} cannot be read: {error}") from error
