"""Everything in the books' stream: facts of ledgers, of virtual channels, and of the books as a whole."""

from __future__ import annotations

import msgspec

from scapp.channels.errors import CorruptionError
from scapp.channels.ledger.events import LedgerEvent
from scapp.channels.virtual.events import VirtualEvent


class BooksRestored(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="books.restored.1"):
    """As `channel.events.Restored`, of every record there is: the log came from a backup made at `backup_ms`, put in
    place at `at_ms`, and may be older than what this node has signed."""

    token: bytes
    at_ms: int
    backup_ms: int


class Forgotten(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="books.forgotten.1"):
    """These records, which have ended, are no longer kept. Nothing is begun any more that was opened at `opened_ms` by
    its nonce, or before: it may have been one of them."""

    channels: tuple[bytes, ...]
    opened_ms: int


BooksEvent = BooksRestored | Forgotten | LedgerEvent | VirtualEvent

_decoder: msgspec.msgpack.Decoder[BooksEvent] = msgspec.msgpack.Decoder(BooksEvent)

encode_event = msgspec.msgpack.Encoder().encode


def decode_event(data: bytes) -> BooksEvent:
    """Raises CorruptionError for bytes that are no known event: an unknown event is never skipped."""
    try:
        return _decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
        raise CorruptionError(f"stored event of the books cannot be read: {error}; {data[:24].hex()}…") from error
