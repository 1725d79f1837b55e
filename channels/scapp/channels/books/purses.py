"""Between the books and the payments: a purse is opened for a payment channel that runs, its total asked for before a
final state is signed, and closed for good when the channel is over.

Every step is asked for again until it is done, and each may be repeated without harm, so a crash between loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from scapp.channels.books.engine import Books
from scapp.channels.books.proposals import restore_token
from scapp.channels.books.runner import BooksRunner
from scapp.channels.books.step import NOTHING, Step
from scapp.channels.errors import LocalError, ScappError
from scapp.channels.ledger.chain_facts import Enforceable
from scapp.channels.payments.book import PurseTerms
from scapp.channels.payments.purse import Purse, PurseInfo
from scapp.channels.payments.runner import PaymentRunner
from scapp.channels.types import ChannelId
from scapp.channels.virtual import settling
from scapp.channels.virtual.agreement import opened_ms
from scapp.channels.virtual.defunding import total_known, wants_total
from scapp.channels.virtual.record import VirtualRecord

logger = logging.getLogger("scapp.books")

SETTLED_KEPT = 2_048


class LaneKeeper(Protocol):
    """`books.locks.BooksLocks`, as far as it is needed here: purses of channels that take hash locks. Its methods are
    those of `PaymentRunner`."""

    def keeps(self, record: VirtualRecord) -> bool:
        """Is it such a channel?"""
        ...

    def purse(self, channel: ChannelId) -> Purse | None: ...

    async def open(self, terms: PurseTerms, challenge_duration_s: int, token: bytes) -> None: ...

    async def close(self, channel: ChannelId, total: int | None) -> int: ...

    async def settle(self, channel: ChannelId) -> None: ...

    async def end_on_chain(self, channel: ChannelId) -> None: ...

    def redemption(self, record: VirtualRecord) -> Enforceable: ...


class Purses:
    """Belongs to the node's event loop. `damaged`: channels whose purses cannot be read. Nothing is done for them: a
    purse that is opened anew could not be stored, nor could any other payment after it."""

    def __init__(
        self, runner: BooksRunner, payments: PaymentRunner, locks: LaneKeeper, damaged: frozenset[ChannelId]
    ) -> None:
        self._runner = runner
        self._payments = payments
        self._locks = locks
        self.damaged = damaged
        self._tasks: dict[ChannelId, asyncio.Task[None]] = {}
        self._told: dict[ChannelId, str] = {}  # why a step of a channel failed last
        self._settled = SETTLED_KEPT  # purses, since it was looked what may be forgotten
        self._kept: set[ChannelId] = set()  # channels that are on chain, in which this node redeems nothing

    def update(self, channels: Iterable[ChannelId]) -> None:
        """These records have changed, or time has passed."""
        for channel in channels:
            if channel not in self._tasks and self._next(channel) is not None:
                self._tasks[channel] = asyncio.create_task(
                    self._go_on(channel), name=f"scapp-purse-{channel.hex()[:8]}"
                )

    def forget_old(self) -> None:
        """Memory holds the newest of what is settled, so that it does not grow with all that was ever paid. A channel
        never opens a second purse (`_next`), because its record says that it is over, or is forgotten itself."""
        if self._settled < SETTLED_KEPT // 2:
            return
        self._settled = 0
        virtuals = self._runner.books.state.virtuals
        settled = [
            purse
            for purse in (each.purse for each in self._payments.purses())
            if purse.phase == "settled" and (purse.channel not in virtuals or virtuals[purse.channel].over)
        ]
        settled.sort(key=lambda purse: purse.opened_ms, reverse=True)
        self._payments.forget(purse.channel for purse in settled[SETTLED_KEPT:])
        self._kept.intersection_update(virtuals)

    async def stop(self) -> None:
        """Break off what is under way: it begins again at the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def info(self, channel: ChannelId) -> PurseInfo | None:
        """The purse of a channel, as far as it is durable, and what it waits for; None where there is none."""
        lane = self._locks.purse(channel)
        if lane is not None:
            waiting_for = "the other end to say which vouchers and locks it holds" if lane.recovering else ""
            return PurseInfo(purse=lane, seen=lane.credited, waiting_for=waiting_for)
        try:
            return self._payments.purse(channel)
        except LocalError:
            return None

    def purse(self, channel: ChannelId) -> Purse | None:
        """The purse alone."""
        info = self.info(channel)
        return info.purse if info is not None else None

    def plain(self, channel: ChannelId) -> Purse | None:
        """The same of a channel that takes no hash locks."""
        return self.purse(channel) if self._locks.purse(channel) is None else None

    def _next(self, channel: ChannelId) -> Callable[[VirtualRecord], Awaitable[None]] | None:
        """What a channel needs now."""
        record = self._runner.books.state.virtuals.get(channel)
        if record is None or record.agreement.kind != "payment" or record.is_hub or channel in self.damaged:
            return None
        purse = self.purse(channel)
        if record.over:
            return self._settle if purse is not None and purse.phase != "settled" else None
        if record.funded and purse is None:
            return None if record.signed(record.final) else self._open
        if purse is not None and purse.phase == "open" and record.signed(record.final):
            return self._settle  # signed before a restore: no further voucher would be worth anything
        if self._ends_on_chain(record):
            return self._redeem
        return self._tell_total if wants_total(record) else None

    async def _go_on(self, channel: ChannelId) -> None:
        try:
            while (step := self._next(channel)) is not None:
                await step(self._runner.books.state.virtuals[channel])
            self._told.pop(channel, None)
        except ScappError as error:  # tried again when the channel changes, and from time to time while it waits
            if self._told.get(channel) != str(error):
                self._told[channel] = str(error)
                logger.warning("payment channel 0x%s: %s", channel.hex(), error)
        except Exception:
            logger.exception("payment channel 0x%s: a bug", channel.hex())
        finally:
            del self._tasks[channel]

    async def _open(self, record: VirtualRecord) -> None:
        asset, participants = record.agreement.assets[0], record.agreement.participants
        terms = PurseTerms(
            channel=record.channel_id,
            payer=participants[0],
            payee=participants[-1],
            asset=asset.asset,
            start=asset.first,
        )
        if self._locks.keeps(record):
            await self._locks.open(terms, record.agreement.fixed.challenge_duration, self._lost_by(record))
        else:
            await self._payments.open(terms, self._lost_by(record))
        self._runner.wake()

    def _lost_by(self, record: VirtualRecord) -> bytes:
        """The token of a restore after which a channel without purse may have had one: it was here before. Empty for a
        channel that is new."""
        restored_ms = self._runner.books.state.restored_ms
        before = min(record.created_ms, opened_ms(record.agreement.fixed.nonce)) <= restored_ms or any(record.told)
        return restore_token(restored_ms) if restored_ms and before else b""

    async def _settle(self, record: VirtualRecord) -> None:
        self._settled += 1
        await (self._locks if self._locks.keeps(record) else self._payments).settle(record.channel_id)

    def _ends_on_chain(self, record: VirtualRecord) -> bool:
        books = self._runner.books
        if record.channel_id in self._kept or books.disputes.enforceable(record) is not None:
            return False
        purse = self.purse(record.channel_id)
        if purse is not None and purse.recovering and not settling.is_urgent(record, books.context):
            return False  # the payer may still tell a larger voucher
        return record.funded and books.disputes.closes_payments(record, books.context)

    async def _redeem(self, record: VirtualRecord) -> None:
        """No voucher is taken after the payee has made the one state that redeems them, nor given by the payer."""
        purse = self.purse(record.channel_id)
        if purse is not None and purse.phase != "settled":
            if self._locks.keeps(record):
                await self._locks.end_on_chain(record.channel_id)
            else:
                await self._payments.close(record.channel_id)
        purse = self.purse(record.channel_id)
        signer = self._runner.books.context.signer
        if purse is None or purse.largest is None or signer.address != purse.payee:
            self._kept.add(record.channel_id)
            return
        if self._locks.keeps(record):
            redemption = self._locks.redemption(record)
        else:
            redemption = settling.redemption(record, purse.largest, signer)
        channel = record.channel_id

        def redeemed(books: Books) -> Step:
            books.disputes.redeem(channel, redemption)
            books.touch(channel)
            books.mark((channel,))
            return NOTHING

        await self._runner.input(redeemed)

    async def _tell_total(self, record: VirtualRecord) -> None:
        """The payer pays no more; the payee takes no voucher above what the final state offers, which must cover all
        that it holds."""
        offered = record.final.amounts[0][1] if record.final is not None else None
        keeper = self._locks if self._locks.keeps(record) else self._payments
        total = await keeper.close(record.channel_id, offered)

        def known(books: Books) -> Step:
            now = books.state.virtuals[record.channel_id]
            return total_known(now, total) if wants_total(now) else NOTHING

        await self._runner.input(known)
