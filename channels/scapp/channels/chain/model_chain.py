"""A chain around the model: blocks with parent hashes, a mempool, mining, and reorganisation to any depth.

Deterministic: time comes from outside, hashes follow from what a block contains. Every block keeps the world after
it, so that it can be read at any block, as from an archive node.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from scapp.channels.chain.calls import Call
from scapp.channels.chain.contract_events import ContractEvent, encode_event
from scapp.channels.chain.model import Revert, World, execute
from scapp.channels.crypto import keccak256
from scapp.channels.types import Address, Hash

START_S = 1_700_000_000
BLOCK_S = 12
GAS_USED = 60_000  # of each transaction: what it costs is not modelled
BASE_FEE_WEI = 10**9


class Rejected(Exception):
    """The mempool takes no such transaction; the text is what nodes say."""


class ModelTransaction(msgspec.Struct, frozen=True):
    """`call` None is a plain payment. Fees are in wei for one unit of gas."""

    hash: Hash
    sender: Address
    nonce: int
    to: Address
    call: Call | None
    value: int = 0
    max_fee: int = 2 * BASE_FEE_WEI
    priority_fee: int = 0


class ModelLog(msgspec.Struct, frozen=True):
    """A log of the adjudicator; `index` counts within the block."""

    index: int
    transaction: Hash
    topics: tuple[bytes, ...]
    data: bytes
    event: ContractEvent


class ModelReceipt(msgspec.Struct, frozen=True):
    """`reason` is None for success."""

    transaction: Hash
    reason: str | None
    fee: int  # wei for one unit of gas


class ModelBlock(msgspec.Struct, frozen=True):
    """`world` is the state after the block; nobody may change it."""

    number: int
    hash: Hash
    parent: Hash
    time_s: int
    base_fee: int
    transactions: tuple[ModelTransaction, ...]
    receipts: tuple[ModelReceipt, ...]
    logs: tuple[ModelLog, ...]
    world: World


class ModelChain:
    """`blocks` are the canonical ones by number; `forgotten` those that were taken back, by hash."""

    def __init__(self, world: World, time_s: int = START_S) -> None:
        genesis = ModelBlock(
            0, Hash(keccak256(b"genesis")), Hash(bytes(32)), time_s, BASE_FEE_WEI, (), (), (), world.copy()
        )
        self.blocks = [genesis]
        self.forgotten: dict[Hash, ModelBlock] = {}
        self.mempool: list[ModelTransaction] = []
        self.base_fee = BASE_FEE_WEI  # of the next blocks
        self._by_hash = {genesis.hash: genesis}
        self._fork = 0

    @property
    def head(self) -> ModelBlock:
        return self.blocks[-1]

    @property
    def world(self) -> World:
        """After the newest block."""
        return self.head.world

    def block(self, key: int | Hash) -> ModelBlock | None:
        """A canonical block by number or hash."""
        if isinstance(key, int):
            return self.blocks[key] if 0 <= key < len(self.blocks) else None
        return self._by_hash.get(key)

    def found(self, transaction: Hash) -> tuple[ModelBlock, ModelReceipt] | None:
        """Where a transaction is on the chain."""
        for block in reversed(self.blocks):
            for receipt in block.receipts:
                if receipt.transaction == transaction:
                    return block, receipt
        return None

    def send(self, transaction: ModelTransaction) -> None:
        """Into the mempool. Raises Rejected as a node does; one with the nonce of another replaces it when both its
        fees are a tenth higher."""
        if any(known.hash == transaction.hash for known in self.mempool):
            raise Rejected("already known")
        if transaction.nonce < self.world.nonces.get(transaction.sender, 0):
            raise Rejected("nonce too low")
        cost = transaction.value + GAS_USED * transaction.max_fee
        if self.world.balances.get(transaction.sender, 0) < cost:
            raise Rejected("insufficient funds for gas * price + value")
        for known in self.mempool:
            if (known.sender, known.nonce) == (transaction.sender, transaction.nonce):
                bumped = (known.max_fee * 11, known.priority_fee * 11)
                if transaction.max_fee * 10 < bumped[0] or transaction.priority_fee * 10 < bumped[1]:
                    raise Rejected("replacement transaction underpriced")
                self.mempool.remove(known)
                break
        self.mempool.append(transaction)

    def mine(self, time_s: int | None = None, *, leave: Collection[Hash] = ()) -> ModelBlock:
        """A block of all transactions that can go in, but for those in `leave`. Without a time, BLOCK_S after the
        newest; a time must be later than that of the newest."""
        parent = self.head
        time_s = parent.time_s + BLOCK_S if time_s is None else time_s
        if time_s <= parent.time_s:
            raise ValueError(f"block time {time_s} is not after {parent.time_s}")
        world = parent.world.copy()
        done: list[ModelTransaction] = []
        receipts: list[ModelReceipt] = []
        logs: list[ModelLog] = []
        while (transaction := self._next(world, leave)) is not None:
            self.mempool.remove(transaction)
            world, receipt, found = _include(world, transaction, time_s, self.base_fee)
            done.append(transaction)
            receipts.append(receipt)
            for event in found:
                logs.append(ModelLog(len(logs), transaction.hash, *encode_event(event), event))
        content = b"".join(item.hash for item in done) + self._fork.to_bytes(8, "big") + time_s.to_bytes(8, "big")
        block = ModelBlock(
            parent.number + 1, Hash(keccak256(parent.hash + content)), parent.hash, time_s, self.base_fee,
            tuple(done), tuple(receipts), tuple(logs), world,
        )  # fmt: skip
        self.blocks.append(block)
        self._by_hash[block.hash] = block
        self._drop_stale()
        return block

    def roll_back(self, depth: int, *, drop: bool = False) -> list[ModelBlock]:
        """Take back the newest blocks. Their transactions return to the mempool, or are lost with `drop`."""
        if not 0 <= depth < len(self.blocks):
            raise ValueError(f"{depth} blocks of {len(self.blocks)}: the first one stays")
        gone = self.blocks[len(self.blocks) - depth :]
        del self.blocks[len(self.blocks) - depth :]
        self._fork += 1
        for block in gone:
            self.forgotten[block.hash] = self._by_hash.pop(block.hash)
        if not drop:
            back = [transaction for block in gone for transaction in block.transactions]
            taken = {(transaction.sender, transaction.nonce) for transaction in back}
            rest = [item for item in self.mempool if (item.sender, item.nonce) not in taken]
            self.mempool = back + rest
        return gone

    def reorganise(self, depth: int, *, drop: bool = False, blocks: int | None = None) -> list[ModelBlock]:
        """Take back `depth` blocks and mine other ones, one more than before unless told; the new blocks. What was in
        the old ones goes in again, unless `drop`."""
        self.roll_back(depth, drop=drop)
        return [self.mine() for _ in range(depth + 1 if blocks is None else blocks)]

    def wait(self, seconds: int) -> ModelBlock:
        """A block that much later than the newest."""
        return self.mine(self.head.time_s + seconds)

    def _next(self, world: World, leave: Collection[Hash]) -> ModelTransaction | None:
        for item in self.mempool:
            affordable = world.balances.get(item.sender, 0) >= item.value + GAS_USED * item.max_fee
            fits = item.nonce == world.nonces.get(item.sender, 0) and item.max_fee >= self.base_fee
            if fits and affordable and item.hash not in leave:
                return item
        return None

    def _drop_stale(self) -> None:
        nonces = self.world.nonces
        self.mempool = [item for item in self.mempool if item.nonce >= nonces.get(item.sender, 0)]


def _include(
    world: World, transaction: ModelTransaction, time_s: int, base_fee: int
) -> tuple[World, ModelReceipt, Sequence[ContractEvent]]:
    """The world after a transaction, which it pays for also when it reverts."""
    fee = min(transaction.max_fee, base_fee + transaction.priority_fee)
    before = world.copy()
    before.nonces[transaction.sender] = transaction.nonce + 1
    before.balances[transaction.sender] -= GAS_USED * fee
    after = before.copy()
    try:
        found = execute(after, transaction.sender, transaction.to, transaction.call, transaction.value, time_s)
    except Revert as refused:
        return before, ModelReceipt(transaction.hash, str(refused), fee), ()
    return after, ModelReceipt(transaction.hash, None, fee), found
