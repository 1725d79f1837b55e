"""Shapes that messages and stored events of ledgers, virtual channels and payments share.

MessagePack's integers end at 64 bits, amounts at 256: on the wire and in the log an amount is 32 bytes, big-endian.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from scapp.channels.channel.messages import B20, B32, B65, U48, U63, Short
from scapp.channels.types import U256_MAX

__all__ = [
    "B16", "B20", "B32", "B65", "U32", "U48", "U63", "U64", "MaybeB65", "Short", "WireAmount",
    "from_wire_amount", "is_amount", "to_wire_amount",
]  # fmt: skip

B16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
MaybeB65 = Annotated[bytes, msgspec.Meta(max_length=65)]  # a signature, or nothing
U32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
U64 = Annotated[int, msgspec.Meta(ge=0)]  # MessagePack has no larger ones
WireAmount = B32
"""An amount in the asset's smallest unit: unsigned, big-endian."""


def to_wire_amount(amount: int) -> bytes:
    """Raises OverflowError for an amount that is negative or 2^256 and more: check it before."""
    return amount.to_bytes(32, "big")


def from_wire_amount(data: bytes) -> int:
    """Inverse of `to_wire_amount`; the decoder has checked the length."""
    return int.from_bytes(data, "big")


def is_amount(amount: int) -> bool:
    """Does it fit 256 bits, unsigned?"""
    return 0 <= amount <= U256_MAX
