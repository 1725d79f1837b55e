"""Stored facts of one purse, in the stream of its channel; `purse.evolve` folds them. `channel/events.py` has an app's.

Each type's tag carries its version and never changes meaning. Amounts are 32-byte big-endian integers in the asset's
smallest unit, times milliseconds since 1970. A voucher's signature is the payer's, 65 bytes.
"""

from __future__ import annotations

import msgspec

from scapp.channels.errors import CorruptionError

TAG_PREFIX = "purse."
AMOUNT_BYTES = 32


class PurseOpened(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="purse.opened.1"):
    """The virtual payment channel runs; its first participant has `start` to pay with. The first event of a purse."""

    channel: bytes
    payer: bytes
    payee: bytes
    asset: bytes
    start: bytes
    at_ms: int


class VoucherPaid(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="purse.paid.1"):
    """The payer promised `total` altogether, by payments of `amounts` (one after another), under one voucher. Stored
    before it leaves the node."""

    total: bytes
    signature: bytes
    amounts: bytes
    at_ms: int


class VoucherTaken(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="purse.taken.1"):
    """The payee holds a checked voucher for `total`, which is `added` more than any before."""

    total: bytes
    signature: bytes
    added: bytes
    at_ms: int


class PurseClosed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="purse.closed.1"):
    """The channel is being finished with `total` to the payee: the payer pays no more, the payee takes no voucher above
    it. Stored before a final state is signed."""

    total: bytes
    at_ms: int


class PurseSettled(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="purse.settled.1"):
    """The channel is gone, in the ledgers or on chain: its vouchers are worth nothing any more."""

    at_ms: int


class PurseRestored(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="purse.restored.1"):
    """As `channel.events.Restored`: this log may be older than the last voucher signed, or taken, here. Right behind
    the purse's opening: the backup had none of a channel that was begun before the restore."""

    token: bytes
    at_ms: int
    backup_ms: int


class VoucherRecalled(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="purse.recalled.1"):
    """The payee gave back a voucher of this payer's own that its log does not hold."""

    total: bytes
    signature: bytes
    at_ms: int


class PurseRecovered(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="purse.recovered.1"):
    """The other party has told the largest voucher it knows, or the operator goes on without."""

    by_operator: bool
    at_ms: int


PurseEvent = (
    PurseOpened
    | VoucherPaid
    | VoucherTaken
    | PurseClosed
    | PurseSettled
    | PurseRestored
    | VoucherRecalled
    | PurseRecovered
)

encode_purse_event = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[PurseEvent] = msgspec.msgpack.Decoder(PurseEvent)
_any = msgspec.msgpack.Decoder(list[msgspec.Raw])
_tag = msgspec.msgpack.Decoder(str)


def decode_purse_event(data: bytes) -> PurseEvent:
    """Raises CorruptionError for bytes that are no known event: an unknown event is never skipped."""
    try:
        return _decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
        raise CorruptionError(f"stored event of a purse cannot be read: {error}; {data[:24].hex()}…") from error


def is_purse_event(data: bytes) -> bool:
    """Is this event, a stream's first one, of a purse? Any other stream is of another part of the node."""
    try:
        return _tag.decode(_any.decode(data)[0]).startswith(TAG_PREFIX)
    except (ValueError, RecursionError, IndexError):
        return False


def ends_purse(data: bytes) -> bool:
    """Is this event, a stream's last one, of a purse that is settled? Nothing that follows would change it."""
    try:
        return bool(_tag.decode(_any.decode(data)[0]) == PurseSettled.__struct_config__.tag)
    except (ValueError, RecursionError, IndexError):
        return False


def amount_bytes(amount: int) -> bytes:
    """An amount as it is stored and sent; it must lie in 0 to 2^256-1."""
    return amount.to_bytes(AMOUNT_BYTES, "big")


def amount_of(data: bytes) -> int:
    """Inverse of `amount_bytes`."""
    return int.from_bytes(data, "big")


def split_amounts(data: bytes) -> list[int]:
    """The payments of a `VoucherPaid`."""
    return [amount_of(data[at : at + AMOUNT_BYTES]) for at in range(0, len(data), AMOUNT_BYTES)]
