"""Nodes with a chain between them, ledgers and hubs: for tests of the books in whole nodes, in one process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from scapp.channels.books.info import LedgerInfo, LedgerRequest, PaymentChannelRequest, VirtualInfo
from scapp.channels.books.policy import Decision, LedgerOffer
from scapp.channels.books.service import NodeBooks
from scapp.channels.books.setup import BooksSetup
from scapp.channels.books.step import BOOKS_STREAM, NOTHING, BooksTerms
from scapp.channels.chain.support import App
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.errors import ScappError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.node import Node
from scapp.channels.payments.locked.terms import LockSettings
from scapp.channels.routing.own import HubTerms
from scapp.channels.service import NodeEvent, OpenRequest
from scapp.channels.signing import Signer
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from scapp.channels.virtual.opening import Apps, HubRequest
from tests.support.node_cast import DEPLOYMENT, START_MS, Cast
from tests.support.plain_chain import PlainChain, PlainService, answered

PAYMENT_APP, TWO_PARTY_APP, LOCK_APP = (Address(bytes([number]) * 20) for number in (0xA1, 0xA2, 0xA3))
TERMS = ChainTerms(challenge_duration_min_s=600, conclude_delay_s=3_600)
DURATION_S = 3_600


class Willing:
    """Accepts everything, unless told otherwise by role."""

    def __init__(self, **answers: Decision) -> None:
        self.answers = answers

    def ledger(self, offer: LedgerOffer) -> Decision:
        return self.answers.get("ledger", ("accept", ""))

    def virtual(self, request: HubRequest, forwarded: int) -> Decision:
        return self.answers.get(request.role, ("accept", ""))


class LedgerScene:
    """`count` nodes; node i has the key i + 1."""

    def __init__(self, count: int) -> None:
        self.signers = [Signer(bytes([key]) * 32) for key in range(1, count + 1)]
        self.cast = Cast()
        apps: dict[bytes, App] = {PAYMENT_APP: "payment", TWO_PARTY_APP: "two-party", LOCK_APP: "hash-lock"}
        self.chain = PlainChain(self.signers, START_MS // 1_000, apps=apps)
        self.logs: list[Any] = [MemoryLog() for _ in self.signers]  # or any other log
        self.services: dict[int, PlainService] = {}
        self.nodes: dict[int, Node] = {}
        self.events: list[list[NodeEvent]] = [[] for _ in self.signers]
        self.policies = [Willing() for _ in self.signers]
        self.unprotected = self.presigns = False
        self.hubs = [HubTerms() for _ in self.signers]
        self.locks = [LockSettings(margin_s=300) for _ in self.signers]

    async def start(self) -> LedgerScene:
        for index in range(len(self.signers)):
            await self.node(index)
        return self

    async def node(self, index: int) -> Node:
        service = PlainService(self.chain, self.signers[index])
        service.sparse = True
        setup = BooksSetup(
            policy=self.policies[index],
            apps=Apps(PAYMENT_APP, TWO_PARTY_APP, LOCK_APP),
            unprotected=self.unprotected,
            presigns=self.presigns,
            terms=BooksTerms(conclude_delay_s=3_600),
            hub=self.hubs[index],
            locks=self.locks[index],
        )
        node = await self.cast.node(index + 1, log=self.logs[index], chain=service, terms=TERMS, books=setup)
        node.subscribe(self.events[index].append)
        self.services[index], self.nodes[index] = service, node
        return node

    async def restart(self, index: int) -> None:
        await self.nodes[index].stop()
        await self.node(index)

    def books(self, index: int) -> NodeBooks:
        found = self.nodes[index].books
        assert found is not None
        return found

    def address(self, index: int) -> Address:
        return self.signers[index].address

    async def block(self, seconds: int = 12) -> None:
        for service in self.services.values():
            service.send()
        self.chain.chain.mine(self.chain.chain.head.time_s + seconds)
        for service in self.services.values():
            service.look()
        await self.decided()
        await asyncio.sleep(0.01)

    async def decided(self) -> None:
        """Until the nodes have decided on what the chain has shown them; those that cannot are left alone."""
        await answered(self.services.values())
        for index in self.nodes:
            runner = self.books(index)._runner
            if runner is not None:
                with contextlib.suppress(ScappError, TimeoutError):
                    await asyncio.wait_for(runner.input(lambda _: NOTHING), 1)

    async def until(self, happened: Callable[[], bool], *, blocks: bool = False, seconds: int = 12) -> None:
        """Wait for it; with `blocks` the chain goes on meanwhile, by so many seconds each."""
        for _ in range(300 if blocks else 3_000):
            if happened():
                return
            if blocks:
                await self.block(seconds)
                continue
            for service in self.services.values():
                service.look()  # a node that was started again reads what it watches
            await asyncio.sleep(0.01)
        found = [(each.phase, each.waiting_for, each.reason) for i in self.nodes for each in self.nodes[i].channels()]
        found += [(each.phase, each.waiting_for, each.reason) for i in self.nodes for each in self.books(i).ledgers()]
        found += [(each.phase, each.waiting_for, each.reason) for i in self.nodes for each in self.books(i).virtuals()]
        raise AssertionError(found)

    async def propose_ledger(
        self,
        left: int,
        right: int,
        amounts: tuple[int, int] = (1_000, 1_000),
        assets: Sequence[Address] = (ZERO_ADDRESS,),
    ) -> ChannelId:
        """A ledger between two nodes, led by the first, with those amounts of each asset."""
        request = LedgerRequest(
            peer=self.address(right),
            funds=tuple((asset, *amounts) for asset in assets),
            challenge_duration_s=DURATION_S,
        )
        return await self.books(left).open_ledger(request)

    async def ledger(
        self,
        left: int,
        right: int,
        amounts: tuple[int, int] = (1_000, 1_000),
        assets: Sequence[Address] = (ZERO_ADDRESS,),
    ) -> ChannelId:
        """The same, running."""
        channel = await self.propose_ledger(left, right, amounts, assets)
        await self.until(lambda: self.has_phase(channel, "running", (left, right)), blocks=True)
        return channel

    def has_phase(self, ledger: ChannelId, phase: str, of: Sequence[int]) -> bool:
        found = {index: {each.channel_id: each.phase for each in self.books(index).ledgers()} for index in of}
        return all(phases.get(ledger) == phase for phases in found.values())

    def virtual_phase(self, channel: ChannelId, phase: str, of: Sequence[int]) -> bool:
        found = {index: {each.channel_id: each.phase for each in self.books(index).virtuals()} for index in of}
        return all(phases.get(channel) == phase for phases in found.values())

    def virtual_over(self, channel: ChannelId, of: Sequence[int]) -> bool:
        """Has it ended without having been funded, and is nothing locked for it?"""
        found = [info for index in of for info in self.books(index).ledgers() if channel in info.channels]
        return not found and self.virtual_phase(channel, "failed", of)

    def is_stored(self, index: int) -> bool:
        """Is all that the books show in their log? They are ahead of it while an append is on its way."""
        runner = self.books(index)._runner
        assert runner is not None
        return bool(self.logs[index].version(BOOKS_STREAM) == runner.books.state.version)

    def save_snapshot(self, index: int) -> None:
        """Of the books as they stand."""
        runner = self.books(index)._runner
        assert runner is not None
        runner.snapshots.take()()

    async def payments(
        self, path: Sequence[int], amount: int = 100, fees: tuple[int, ...] | None = None, *, locks: bool = False
    ) -> ChannelId:
        """A running payment channel along a path of nodes."""
        channel = await self.open_payments(path, amount, fees, locks=locks)
        await self.until(lambda: self.virtual_phase(channel, "running", path))
        return channel

    async def open_payments(
        self, path: Sequence[int], amount: int, fees: tuple[int, ...] | None = None, *, locks: bool = False
    ) -> ChannelId:
        """The same as soon as it is proposed."""
        payer, *hubs, payee = path
        request = PaymentChannelRequest(
            payee=self.address(payee),
            amount=amount,
            via=tuple(map(self.address, hubs)),
            fees=(0,) * len(hubs) if fees is None else fees,
            challenge_duration_s=DURATION_S,
            locks=locks,
        )
        return await self.books(payer).open_payments(request)

    async def app_channel(
        self,
        path: Sequence[int],
        stakes: tuple[int, int],
        fees: tuple[int, ...],
        assets: Sequence[Address] = (ZERO_ADDRESS,),
    ) -> ChannelId:
        """A running app channel between the ends of a path of nodes."""
        first, *hubs, last = path
        request = OpenRequest(
            peers=(self.address(last),),
            deployment=DEPLOYMENT,
            slots=tuple(
                (bytes(asset), bytes(12) + self.address(index), amount)
                for asset in assets
                for index, amount in zip((first, last), stakes, strict=True)
            ),
            challenge_duration=DURATION_S,
            fund="virtual",
            via=tuple(map(self.address, hubs)),
            fees=fees,
        )
        channel = await self.nodes[first].open_channel(request)
        await self.until(lambda: all(self.app_phase(index, channel) == "running" for index in (first, last)))
        return channel

    def app_phase(self, index: int, channel: ChannelId) -> str:
        """That of an app channel; empty where it is not known."""
        return next((each.phase for each in self.nodes[index].channels() if each.channel_id == channel), "")

    def money(self, index: int, ledger: ChannelId) -> tuple[int, int, int]:
        """Own, the peer's, locked."""
        (asset,) = self.books(index).ledger(ledger).assets
        return asset.mine, asset.theirs, asset.locked

    def info(self, index: int, ledger: ChannelId) -> LedgerInfo:
        return self.books(index).ledger(ledger)

    def virtual(self, index: int, channel: ChannelId) -> VirtualInfo:
        return self.books(index).virtual(channel)

    def gain(self, index: int) -> int:
        """What a node's channel address, where its ledgers pay, has on chain."""
        return self.chain.chain.world.balances.get(self.address(index), 0)

    async def end(self) -> None:
        await self.cast.end()
