"""Payer and payee for tests: their books, and nodes of theirs over a simulated network with logs that can fail."""

from __future__ import annotations

import asyncio
from collections import Counter

from scapp.channels.errors import LocalError
from scapp.channels.log.committer import Committer
from scapp.channels.log.memory import MemoryLog
from scapp.channels.payments.book import PaymentBook, PurseTerms
from scapp.channels.payments.events import (
    PurseClosed,
    PurseEvent,
    PurseOpened,
    PurseRecovered,
    PurseRestored,
    PurseSettled,
    VoucherPaid,
    VoucherRecalled,
    VoucherTaken,
    amount_bytes,
)
from scapp.channels.payments.limits import Limits
from scapp.channels.payments.runner import PaymentRunner
from scapp.channels.restoring import is_purse
from scapp.channels.signing import Signer
from scapp.channels.transport.fake import FakeNetwork, FakeTransport
from scapp.channels.types import Address, ChannelId

PAYER, PAYEE, MALLORY = (Signer(bytes((number,)) * 32) for number in (1, 2, 3))
ASSET = Address(b"\xa5" * 20)
CHANNEL = ChannelId(b"\xc4" * 32)
NOW_MS = 1_700_000_000_000


def terms(channel: ChannelId = CHANNEL, start: int = 100) -> PurseTerms:
    return PurseTerms(channel=channel, payer=PAYER.address, payee=PAYEE.address, asset=ASSET, start=start)


def payer_book(channel: ChannelId = CHANNEL, start: int = 100, limits: Limits | None = None) -> PaymentBook:
    book = PaymentBook(PAYER, limits)
    book.open(terms(channel, start), NOW_MS)
    return book


def payee_book(channel: ChannelId = CHANNEL, start: int = 100, limits: Limits | None = None) -> PaymentBook:
    book = PaymentBook(PAYEE, limits)
    book.open(terms(channel, start), NOW_MS)
    return book


def every_event() -> list[PurseEvent]:
    """One of each type, in an order in which a purse of 100 can have them."""
    signature = b"\x05" * 65
    return [
        PurseOpened(CHANNEL, PAYER.address, PAYEE.address, ASSET, amount_bytes(100), NOW_MS),
        VoucherPaid(amount_bytes(30), signature, amount_bytes(10) + amount_bytes(20), NOW_MS),
        VoucherTaken(amount_bytes(31), signature, amount_bytes(1), NOW_MS),
        PurseRestored(b"\x06" * 16, NOW_MS, NOW_MS - 1),
        VoucherRecalled(amount_bytes(32), signature, NOW_MS),
        PurseRecovered(True, NOW_MS),
        PurseClosed(amount_bytes(32), NOW_MS),
        PurseSettled(NOW_MS),
    ]


class PayingNode:
    """One node's payments over the fake network; `stop` and `restart` on the same log, or on what survived of it."""

    def __init__(
        self, signer: Signer, network: FakeNetwork, log: MemoryLog | None = None, limits: Limits | None = None
    ) -> None:
        self.signer = signer
        self.network = network
        self.log = log or MemoryLog()
        self.limits = limits
        self.counters: Counter[str] = Counter()
        self.taken: list[int] = []
        self.refused: list[str] = []
        self.now_ms = NOW_MS
        self._peers: list[Address] = []

    async def start(self, *peers: Address) -> PayingNode:
        self._peers = list(peers)
        self.committer = Committer(self.log)
        self.transport = FakeTransport(self.network, self.signer.address)
        self.payments = PaymentRunner(
            signer=self.signer,
            log=self.log,
            committer=self.committer,
            send=self._send,
            clock_ms=lambda: self.now_ms,
            counters=self.counters,
            limits=self.limits,
            on_taken=lambda purse, added: self.taken.append(added),
        )
        for stream in self.log.streams():
            if is_purse(self.log, stream):
                self.payments.load(stream)
        await self.transport.start(self._receive, self._on_link)
        for peer in peers:
            self.transport.add_peer(peer, f"fake-{peer.hex()}:1")
        return self

    async def stop(self) -> None:
        await self.payments.stop()
        await self.transport.stop()
        await asyncio.to_thread(self.committer.close)

    async def restart(self, log: MemoryLog | None = None) -> None:
        """A new life, on the same log or on another."""
        await self.stop()
        self.log = log or self.log
        await self.start(*self._peers)

    def later(self, ms: int) -> None:
        """Time passes."""
        self.now_ms += ms
        self.payments.tick(self.now_ms)

    def _send(self, peer: Address, message: bytes) -> bool:
        try:
            self.transport.send(peer, message)
        except LocalError:
            return False
        return True

    async def _receive(self, peer: Address, data: bytes) -> None:
        try:
            self.payments.receive(peer, data)
        except Exception as error:
            self.refused.append(str(error))
            raise

    def _on_link(self, peer: Address, connected: bool) -> None:
        if connected:
            self.payments.link_up(peer)
