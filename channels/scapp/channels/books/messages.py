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


PREFIXES = frozenset((b"l:", b"v:", b"p:", b"r:", b"k:"))
"""How the tags of messages begin that are for the books."""


def prefix_of(data: bytes) -> bytes:
    """The first two bytes of a message's tag, one of `PREFIXES`; an app channel's tags have no colon there.

    Looks no further: whoever takes the message decodes it."""
    start = 1 if data[:1] and 0x90 <= data[0] <= 0x9F else 3  # MessagePack's array of fewer than 16 items, or more
    return data[start + 1 : start + 3]
