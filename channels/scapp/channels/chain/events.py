"""Facts of the chain service in the node's own stream of the log; `sender.py` and `watcher.py` fold them.

Each type's tag carries its version and never changes meaning. Others may have their own events in the stream: theirs
have other tags.
"""

from __future__ import annotations

import msgspec

from scapp.channels.errors import CorruptionError
from scapp.channels.onchain import Purpose

PREFIX = "chain."


class CursorMoved(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="chain.cursor.1"):
    """Everything up to this block has been processed, and it is deep enough to stay."""

    number: int
    hash: bytes


class TransactionSigned(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="chain.signed.1"):
    """This account signed a transaction, stored before it goes out. Another with the same nonce replaces it.

    `step`: "main", "approve" (of tokens, before a deposit), "cancel" or "gap" (a payment of nothing to oneself that
    uses up the nonce). `digest` tells apart what was wanted under one purpose. `block` was the newest one."""

    purpose: Purpose
    step: str
    digest: bytes
    nonce: int
    raw: bytes
    hash: bytes
    to: bytes
    data: bytes
    value: bytes  # 32 bytes, wei
    gas: int
    max_fee: int
    priority_fee: int
    block: int


class TransactionEnded(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="chain.ended.1"):
    """A nonce is done with, so deep that it stays: by the transaction `hash`, or, where that is empty, by one that is
    not ours. `ok` is False for one that reverted."""

    nonce: int
    purpose: Purpose
    step: str
    digest: bytes
    hash: bytes
    ok: bool
    block: int
    gas_used: int


ChainEvent = CursorMoved | TransactionSigned | TransactionEnded

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[ChainEvent] = msgspec.msgpack.Decoder(ChainEvent)
_any = msgspec.msgpack.Decoder(list[msgspec.Raw])
_tag = msgspec.msgpack.Decoder(str)

encode_event = _encoder.encode


def decode_event(data: bytes) -> ChainEvent | None:
    """None for an event of somebody else. Raises CorruptionError for bytes that are none, or an unknown one of ours."""
    try:
        if not _tag.decode(_any.decode(data)[0]).startswith(PREFIX):
            return None
        return _decoder.decode(data)
    except (ValueError, RecursionError, IndexError) as error:
        raise CorruptionError(f"stored event cannot be read: {error}; first bytes {data[:24].hex()}") from error
