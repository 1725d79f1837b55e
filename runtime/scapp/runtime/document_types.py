"""What all documents of the local API are made of: their bases, and texts of a fixed form."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

AddressText = Annotated[str, Meta(pattern="^0x[0-9a-fA-F]{40}$", description="20 bytes: an Ethereum address")]
HashText = Annotated[str, Meta(pattern="^0x[0-9a-fA-F]{64}$", description="32 bytes")]
HexText = Annotated[str, Meta(pattern="^0x([0-9a-f]{2})*$", description="bytes")]
AmountText = Annotated[str, Meta(pattern="^[0-9]{1,78}$", description="unsigned 256-bit integer in decimal")]
Endpoint = Annotated[str, Meta(max_length=300, description="host:port")]
Name = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}$")]
Sequence = Annotated[int, Meta(ge=0)]
Permission = Literal["read", "send", "channels", "funds", "admin"]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every document."""


class RequestDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every request body: a misspelt field is an error, not a default."""
