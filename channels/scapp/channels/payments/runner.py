"""The node's payments at run time: payments gather, are decided together, stored, said. `book.py` decides.

Payments of one channel that are asked for while appends are being synced share the next one: one voucher, one event,
one item of one message for all of them. So a lone payment waits for nobody, and throughput grows with load.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable

from scapp.channels.errors import LocalError, ScappError
from scapp.channels.log.port import Committer, EventLog
from scapp.channels.payments.book import PaymentBook, PurseTerms
from scapp.channels.payments.events import PurseEvent, amount_of
from scapp.channels.payments.history import PaymentRow, read_history
from scapp.channels.payments.limits import Limits
from scapp.channels.payments.messages import (
    VoucherHeld,
    VoucherRefusal,
    Vouchers,
    VouchersSeen,
    VoucherWanted,
    decode_payment_message,
)
from scapp.channels.payments.purse import Purse, PurseInfo
from scapp.channels.payments.receipts import Asked, Payment
from scapp.channels.payments.store import PurseStore
from scapp.channels.payments.talk import PaymentTalk
from scapp.channels.payments.vouchers import Voucher, VoucherRefused, VoucherSigner, redemption_app_data
from scapp.channels.types import Address, ChannelId

logger = logging.getLogger("scapp.payments")

APPENDS_MAX = 2
"""Appends on their way to the disk: while one is synced the next is signed, and what comes after that gathers."""
CHANNELS_PER_STEP = 64
"""Vouchers signed or checked before they are stored and others have a turn: some 3 milliseconds. Larger steps leave the
other party idle meanwhile."""
PAYMENTS_PER_VOUCHER_MAX = 4_096
EARLY_MAX = 256
"""Vouchers kept in memory of channels that are not open here yet: the payer may hear of it first."""


class PaymentRunner:
    """Belongs to the node's event loop. `send` queues a message for a peer and says whether it could; `on_taken` hears
    of each voucher that adds to a purse, and how much, once that is durable; while a purse recovers from a restore, of
    nothing, and of it all afterwards. Of the node's `counters` those that begin
    with "payments_" and "vouchers_" are counted here."""

    def __init__(
        self,
        *,
        signer: VoucherSigner,
        log: EventLog,
        committer: Committer,
        send: Callable[[Address, bytes], bool],
        clock_ms: Callable[[], int],
        counters: Counter[str],
        limits: Limits | None = None,
        on_taken: Callable[[Purse, int], None] = lambda purse, added: None,
    ) -> None:
        self._book = PaymentBook(signer, limits)
        self._store = PurseStore(log, committer, self._wake)
        self._talk = PaymentTalk(self._book, self._store.durable, send, clock_ms, counters)
        self._log = log
        self._clock_ms = clock_ms
        self._counters = counters
        self._on_taken = on_taken
        self._asked: dict[ChannelId, list[Asked]] = {}
        self._arrived: dict[ChannelId, Voucher] = {}  # the newest of each channel, not looked at yet
        self._early: dict[tuple[Address, ChannelId], Voucher] = {}
        self._due = False
        self._stopped: ScappError | None = None

    # Life

    def load(self, stream: bytes) -> None:
        """Rebuild the purse of a stream whose first event is one's (`events.is_purse_event`), before the node talks to
        peers. Raises CorruptionError."""
        purse = self._store.load(stream)
        self._book.load(purse)
        self._talk.loaded(purse)

    async def stop(self) -> None:
        """Finish what is being stored, and answer whoever waits."""
        self._stopped = self._stopped or LocalError("the node stops")
        await self._store.stop()
        self._fail(self._stopped)
        self._talk.stop()

    # Callers

    def purse(self, channel: ChannelId) -> PurseInfo:
        """As far as it is durable. Raises LocalError for a channel without purse."""
        self._book.purse(channel)
        purse = self._store.durable.get(channel)
        if purse is None:
            raise LocalError(f"payment channel 0x{channel.hex()} is being opened")
        return self._talk.info(purse)

    def purses(self) -> list[PurseInfo]:
        """All that this node remembers."""
        return [self._talk.info(purse) for purse in self._store.durable.values()]

    async def open(self, terms: PurseTerms, token: bytes = b"") -> None:
        """A virtual payment channel runs; `token` of a restore that may have lost its purse. Again on the same terms:
        nothing happens. Raises LocalError."""
        purse = await self._keep(terms.channel, *self._book.open(terms, self._clock_ms(), token))
        if purse.recovering:
            self._talk.say([purse])
        early = self._early.pop((terms.payer, terms.channel), None)
        if early is not None:
            self._arrive(early)

    def ask(self, channel: ChannelId, amount: int, *, wait: bool = False) -> asyncio.Future[Payment]:
        """Pay; the future ends once that is durable here, with `wait` once the payee has said that it is durable there.

        It raises LocalError when it is not paid, PaymentRefused when the payee does not take it."""
        return self._ask(channel, amount, wait).future

    async def pay(self, channel: ChannelId, amount: int, *, wait_s: float = 0) -> Payment:
        """Pay, durably when it returns; with `wait_s` wait so long for the payee to have it too. Raises as `ask`."""
        asked = self._ask(channel, amount, wait_s > 0)
        if not asked.wait:
            return await asked.future
        timer = asyncio.get_running_loop().call_later(wait_s, self._talk.give_up, channel, asked)
        try:
            return await asked.future
        finally:
            timer.cancel()

    def _ask(self, channel: ChannelId, amount: int, wait: bool) -> Asked:
        asked = Asked(amount, wait, asyncio.get_running_loop().create_future())
        gathered = self._asked.get(channel)
        if gathered is None:
            gathered = self._asked[channel] = []
        gathered.append(asked)
        self._wake()
        return asked

    async def take(self, voucher: Voucher) -> int:
        """Take a voucher that came in another way than from the payer's node; what it adds, durable, 0 while the purse
        recovers. Raises LocalError for an unknown channel, VoucherRefused."""
        try:
            event, added = self._book.take(voucher, self._clock_ms())
        except VoucherRefused:
            self._counters["vouchers_refused"] += 1
            raise
        purse = await self._keep(voucher.channel, event)
        if event is not None:
            self._took(purse, added)
        self._talk.say_seen([purse])
        return 0 if purse.recovering else added

    async def close(self, channel: ChannelId, total: int | None = None) -> int:
        """Before a final state is signed: no payment follows. What it gives the payee, durable; the payee names that as
        `total`. Raises LocalError for a total that would lose what a voucher promises."""
        purse = await self._keep(channel, self._book.close(channel, total, self._clock_ms()))
        assert purse.final is not None
        return purse.final

    async def settle(self, channel: ChannelId) -> None:
        """The channel is gone for good, in the ledgers or on chain."""
        await self._keep(channel, self._book.settle(channel, self._clock_ms()))
        self._talk.settled(channel)

    def forget(self, channels: Iterable[ChannelId]) -> None:
        """These purses, as far as they are settled, are not remembered any more; what was paid stays in the log."""
        for channel in channels:
            self._book.forget(channel)
            self._store.forget(channel)
            if channel not in self._store.durable:
                self._talk.forget(channel)

    async def recover(self, channel: ChannelId) -> None:
        """End a restored purse's recovery without the other's answer, at the operator's risk."""
        uncredited = self._book.purse(channel).uncredited
        after = await self._keep(channel, self._book.recovered(channel, self._clock_ms(), by_operator=True))
        self._credit(after, uncredited)

    def redemption(self, channel: ChannelId) -> tuple[int, bytes] | None:
        """What the payee can take on chain, and the app data of the state that does it; None when nothing was paid.

        Raises LocalError."""
        purse = self.purse(channel).purse
        if purse.largest is None:
            return None
        return purse.paid, redemption_app_data(purse.largest, self._book.verifier(purse.payer))

    async def history(self, channel: ChannelId, from_version: int = 0, rows_max: int = 100) -> list[PaymentRow]:
        """Stored facts of a purse, also of one that is forgotten, oldest first. Raises LocalError, CorruptionError."""
        return await asyncio.to_thread(read_history, self._log, channel, from_version, rows_max)

    # Peers

    def receive(self, peer: Address, data: bytes) -> None:
        """A message whose tag begins "p:". Raises PeerError for what is refused at once; what is taken is stored soon,
        and a crash before that loses nothing: the peer says it again."""
        message = decode_payment_message(data)
        if isinstance(message, Vouchers):
            for channel, total, signature in message.items:
                self._receive_voucher(peer, Voucher(ChannelId(channel), amount_of(total), signature))
        elif isinstance(message, VouchersSeen):
            for channel, total in message.items:
                self._talk.seen(peer, channel, amount_of(total))
        elif isinstance(message, VoucherRefusal):
            self._talk.refused(peer, message.channel, amount_of(message.total), message.reason)
        elif isinstance(message, VoucherWanted):
            self._talk.answer(peer, message.channel, message.token)
        else:
            self._receive_held(peer, message)

    def link_up(self, peer: Address) -> None:
        """Say what the peer may lack, and ask for what this node may lack."""
        self._talk.say_to(peer)

    def tick(self, now_ms: int) -> None:
        """Say again what has not been answered; to be called every second or so."""
        self._talk.say_again(now_ms)

    def _receive_voucher(self, peer: Address, voucher: Voucher) -> None:
        purse = self._book.purses.get(voucher.channel)
        if purse is None:
            self._early[peer, voucher.channel] = voucher
            self._counters["vouchers_early"] += 1
            if len(self._early) > EARLY_MAX:
                del self._early[next(iter(self._early))]  # the payer says it again
        elif peer != purse.payer:
            self._counters["vouchers_foreign"] += 1
            logger.warning(
                "peer 0x%s: a voucher of channel 0x%s, where it does not pay", peer.hex(), voucher.channel.hex()
            )
        else:
            self._arrive(voucher)

    def _arrive(self, voucher: Voucher) -> None:
        """Only the newest of a channel matters; whoever sends a bad one after a good one takes that back."""
        known = self._arrived.get(voucher.channel)
        if known is None or voucher.amount >= known.amount:
            self._arrived[voucher.channel] = voucher
        self._wake()

    def _receive_held(self, peer: Address, message: VoucherHeld) -> None:
        purse = self._talk.shared(peer, message.channel)
        channel, now_ms = purse.channel, self._clock_ms()
        voucher = Voucher(channel, amount_of(message.total), message.signature)
        events: list[PurseEvent | None] = []
        taken = 0
        if peer == purse.payee:
            events.append(self._book.recalled(voucher, now_ms))
        elif voucher.amount:
            event, taken = self._book.take(voucher, now_ms)
            events.append(event)
        uncredited = self._book.purse(channel).uncredited
        if purse.recovering and message.token == self._book.purse(channel).token:
            events.append(self._book.recovered(channel, now_ms, by_operator=False))
        found = [event for event in events if event is not None]
        if not found:
            return
        after = self._book.purse(channel)

        def stored(error: ScappError | None) -> None:
            if error is not None:
                self._fail(error)
                return
            if taken:
                self._counters["vouchers_taken"] += 1
            self._credit(after, uncredited or taken)
            self._talk.say([after])

        self._store.stage(after, *found)
        self._store.commit(stored)

    # Deciding together

    def _wake(self) -> None:
        """Decide once the loop has handled what is ready now, unless enough is on its way to the disk already."""
        if not self._due and (self._asked or self._arrived) and self._store.on_their_way < APPENDS_MAX:
            self._due = True
            asyncio.get_running_loop().call_soon(self._decide)

    def _decide(self) -> None:
        self._due = False
        error = self._stopped or self._store.failure
        if error is not None:
            self._fail(error)
            return
        paid = self._decide_payments()
        taken = self._decide_vouchers(CHANNELS_PER_STEP - len(paid))
        if paid or taken:
            self._store.commit(lambda error: self._stored(paid, taken, error))
        self._wake()

    def _decide_payments(self) -> list[tuple[Purse, list[Asked]]]:
        decided = []
        for channel in list(self._asked)[:CHANNELS_PER_STEP]:
            all_asked = self._asked.pop(channel)
            if len(all_asked) > PAYMENTS_PER_VOUCHER_MAX:
                self._asked[channel] = all_asked[PAYMENTS_PER_VOUCHER_MAX:]
                all_asked = all_asked[:PAYMENTS_PER_VOUCHER_MAX]
            try:
                event, outcomes = self._book.pay(channel, [asked.amount for asked in all_asked], self._clock_ms())
            except LocalError as error:
                outcomes, event = [error] * len(all_asked), None
            purse = self._book.purses.get(channel)
            promised = []
            for asked, outcome in zip(all_asked, outcomes, strict=True):
                if isinstance(outcome, LocalError):
                    self._counters["payments_refused"] += 1
                    asked.fail(outcome)
                else:
                    assert purse is not None
                    asked.total, asked.voucher = outcome, purse.largest
                    promised.append(asked)
            if event is not None:
                assert purse is not None
                self._store.stage(purse, event)
                decided.append((purse, promised))
        return decided

    def _decide_vouchers(self, channels_max: int) -> list[tuple[Purse, int]]:
        decided = []
        stale = []
        for channel in list(self._arrived)[: max(0, channels_max)]:
            voucher = self._arrived.pop(channel)
            purse = self._book.purse(channel)
            try:
                event, added = self._book.take(voucher, self._clock_ms())
            except VoucherRefused as error:
                self._counters["vouchers_refused"] += 1
                logger.warning("payment channel 0x%s: voucher refused: %s", channel.hex(), error)
                self._talk.say_refused(purse.payer, voucher, str(error))
                continue
            if event is None:
                self._counters["vouchers_stale"] += 1
                durable = self._store.durable.get(channel)
                if durable is not None and durable.paid >= voucher.amount:  # else it is said once it is
                    stale.append(durable)
                continue
            after = self._book.purses[channel]
            self._store.stage(after, event)
            decided.append((after, added))
        self._talk.say_seen(stale)
        return decided

    def _stored(
        self, paid: list[tuple[Purse, list[Asked]]], taken: list[tuple[Purse, int]], error: ScappError | None
    ) -> None:
        if error is not None:
            for _, all_asked in paid:
                for asked in all_asked:
                    asked.fail(error)
            self._fail(error)
            return
        self._talk.say([purse for purse, _ in paid])
        self._talk.say_seen([purse for purse, _ in taken])
        for purse, all_asked in paid:
            self._counters["payments_made"] += len(all_asked)
            for asked in all_asked:
                if asked.wait:
                    self._talk.wait(purse.channel, asked)
                else:
                    asked.end(seen=False)
        for purse, added in taken:
            self._took(purse, added)

    def _took(self, purse: Purse, added: int) -> None:
        self._counters["vouchers_taken"] += 1
        self._credit(purse, added)

    def _credit(self, purse: Purse, added: int) -> None:
        """What a purse takes while it recovers is told afterwards: a forgotten final state may give the payee less."""
        if purse.recovering or not added:
            return
        try:
            self._on_taken(purse, added)
        except Exception:
            logger.exception("payment channel 0x%s: a listener failed", purse.channel.hex())

    async def _keep(self, channel: ChannelId, *decided: PurseEvent | None) -> Purse:
        """Store what a caller's call decided; with no event, wait until what it found is durable."""
        after = self._book.purse(channel)
        events = [event for event in decided if event is not None]
        if events:
            self._store.stage(after, *events)
            self._store.commit(lambda error: self._fail(error) if error is not None else None)
        await self._store.idle()  # whoever waits may be cancelled; what is decided is stored all the same
        if self._store.failure is not None:
            raise self._store.failure
        return after

    def _fail(self, error: ScappError) -> None:
        for channel in list(self._asked):
            for asked in self._asked.pop(channel):
                asked.fail(error)
        self._arrived.clear()
