"""A `ChainClient` over JSON-RPC: several endpoints, the first that answers in order.

An endpoint that fails rests for a while that grows, and the next one is asked. http(s) endpoints are polled; a ws(s)
endpoint also tells of new blocks, and is polled when it does not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from scapp.channels.chain.client import Block, Fees, Log, Receipt, Refused, Unavailable, ViewCall, WrongChain
from scapp.channels.chain.rpc_answers import (
    Answer,
    block_of,
    calldata_of,
    hexed,
    logs_of,
    number_of,
    optional,
    quantity,
    receipt_of,
    refused_of,
    small_of,
    unhex,
)
from scapp.channels.chain.rpc_link import REST_S_MIN, Link
from scapp.channels.types import Address, Hash

logger = logging.getLogger("scapp.chain")

REST_S_MAX = 60.0
BATCH_MAX = 100
USUAL_TIP_WEI = 10**9

Call = tuple[str, list[Any]]
T = TypeVar("T")


class RpcClient:
    """Belongs to one event loop; one request at a time is under way. `chain_id`: endpoints of other chains are not
    used. `clock` gives seconds that only grow."""

    def __init__(
        self,
        endpoints: Sequence[str],
        chain_id: int | None = None,
        *,
        timeout_s: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not endpoints:
            raise ValueError("a chain needs at least one endpoint")
        self._links = [Link(url, timeout_s) for url in endpoints]
        self._chain_id = chain_id
        self._clock = clock
        self._current = self._links[0]
        self._lock = asyncio.Lock()

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(link.shown for link in self._links)

    @property
    def endpoint(self) -> str:
        return self._current.shown

    async def chain_id(self) -> int:
        return await self._one(number_of, "eth_chainId")

    async def head(self) -> Block:
        return await self._one(block_of, "eth_getBlockByNumber", "latest", False)

    async def blocks(self, numbers: Sequence[int]) -> list[Block | None]:
        calls: list[Call] = [("eth_getBlockByNumber", [quantity(number), False]) for number in numbers]
        return _all_good(await self._many(optional(block_of), calls))

    async def logs(self, address: Address, first: int, last: int, topics: Sequence[bytes | None] = ()) -> list[Log]:
        wanted = {"address": hexed(address), "fromBlock": quantity(first), "toBlock": quantity(last)}
        places = [None if topic is None else hexed(topic) for topic in topics]
        return await self._one(logs_of, "eth_getLogs", wanted | {"topics": places})

    async def block_logs(self, address: Address, block_hash: Hash) -> list[Log]:
        return await self._one(logs_of, "eth_getLogs", {"address": hexed(address), "blockHash": hexed(block_hash)})

    async def views(self, calls: Sequence[ViewCall]) -> list[bytes | Refused]:
        asked: list[Call] = [
            ("eth_call", [{"to": hexed(call.to), "data": hexed(call.data)}, {"blockHash": hexed(call.block_hash)}])
            for call in calls
        ]
        return await self._many(unhex, asked)

    async def code(self, address: Address) -> bytes:
        return await self._one(unhex, "eth_getCode", hexed(address), "latest")

    async def balance(self, account: Address) -> int:
        return await self._one(number_of, "eth_getBalance", hexed(account), "latest")

    async def nonce(self, account: Address, at: Hash | None = None) -> int:
        block: Any = "pending" if at is None else {"blockHash": hexed(at)}
        return await self._one(small_of, "eth_getTransactionCount", hexed(account), block)

    async def fees(self) -> Fees:
        head = await self.head()
        if head.base_fee is None:
            return Fees(await self._one(number_of, "eth_gasPrice"), 0, legacy=True)
        (tip,) = await self._many(number_of, [("eth_maxPriorityFeePerGas", [])])
        return Fees(head.base_fee, USUAL_TIP_WEI if isinstance(tip, Refused) else tip)

    async def estimate(self, sender: Address, to: Address | None, data: bytes, value: int) -> int:
        wanted = {"from": hexed(sender), "data": hexed(data), "value": quantity(value)}
        if to is not None:
            wanted["to"] = hexed(to)
        return await self._one(small_of, "eth_estimateGas", wanted)

    async def send(self, raw: bytes) -> None:
        await self._one(unhex, "eth_sendRawTransaction", hexed(raw))

    async def receipts(self, transactions: Sequence[Hash]) -> list[Receipt | None]:
        calls: list[Call] = [("eth_getTransactionReceipt", [hexed(transaction)]) for transaction in transactions]
        return _all_good(await self._many(optional(receipt_of), calls))

    async def calldata(self, transactions: Sequence[Hash]) -> list[bytes | None]:
        calls: list[Call] = [("eth_getTransactionByHash", [hexed(transaction)]) for transaction in transactions]
        answers = await self._many(optional(calldata_of), calls)
        return [None if isinstance(answer, Refused) else answer for answer in answers]

    async def changed(self, timeout_s: float) -> None:
        await self._current.changed(timeout_s)

    async def close(self) -> None:
        for link in self._links:
            await link.close()

    async def _one(self, read: Callable[[Any], T], method: str, *parameters: Any) -> T:
        (answer,) = _all_good(await self._many(read, [(method, list(parameters))]))
        return answer

    async def _many(self, read: Callable[[Any], T], calls: Sequence[Call]) -> list[T | Refused]:
        """Answers in their order, each as `read` takes it; what a node refuses is Refused in its place. Raises
        Unavailable, WrongChain."""
        async with self._lock:
            found: list[T | Refused] = []
            for start in range(0, len(calls), BATCH_MAX):
                found += await self._ask(read, calls[start : start + BATCH_MAX])
            return found

    async def _ask(self, read: Callable[[Any], T], calls: Sequence[Call]) -> list[T | Refused]:
        faults = []
        for link in self._links:
            if link.rests_until > self._clock():
                faults.append(f"{link.shown}: {link.fault}")
                continue
            try:
                await self._check(link)
                answers = [_read(read, answer) for answer in await link.ask(calls)]
            except (OSError, ValueError, Unavailable) as error:  # TimeoutError is an OSError
                self._rest(link, str(error) or type(error).__name__)
                faults.append(f"{link.shown}: {link.fault}")
                continue
            link.rest_s = REST_S_MIN
            self._current = link
            return answers
        if all(link.wrong_chain for link in self._links):
            raise WrongChain("; ".join(faults))
        raise Unavailable("no endpoint of the chain answers: " + "; ".join(faults))

    async def _check(self, link: Link) -> None:
        """The chain of an endpoint, once for each connection."""
        if self._chain_id is None or link.checked:
            return
        (answer,) = await link.ask([("eth_chainId", [])])
        found = _read(number_of, answer)
        link.wrong_chain = found != self._chain_id
        if link.wrong_chain:
            raise Unavailable(f"it is of chain {found}; configured is chain {self._chain_id}")
        link.checked = True

    def _rest(self, link: Link, fault: str) -> None:
        if fault != link.fault:
            logger.warning("%s: %s", link.shown, fault)
        link.fault, link.checked = fault, False
        link.rests_until = self._clock() + link.rest_s
        link.rest_s = min(2 * link.rest_s, REST_S_MAX)


def _read(read: Callable[[Any], T], answer: Answer) -> T | Refused:
    """The result, or Refused. Raises Unavailable where the endpoint could not ask the chain itself, and ValueError for
    a result that is none."""
    error = answer.get("error")
    return read(answer.get("result")) if error is None else refused_of(error)


def _all_good(answers: list[T | Refused]) -> list[T]:
    good = []
    for answer in answers:
        if isinstance(answer, Refused):
            raise answer
        good.append(answer)
    return good
