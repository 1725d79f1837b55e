"""Payments through crashes, lost and doubled messages, cut links and restores, drawn from seeds: no promise breaks."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from scapp.channels.errors import LocalError, ScappError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.restoring import mark_restored
from scapp.channels.transport.fake import FakeNetwork
from scapp.channels.types import ChannelId
from tests.support.payments import PAYEE, PAYER, PayingNode, terms

CHANNELS = [ChannelId(bytes([0xC0 + number]) * 32) for number in range(3)]
START = 10_000
STEPS = 60


class World:
    """Alice pays Bob in three channels; what was told to anybody is written down."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.network = FakeNetwork(seed, automatic=True, drop_rate=0.02, duplicate_rate=0.05)
        self.payer, self.payee = PayingNode(PAYER, self.network), PayingNode(PAYEE, self.network)
        self.promised = dict.fromkeys(CHANNELS, 0)  # largest total of which a caller has a receipt
        self.held = dict.fromkeys(CHANNELS, 0)  # largest total that the payee has told
        self.seen: dict[ChannelId, list[tuple[int, int]]] = {channel: [] for channel in CHANNELS}  # each payment's part
        self.backups: dict[str, MemoryLog] = {}
        self.asked: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.payer.start(PAYEE.address)
        await self.payee.start(PAYER.address)
        for channel in CHANNELS:
            await self.payer.payments.open(terms(channel, START))
            await self.payee.payments.open(terms(channel, START))

    async def step(self) -> None:
        what = self.random.choices(
            ["pay", "crash", "cut", "heal", "back up", "restore", "wait"], [30, 3, 2, 4, 1, 1, 10]
        )[0]
        node = self.random.choice([self.payer, self.payee])
        if what == "pay":
            channel, amount = self.random.choice(CHANNELS), self.random.randint(1, 20)
            for _ in range(self.random.randint(1, 5)):
                self.asked.append(asyncio.create_task(self._pay(channel, amount)))
        elif what == "crash":
            node.log.fail_writes("it has crashed")  # before the copy: nobody is told of what that one lacks
            await self._restart(node, node.log.durable_copy())
        elif what == "cut":
            self.network.partition([PAYER.address], [PAYEE.address])
        elif what == "heal":
            self.network.heal()
        elif what == "back up":
            self.backups[node.signer.address.hex()] = node.log.durable_copy()
        elif what == "restore":
            await self._restore(node)
        else:
            await asyncio.sleep(0.002)
        for each in (self.payer, self.payee):
            each.later(self.random.randint(0, 3_000))
        self._note()

    async def _pay(self, channel: ChannelId, amount: int) -> None:
        try:
            receipt = await self.payer.payments.pay(channel, amount, wait_s=self.random.choice([0, 0.05]))
        except ScappError:
            return  # recovering, stopping, spent
        assert receipt.total <= receipt.voucher.amount <= START
        self.promised[channel] = max(self.promised[channel], receipt.total)
        if receipt.seen:
            self.held[channel] = max(self.held[channel], receipt.total)
            self.seen[channel].append((receipt.total - amount, receipt.total))

    def _note(self) -> None:
        for channel in CHANNELS:
            self.held[channel] = max(self.held[channel], self.payee.payments.purse(channel).purse.paid)

    async def _restart(self, node: PayingNode, log: MemoryLog) -> None:
        self.network.crash(node.signer.address)
        await node.restart(log)

    async def _restore(self, node: PayingNode) -> None:
        backup = self.backups.pop(node.signer.address.hex(), None)
        if backup is not None and not any(info.purse.recovering for info in self._other(node).payments.purses()):
            mark_restored(backup, self.random.randbytes(16), node.now_ms, node.now_ms - 1)
            await self._restart(node, backup)

    def _other(self, node: PayingNode) -> PayingNode:
        return self.payee if node is self.payer else self.payer

    async def settle(self) -> None:
        """Everything heals; both agree within a few rounds of saying it again, more of them on a busy machine."""
        self.network.heal()
        self.network.drop_rate = self.network.duplicate_rate = 0.0
        await asyncio.gather(*self.asked)
        for turn in range(400):
            for node in (self.payer, self.payee):
                node.later(31_000)
            await asyncio.sleep(0.005)
            if turn >= 20 and self._agreed():
                return

    def _agreed(self) -> bool:
        purses = [[node.payments.purse(each).purse for node in (self.payer, self.payee)] for each in CHANNELS]
        return all(
            payer.paid == payee.paid and not payer.recovering and not payee.recovering for payer, payee in purses
        )

    async def stop(self) -> None:
        await self.payer.stop()
        await self.payee.stop()


@pytest.mark.parametrize("seed", range(20))
async def test_both_ends_agree_and_nothing_told_is_taken_back(seed: int) -> None:
    """Once all is quiet both hold the same voucher, at least what the payee ever held, and what any receipt that the
    payee saw says, each of which is over coins of its own; then the end is signed over just that."""
    world = World(seed)
    await world.start()
    for _ in range(STEPS):
        await world.step()
    await world.settle()
    for channel in CHANNELS:
        payer = world.payer.payments.purse(channel).purse
        payee = world.payee.payments.purse(channel).purse
        assert not payer.recovering
        assert not payee.recovering
        assert payer.paid == payee.paid <= START
        assert payee.paid >= world.held[channel]
        parts = sorted(world.seen[channel])
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(parts)), "one coin paid twice"
        final = await world.payer.payments.close(channel)
        assert await world.payee.payments.close(channel, final) == payee.paid
        with pytest.raises(LocalError, match="closed"):
            await world.payer.payments.pay(channel, 1)
    await world.stop()


async def test_without_restores_every_receipt_is_honoured() -> None:
    """A payment that has a receipt arrives, whatever crashes."""
    for seed in range(6):
        world = World(1_000 + seed)
        world._restore = lambda node: asyncio.sleep(0)  # type: ignore[method-assign,assignment]
        await world.start()
        for _ in range(STEPS):
            await world.step()
        await world.settle()
        for channel in CHANNELS:
            assert world.payee.payments.purse(channel).purse.paid >= world.promised[channel]
        await world.stop()
