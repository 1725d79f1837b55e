"""The chain as the node uses it: views of watched channels come in, wanted transactions go out.

Two ports stand here. `ChainService` is what the node holds: `service.py` implements it over any `ChainClient`, which is
the narrow waist to one chain (JSON-RPC in `rpc.py`, a simulated chain in `fake.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from scapp.channels.onchain import ChainView, Protection, Purpose, Revealed, Transaction
from scapp.channels.types import Address, ChannelId, Hash

OLD_HEAD_S = 900
"""A newest block of that age is strange on every chain in use."""
DISPUTE_GAS = 500_000
"""A challenge, a reclaim and a payout, and some room (docs/reference/gas.md)."""
REVEAL_GAS = 50_000
"""One preimage at the contract of hash locks, and some room."""


class TransactionInfo(msgspec.Struct, frozen=True):
    """What became of one purpose, for people. `status`: "waiting" (not sent yet: a condition of the chain is missing),
    "pending" (sent), "included" (in a block, not confirmed), "confirmed", "reverted" (refused by the contract; tried
    again when its reason is gone), "unneeded" (the chain shows its end already), "failed" (given up; `detail` says why
    and what to do)."""

    purpose: Purpose
    status: str
    transaction_hash: Hash | None = None
    block: int | None = None
    gas_used: int | None = None
    detail: str = ""


class ChainStatus(msgspec.Struct, frozen=True):
    """How the node stands to its chain. `lag_blocks` is how many blocks are seen but not processed; `fault` is empty
    while the chain answers."""

    chain_id: int
    adjudicator: Address
    consensus_app: Address
    account: Address
    balance: int | None  # of the account, in wei
    head: int | None
    head_time_s: int | None
    processed: int | None
    confirmations: int
    lag_blocks: int
    endpoints: tuple[str, ...]  # without credentials
    endpoint: str  # the one in use
    watched: int
    pending: int
    fault: str
    behind_s: int | None = None  # how much older than this node's clock the newest block is
    protection: Protection | None = None  # None until the chain has answered


class ChainService(Protocol):
    """Belongs to the node's event loop; every method but `start` and `stop` returns at once."""

    @property
    def chain_id(self) -> int: ...

    @property
    def adjudicator(self) -> Address: ...

    @property
    def consensus_app(self) -> Address: ...

    @property
    def head_time_s(self) -> int | None:
        """Timestamp of the newest block in seconds; None until the chain has answered."""
        ...

    @property
    def followed_ms(self) -> int | None:
        """When the newest look at the chain of which everything was told began, by the node's clock; None before."""
        ...

    @property
    def confirming_s(self) -> int | None:
        """How long the newest confirmed block took to become one, by the chain's clock; None until it is known."""
        ...

    @property
    def gas_price(self) -> int:
        """What a unit of gas costs in the newest block, in wei, without a tip; 0 until it is known."""
        ...

    @property
    def protection(self) -> Protection | None:
        """Whether the chain's contracts protect what ledgers guarantee; None until the chain has answered."""
        ...

    async def start(self, on_view: Callable[[ChannelId, ChainView], None], on_head: Callable[[int], None]) -> None:
        """Connect and catch up in the background. `on_view` hears of a watched channel when it is first read and
        whenever its latest or confirmed values change, blocks taken back included; `on_head` hears each new block's
        timestamp. The next `want` answers a view: nothing is deposited for the channel before it.

        An endpoint that does not answer is no error; a wrong chain id or missing contracts are: LocalError.
        """
        ...

    async def stop(self) -> None: ...

    async def funds(self, asset: Address) -> int:
        """What the account has of an asset. Raises Unavailable, or LocalError for what is no token."""
        ...

    def watch(
        self, channel: ChannelId, assets: Sequence[Address], since_block: int = 0, fed_by: ChannelId | None = None
    ) -> None:
        """Follow a channel; idempotent. Its holdings come in the order of `assets`.

        What `fed_by`, another channel, pays to this one leaves no event that names this one: it is looked at whenever
        something happens to that one."""
        ...

    def unwatch(self, channel: ChannelId) -> None: ...

    def want(self, channel: ChannelId, wanted: Sequence[Transaction]) -> None:
        """All that the channel wants done now, knowing the view that was told last; replaces what it wanted before.
        What is no longer wanted and not sent yet is dropped. A transaction is carried out once per purpose, over
        restarts too."""
        ...

    async def quiet(self) -> None:
        """Returns when nothing is being signed any more that was dropped (`want`) before this was asked: from then on
        `transactions` says whether it was."""
        ...

    async def revealed(self, hashes: Sequence[bytes]) -> Revealed:
        """Which preimages of hash locks the chain knows. Raises ScappError when it cannot be asked now, or has no such
        app."""
        ...

    def transactions(self, channel: ChannelId) -> list[TransactionInfo]: ...

    def status(self) -> ChainStatus: ...
