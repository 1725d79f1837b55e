"""The game's messages as JSON-safe dicts, and the commitment that hides a card; `bots.py` decides what to send.

Byte strings are written as `0x…` text, which the reducer takes as well as MessagePack `bin`.
"""

from __future__ import annotations

from typing import Any

from scapp.channels.crypto import commitment as hidden

Message = dict[str, dict[str, Any]]


def commitment(salt: bytes, channel_id: bytes, author: bytes, round_number: int, card: int) -> bytes:
    """keccak256(salt 32 B || channel id 32 B || author 20 B || round u64 big-endian || card u8).

    Channel, author and round are inside, so a commitment cannot be copied by another player, nor used again.
    Raises ValueError for wrong lengths, OverflowError for a card outside 0-255."""
    return hidden(salt, channel_id, author, round_number, card.to_bytes(1, "big"))


def commit(hash_: bytes) -> Message:
    """Bid in this round with the card hidden behind `hash_`, see `commitment`."""
    return {"commit": {"hash": "0x" + hash_.hex()}}


def reveal(card: int, salt: bytes) -> Message:
    """Open this round's commitment."""
    return {"reveal": {"card": card, "salt": "0x" + salt.hex()}}


def tick_payload() -> bytes:
    """Payload of the tick entry that makes a passed deadline count: empty."""
    return b""
