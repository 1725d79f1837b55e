"""The narrow waist to one chain: what is asked of a node over JSON-RPC. Adapters: `rpc.py`; `fake.py`, over the model.

One contract suite runs over both (tests/contracts/chain_client_contract.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from scapp.channels.errors import ScappError
from scapp.channels.types import Address, Hash


class Unavailable(ScappError):
    """No endpoint answers now; asking again later is all that can be done."""


class WrongChain(ScappError):
    """An endpoint speaks for another chain than the configured one."""


class Refused(ScappError):
    """The node answered with an error. `kind`: "reverted" (by the contract; the text is its reason), "nonce-too-low",
    "known" (the transaction is there already), "underpriced" (a replacement pays too little more), "funds" (the
    account cannot pay), "missing" (no such block, or its state is gone), "too-much" (a range of logs too long), or
    "other"."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Block(msgspec.Struct, frozen=True):
    """A block's header. `base_fee` in wei for one unit of gas, None on chains without; `bloom` has 256 bytes."""

    number: int
    hash: Hash
    parent: Hash
    time_s: int
    base_fee: int | None
    bloom: bytes


class Log(msgspec.Struct, frozen=True):
    """`removed`: the block was taken back; such a log is no fact."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    block_hash: Hash
    transaction: Hash
    index: int
    removed: bool = False


class Receipt(msgspec.Struct, frozen=True):
    """`ok` False: included, paid for, and reverted. `created` is the address of a new contract."""

    transaction: Hash
    block: int
    block_hash: Hash
    ok: bool
    gas_used: int
    created: Address | None = None


class Fees(msgspec.Struct, frozen=True):
    """Wei for one unit of gas: the base fee of the newest block, and a usual tip. `legacy`: the chain has no base fees
    (EIP-1559), and `base` is its usual price."""

    base: int
    priority: int
    legacy: bool = False

    def offer(self, ceiling: int) -> tuple[int, int] | None:
        """What a new transaction pays, at most and as a tip; None when the chain asks for more than the ceiling."""
        if self.base + self.priority > ceiling:
            return None
        if self.legacy:  # the whole price is paid
            return self.base, self.base
        return min(2 * self.base + self.priority, ceiling), self.priority


class ViewCall(msgspec.Struct, frozen=True):
    """A function without effects, asked at a block."""

    to: Address
    data: bytes
    block_hash: Hash


class ChainClient(Protocol):
    """Every method raises Unavailable, and Refused where the node answers with an error."""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Without credentials."""
        ...

    @property
    def endpoint(self) -> str:
        """The one in use."""
        ...

    async def chain_id(self) -> int: ...

    async def head(self) -> Block: ...

    async def blocks(self, numbers: Sequence[int]) -> list[Block | None]: ...

    async def logs(self, address: Address, first: int, last: int, topics: Sequence[bytes | None] = ()) -> list[Log]:
        """Of blocks `first` to `last`; a topic given must be equal at its place."""
        ...

    async def block_logs(self, address: Address, block_hash: Hash) -> list[Log]: ...

    async def views(self, calls: Sequence[ViewCall]) -> list[bytes | Refused]:
        """Answers in their order; empty where there is no contract. What one refuses does not hinder the others."""
        ...

    async def code(self, address: Address) -> bytes: ...

    async def balance(self, account: Address) -> int: ...

    async def nonce(self, account: Address, at: Hash | None = None) -> int:
        """Transactions of the account up to a block; None: with those in the mempool."""
        ...

    async def fees(self) -> Fees: ...

    async def estimate(self, sender: Address, to: Address | None, data: bytes, value: int) -> int:
        """Gas; Refused "reverted" with the contract's reason when it would revert now."""
        ...

    async def send(self, raw: bytes) -> None: ...

    async def receipts(self, transactions: Sequence[Hash]) -> list[Receipt | None]:
        """None for what is in no canonical block."""
        ...

    async def calldata(self, transactions: Sequence[Hash]) -> list[bytes | None]:
        """What transactions were sent with; None for what the endpoint does not know or does not tell."""
        ...

    async def changed(self, timeout_s: float) -> None:
        """Returns when there may be a new block, at the latest after the time. A hint: it may come too often, and
        when it does not come, time passes."""
        ...

    async def close(self) -> None: ...


def in_bloom(bloom: bytes, address_hash: Hash) -> bool:
    """Whether a block may have logs of the address with that keccak256: three bits of 2048 stand for it."""
    bits = int.from_bytes(bloom, "big")
    return all(bits >> (int.from_bytes(address_hash[at : at + 2], "big") & 2047) & 1 for at in (0, 2, 4))


def bloom_of(address_hash: Hash) -> bytes:
    """The bloom of a block whose logs are all of one address, topics left out."""
    bits = 0
    for at in (0, 2, 4):
        bits |= 1 << (int.from_bytes(address_hash[at : at + 2], "big") & 2047)
    return bits.to_bytes(256, "big")
