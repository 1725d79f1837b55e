"""A `ChainClient` over the model, with the faults of real endpoints: for tests and simulations.

Raw transactions are decoded and their signatures recovered, as a node does. `Faults` says what goes wrong; what is
drawn comes from its own seed, so a run can be repeated.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import msgspec

from scapp.channels.abi import InvalidValue, word
from scapp.channels.chain.calls import Call, decode_call, encode_call
from scapp.channels.chain.client import Block, Fees, Log, Receipt, Refused, Unavailable, ViewCall, bloom_of
from scapp.channels.chain.contracts import load
from scapp.channels.chain.model import execute, view
from scapp.channels.chain.model_chain import GAS_USED, ModelBlock, ModelChain, ModelTransaction, Rejected
from scapp.channels.chain.model_world import Revert
from scapp.channels.crypto import keccak256
from scapp.channels.ethereum_packages import eth_account
from scapp.channels.types import Address, Hash

_KINDS = {"already known": "known", "nonce too low": "nonce-too-low", "replacement": "underpriced"}
_MODELLED = {
    "consensus": "ConsensusApp",
    "payment": "VirtualPaymentApp",
    "two-party": "TwoPartyApp",
    "hash-lock": "HashLockPaymentApp",
}
TIP_WEI = 10**8


class Faults(msgspec.Struct):
    """Probabilities for each request. `down`: nothing answers; `delay_s`: every answer takes so long."""

    down: bool = False
    delay_s: float = 0.0
    fails: float = 0.0  # Unavailable
    fails_after: float = 0.0  # done, and Unavailable all the same
    logs_lost: float = 0.0  # logs of a block are left out of a range
    logs_doubled: float = 0.0
    logs_shuffled: float = 0.0
    logs_removed: float = 0.0  # logs of blocks taken back come along, marked
    head_behind: float = 0.0  # the head is an older block
    receipts_lost: float = 0.0
    hints_lost: float = 0.0


class FakeClient:
    """`on_request` hears the name of each method before it is carried out, and may change the chain. `legacy`: the
    chain has no base fees and takes transactions with one gas price only."""

    def __init__(self, chain: ModelChain, chain_id: int = 1337, seed: str = "", faults: Faults | None = None) -> None:
        self.chain = chain
        self.faults = faults or Faults()
        self.on_request: Callable[[str], None] = lambda name: None
        self.requests: list[str] = []
        self.legacy = False
        self._chain_id = chain_id
        self._draw = random.Random(seed)  # noqa: S311  # faults, not keys
        self._hint = asyncio.Event()

    @property
    def endpoints(self) -> tuple[str, ...]:
        return (self.endpoint,)

    @property
    def endpoint(self) -> str:
        return "model"

    def announce(self) -> None:
        """A new block is there: wakes who waits in `changed`, unless the hint is lost."""
        if self._draw.random() >= self.faults.hints_lost:
            self._hint.set()

    async def chain_id(self) -> int:
        await self._request("chain_id")
        return self._chain_id

    async def head(self) -> Block:
        await self._request("head")
        behind = self._chance(self.faults.head_behind)
        blocks = self.chain.blocks
        return self._header(blocks[max(0, len(blocks) - 1 - (self._draw.randrange(1, 4) if behind else 0))])

    async def blocks(self, numbers: Sequence[int]) -> list[Block | None]:
        await self._request("blocks")
        found = [self.chain.block(number) for number in numbers]
        return [None if block is None else self._header(block) for block in found]

    async def logs(self, address: Address, first: int, last: int, topics: Sequence[bytes | None] = ()) -> list[Log]:
        await self._request("logs")
        found: list[Log] = []
        for block in self.chain.blocks[max(first, 0) : last + 1]:
            if not self._chance(self.faults.logs_lost):
                found += self._logs(block, address)
        if self._chance(self.faults.logs_removed):
            for block in self.chain.forgotten.values():
                if first <= block.number <= last:
                    found += [msgspec.structs.replace(log, removed=True) for log in self._logs(block, address)]
        if self._chance(self.faults.logs_doubled):
            found += found
        if self._chance(self.faults.logs_shuffled):
            self._draw.shuffle(found)
        return [log for log in found if _matches(log, topics)]

    async def block_logs(self, address: Address, block_hash: Hash) -> list[Log]:
        await self._request("block_logs")
        return self._logs(self._block(block_hash), address)

    async def views(self, calls: Sequence[ViewCall]) -> list[bytes | Refused]:
        await self._request("views")
        return [self._view(call) for call in calls]

    async def code(self, address: Address) -> bytes:
        await self._request("code")
        world = self.chain.world
        app = "consensus" if address == world.consensus else world.apps.get(address)
        name = "NitroAdjudicator" if address == world.adjudicator else _MODELLED.get(app or "")
        if name is not None:
            return load(name).deployed_bytecode
        return b"\x60" if address in world.tokens else b""

    async def balance(self, account: Address) -> int:
        await self._request("balance")
        return self.chain.world.balances.get(account, 0)

    async def nonce(self, account: Address, at: Hash | None = None) -> int:
        await self._request("nonce")
        if at is not None:
            return self._block(at).world.nonces.get(account, 0)
        nonce = self.chain.world.nonces.get(account, 0)
        waiting = {item.nonce for item in self.chain.mempool if item.sender == account}
        while nonce in waiting:
            nonce += 1
        return nonce

    async def fees(self) -> Fees:
        await self._request("fees")
        return Fees(self.chain.base_fee, 0 if self.legacy else TIP_WEI, self.legacy)

    async def estimate(self, sender: Address, to: Address | None, data: bytes, value: int) -> int:
        await self._request("estimate")
        world, time_s = self.chain.world.copy(), self.chain.head.time_s
        if world.balances.get(sender, 0) < value:
            raise Refused("funds", "insufficient funds for transfer")
        try:
            execute(world, sender, to or bytes(20), _call(data), value, time_s)
        except Revert as refused:
            raise Refused("reverted", str(refused)) from None
        return GAS_USED

    async def send(self, raw: bytes) -> None:
        await self._request("send")
        try:
            if self.legacy and not is_legacy(raw):
                raise Rejected("transaction type not supported")
            self.chain.send(decode_transaction(raw))
        except Rejected as refused:
            text = str(refused)
            kind = next((kind for start, kind in _KINDS.items() if text.startswith(start)), "funds")
            raise Refused(kind, text) from None
        if self._chance(self.faults.fails_after):
            raise Unavailable("the connection broke after the transaction was sent")

    async def receipts(self, transactions: Sequence[Hash]) -> list[Receipt | None]:
        await self._request("receipts")
        answers: list[Receipt | None] = []
        for transaction in transactions:
            found = self.chain.found(transaction)
            if found is None or self._chance(self.faults.receipts_lost):
                answers.append(None)
            else:
                block, receipt = found
                answers.append(Receipt(transaction, block.number, block.hash, receipt.reason is None, GAS_USED))
        return answers

    async def calldata(self, transactions: Sequence[Hash]) -> list[bytes | None]:
        await self._request("calldata")
        sent = {item.hash: item for block in self.chain.blocks for item in block.transactions}
        found = [None if self._chance(self.faults.receipts_lost) else sent.get(each) for each in transactions]
        return [None if item is None else b"" if item.call is None else encode_call(item.call) for item in found]

    async def changed(self, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(self._hint.wait(), timeout_s)
        except TimeoutError:
            return
        self._hint.clear()

    async def close(self) -> None:
        self.faults.down = True

    async def _request(self, name: str) -> None:
        await asyncio.sleep(self.faults.delay_s)
        self.requests.append(name)
        self.on_request(name)
        if self.faults.down or self._chance(self.faults.fails):
            raise Unavailable("model: connection refused")

    def _chance(self, probability: float) -> bool:
        return probability > 0 and self._draw.random() < probability

    def _block(self, block_hash: Hash) -> ModelBlock:
        block = self.chain.block(block_hash)
        if block is None:
            raise Refused("missing", f"no canonical block 0x{block_hash.hex()}")
        return block

    def _header(self, block: ModelBlock) -> Block:
        bloom = bloom_of(Hash(keccak256(block.world.adjudicator))) if block.logs else bytes(256)
        return Block(
            block.number, block.hash, block.parent, block.time_s, None if self.legacy else block.base_fee, bloom
        )

    @staticmethod
    def _logs(block: ModelBlock, address: Address) -> list[Log]:
        if address != block.world.adjudicator:
            return []
        return [
            Log(address, log.topics, log.data, block.number, block.hash, log.transaction, log.index)
            for log in block.logs
        ]

    def _view(self, asked: ViewCall) -> bytes | Refused:
        try:
            world = self._block(asked.block_hash).world
            call = decode_call(asked.data)
            if asked.to not in (world.adjudicator, *world.tokens, *world.apps):
                return b""
            answer = view(world, asked.to, call)
        except Refused as refused:
            return refused
        except (Revert, InvalidValue) as refused:
            return Refused("reverted", str(refused))
        return answer if isinstance(answer, bytes) else word(answer)


def _matches(log: Log, topics: Sequence[bytes | None]) -> bool:
    return all(wanted is None or log.topics[at] == wanted for at, wanted in enumerate(topics))


def _call(data: bytes) -> Call | None:
    if not data:
        return None
    try:
        return decode_call(data)
    except InvalidValue:
        return None


def is_legacy(raw: bytes) -> bool:
    """Is the signed transaction one from before typed ones (EIP-2718)? It begins as a list of RLP."""
    return raw[:1] >= b"\xc0"


def decode_transaction(raw: bytes) -> ModelTransaction:
    """A signed transaction of EIP-1559, or with one gas price, as the model takes it. Raises Rejected for others."""
    account = eth_account()
    try:
        if is_legacy(raw):
            fields = account.account.Transaction.from_bytes(account.account.HexBytes(raw)).as_dict()
            fields |= {"maxFeePerGas": fields["gasPrice"], "maxPriorityFeePerGas": fields["gasPrice"]}
        else:
            fields = account.typed_transactions.TypedTransaction.from_bytes(account.account.HexBytes(raw)).as_dict()
        sender = bytes.fromhex(account.Account.recover_transaction(raw)[2:])
    except (ValueError, TypeError) as error:
        raise Rejected(f"no transaction: {error}") from None
    return ModelTransaction(
        Hash(keccak256(raw)),
        Address(sender),
        fields["nonce"],
        Address(bytes(fields.get("to", b"")).rjust(20, b"\0")),
        _call(bytes(fields["data"])),
        fields["value"],
        fields["maxFeePerGas"],
        fields["maxPriorityFeePerGas"],
    )
