"""What nodes say to each other about ledgers and virtual channels: one decoder for both kinds.

Everything here is a peer's claim until a decider has checked it. Decoding checks shapes and lengths only.
"""

from __future__ import annotations

import msgspec

from scapp.channels.channel.messages import MalformedMessage
from scapp.channels.ledger.messages import LedgerMessage
from scapp.channels.virtual.messages import VirtualMessage

BooksMessage = LedgerMessage | VirtualMessage

_decoder: msgspec.msgpack.Decoder[BooksMessage] = msgspec.msgpack.Decoder(BooksMessage)

encode_message = msgspec.msgpack.Encoder().encode


def decode_message(data: bytes) -> BooksMessage:
    """Raises MalformedMessage."""
    try:
        return _decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's own errors and UnicodeDecodeError are ValueErrors
        raise MalformedMessage(f"message of {len(data)} bytes cannot be read: {error}") from error
