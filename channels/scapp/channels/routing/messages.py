"""What nodes say to each other about ledgers, as MessagePack arrays with tags "r:…"; a peer's claims until checked."""

from __future__ import annotations

from typing import Annotated

import msgspec

from scapp.channels.channel.messages import B20, U63, MalformedMessage
from scapp.channels.routing.statements import Signed

STATEMENTS_MAX = 64  # signatures are checked at once, between other work
KNOWN_MAX = 1_024


class Statements(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="r:s"):
    """Statements that the receiver may lack. `more`: there are others, for which it may ask again."""

    statements: Annotated[tuple[Signed, ...], msgspec.Meta(max_length=STATEMENTS_MAX)]
    more: bool = False


class Known(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="r:k"):
    """All that the sender has of the origins `first` to `last`, by origin and sequence: it asks for what is newer or
    missing there."""

    first: B20
    last: B20
    known: Annotated[tuple[tuple[B20, U63], ...], msgspec.Meta(max_length=KNOWN_MAX)]


Message = Statements | Known
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)

encode_message = msgspec.msgpack.Encoder().encode


def decode_message(data: bytes) -> Message:
    """Raises MalformedMessage."""
    try:
        return _decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"routing message of {len(data)} bytes cannot be read: {error}") from error
