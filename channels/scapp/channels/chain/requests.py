"""What watcher and sender ask of their shell: generators yield these, and get the answer back.

So all their decisions are testable without a network, and a crash between any two steps is a generator thrown away.
`service.py` performs them over a `ChainClient`, the log and the key.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import msgspec

from scapp.channels.chain.client import ViewCall
from scapp.channels.chain.events import ChainEvent
from scapp.channels.types import Address, Hash

T = TypeVar("T")


class ReadHead(msgspec.Struct, frozen=True):
    """→ Block"""


class ReadBlocks(msgspec.Struct, frozen=True):
    """→ list[Block | None]"""

    numbers: tuple[int, ...]


class ReadLogs(msgspec.Struct, frozen=True):
    """→ list[Log] | Refused"""

    first: int
    last: int
    topics: tuple[bytes | None, ...] = ()


class ReadBlockLogs(msgspec.Struct, frozen=True):
    """→ list[Log] | Refused"""

    block_hash: Hash


class ReadViews(msgspec.Struct, frozen=True):
    """→ list[bytes | Refused]"""

    calls: tuple[ViewCall, ...]


class ReadBalance(msgspec.Struct, frozen=True):
    """→ int, of the chain key's account"""


class ReadNonce(msgspec.Struct, frozen=True):
    """→ int | Refused, of the chain key's account"""

    at: Hash | None


class ReadFees(msgspec.Struct, frozen=True):
    """→ Fees"""


class ReadReceipts(msgspec.Struct, frozen=True):
    """→ list[Receipt | None]"""

    transactions: tuple[Hash, ...]


class ReadCalldata(msgspec.Struct, frozen=True):
    """→ list[bytes | None]"""

    transactions: tuple[Hash, ...]


class Estimate(msgspec.Struct, frozen=True):
    """→ int | Refused"""

    to: Address
    data: bytes
    value: int


class Sign(msgspec.Struct, frozen=True):
    """→ tuple[bytes, Hash]: the raw transaction and its hash. Fees in wei for one unit of gas; with `legacy`, for a
    chain without EIP-1559, `max_fee` is the whole price."""

    nonce: int
    to: Address | None
    data: bytes
    value: int
    gas: int
    max_fee: int
    priority_fee: int
    legacy: bool = False


class SignChallenge(msgspec.Struct, frozen=True):
    """→ Signature by the channel key, for `state.challenge_hash` of a state"""

    challenge_hash: Hash


class Store(msgspec.Struct, frozen=True):
    """→ None, once it is durable"""

    events: tuple[ChainEvent, ...]


class Broadcast(msgspec.Struct, frozen=True):
    """→ None | Refused"""

    raw: bytes


Request = (
    ReadHead
    | ReadBlocks
    | ReadLogs
    | ReadBlockLogs
    | ReadViews
    | ReadBalance
    | ReadNonce
    | ReadFees
    | ReadReceipts
    | ReadCalldata
    | Estimate
    | Sign
    | SignChallenge
    | Store
    | Broadcast
)

Steps = Generator[Request, Any, T]
"""A computation that needs answers; what it returns is its result."""
