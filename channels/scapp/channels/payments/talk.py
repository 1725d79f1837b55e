"""What a node's payments say to peers and hear from them, over purses that are durable (docs/reference/payments.md)."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping

from scapp.channels.errors import PeerError
from scapp.channels.payments.book import PaymentBook
from scapp.channels.payments.events import amount_bytes
from scapp.channels.payments.messages import (
    ITEMS_MAX,
    NO_TOKEN,
    PaymentMessage,
    VoucherHeld,
    VoucherRefusal,
    Vouchers,
    VouchersSeen,
    VoucherWanted,
    encode_payment_message,
)
from scapp.channels.payments.purse import Purse, PurseInfo
from scapp.channels.payments.receipts import Asked, PaymentRefused
from scapp.channels.payments.resending import Resending
from scapp.channels.payments.vouchers import Voucher
from scapp.channels.types import Address, ChannelId

REASON_CHARACTERS_MAX = 200


class PaymentTalk:
    """Nothing here survives a restart: after one, the payer says again what the payee may lack."""

    def __init__(
        self,
        book: PaymentBook,
        durable: Mapping[ChannelId, Purse],
        send: Callable[[Address, bytes], bool],
        clock_ms: Callable[[], int],
        counters: Counter[str],
    ) -> None:
        self._book = book
        self._durable = durable
        self._send = send
        self._clock_ms = clock_ms
        self._counters = counters
        self._unseen: defaultdict[ChannelId, deque[Asked]] = defaultdict(deque)  # who waits for the payee
        self._seen: dict[ChannelId, int] = {}
        self._recovers: set[ChannelId] = set()  # whose other end was restored as well, while ours recovers
        self._resending = Resending()

    def loaded(self, purse: Purse) -> None:
        """A purse out of the log: what it has to say goes out with the next link."""
        if purse.phase != "settled" and (purse.recovering or (purse.payer == self._book.me and purse.paid)):
            self._resending.said(purse.channel, self._clock_ms())

    def shared(self, peer: Address, channel: bytes) -> Purse:
        """The durable purse of a channel with this peer. Raises PeerError."""
        purse = self._durable.get(ChannelId(channel))
        if purse is None or peer not in (purse.payer, purse.payee):
            self._counters["vouchers_foreign"] += 1
            raise PeerError(f"no payment channel 0x{channel.hex()} with this peer")
        return purse

    def info(self, purse: Purse) -> PurseInfo:
        me = self._book.me
        seen = purse.paid if me == purse.payee else self._seen.get(purse.channel, 0)
        waiting_for = ""
        if purse.recovering:
            other = purse.peer_of(me)
            waiting_for = f"0x{other.hex()} to tell its largest voucher; this node was restored from a backup"
            if purse.channel in self._recovers:
                waiting_for = (
                    f"nothing: 0x{other.hex()} was restored as well and cannot tell its largest voucher; only an "
                    f"override helps, at one of the two: scapp payments recover 0x{purse.channel.hex()} --override"
                )
        elif seen < purse.paid and purse.phase != "settled":
            waiting_for = f"the payee to take the voucher for {purse.paid}"
        return PurseInfo(purse=purse, seen=seen, waiting_for=waiting_for)

    # Saying

    def say(self, purses: Iterable[Purse], *, again: bool = False) -> None:
        """What the other may lack, or what we have to ask for, of each purse."""
        paid = []
        for purse in purses:
            me = self._book.me
            if purse.phase == "settled" or not (purse.recovering or (purse.payer == me and purse.largest is not None)):
                self._resending.done(purse.channel)
                continue
            if not again:
                self._resending.said(purse.channel, self._clock_ms())
            if purse.recovering:
                self._tell(purse.peer_of(me), VoucherWanted(purse.channel, purse.token))
            else:
                paid.append(purse)
        self._send_vouchers(paid)

    def say_again(self, now_ms: int) -> None:
        """What has not been answered for some time."""
        due = [self._durable[channel] for channel in self._resending.due(now_ms)]
        self._counters["vouchers_said_again"] += len(due)
        self.say(due, again=True)

    def say_to(self, peer: Address) -> None:
        """What the end of a new link may lack."""
        channels = [purse.channel for purse in self._book.with_peer(peer)]
        self.say([self._durable[channel] for channel in channels if channel in self._resending])

    def _send_vouchers(self, purses: Iterable[Purse]) -> None:
        items: defaultdict[Address, list[tuple[bytes, bytes, bytes]]] = defaultdict(list)
        for purse in purses:
            largest = purse.largest
            assert largest is not None
            items[purse.payee].append((purse.channel, amount_bytes(largest.amount), largest.signature))
        for payee, found in items.items():
            for first in range(0, len(found), ITEMS_MAX):
                self._tell(payee, Vouchers(tuple(found[first : first + ITEMS_MAX])))

    def say_seen(self, purses: Iterable[Purse]) -> None:
        """What we hold, to the payers."""
        items: defaultdict[Address, list[tuple[bytes, bytes]]] = defaultdict(list)
        for purse in purses:
            items[purse.payer].append((purse.channel, amount_bytes(purse.paid)))
        for payer, found in items.items():
            for first in range(0, len(found), ITEMS_MAX):
                self._tell(payer, VouchersSeen(tuple(found[first : first + ITEMS_MAX])))

    def say_refused(self, payer: Address, voucher: Voucher, reason: str) -> None:
        total = amount_bytes(voucher.amount)
        self._tell(payer, VoucherRefusal(voucher.channel, total, reason[:REASON_CHARACTERS_MAX]))

    def answer(self, peer: Address, channel: bytes, token: bytes) -> None:
        """To one who asks for our largest voucher."""
        purse = self.shared(peer, channel)
        largest = purse.largest
        if purse.recovering and token != NO_TOKEN:
            self._recovers.add(purse.channel)
        told = NO_TOKEN if purse.recovering else token  # one that recovers does not know either
        signature = largest.signature if largest is not None else b""
        self._tell(peer, VoucherHeld(purse.channel, told, amount_bytes(purse.paid), signature))

    def _tell(self, peer: Address, message: PaymentMessage) -> None:
        self._send(peer, encode_payment_message(message))

    # Waiting for the payee

    def wait(self, channel: ChannelId, asked: Asked) -> None:
        """It is durable; its receipt comes when the payee holds its voucher."""
        asked.stored = True
        self._unseen[channel].append(asked)

    def seen(self, peer: Address, channel: bytes, total: int) -> None:
        """The payee says what it holds. Raises PeerError."""
        purse = self.shared(peer, channel)
        if peer != purse.payee:
            raise PeerError("the payer of a channel tells its payee what it has seen")
        if total > self._book.purses[purse.channel].paid:
            # A voucher of ours that we do not know: one from before a restore that the recovery did not find.
            self._counters["vouchers_unknown"] += 1
            self._tell(peer, VoucherWanted(purse.channel, NO_TOKEN))
            return
        if total > self._seen.get(purse.channel, 0):
            self._seen[purse.channel] = total
        if total >= purse.paid and not purse.recovering:
            self._resending.done(purse.channel)
        waiting = self._unseen.get(purse.channel)
        while waiting and waiting[0].total <= total:
            waiting.popleft().end(seen=True)

    def refused(self, peer: Address, channel: bytes, total: int, reason: str) -> None:
        """The payee does not take a voucher. Raises PeerError."""
        purse = self.shared(peer, channel)
        if peer != purse.payee:
            raise PeerError("the payer of a channel refuses a voucher of its own")
        self._counters["vouchers_refused_by_payee"] += 1
        waiting = self._unseen.get(purse.channel)
        while waiting and waiting[0].total <= total:
            waiting.popleft().fail(PaymentRefused(f"the payee refused the voucher for {total}: {reason}"))

    def forget(self, channel: ChannelId) -> None:
        """Its purse is not remembered any more."""
        self._seen.pop(channel, None)
        self._recovers.discard(channel)

    def settled(self, channel: ChannelId) -> None:
        """Nothing is said of the channel any more."""
        self._resending.done(channel)
        for asked in self._unseen.pop(channel, ()):
            asked.end(seen=False)

    def give_up(self, channel: ChannelId, asked: Asked) -> None:
        """It has waited for the payee long enough: its receipt comes once it is durable."""
        asked.wait = False
        if asked.stored:
            asked.end(seen=False)
        waiting = self._unseen.get(channel)
        while waiting and waiting[0].future.done():
            waiting.popleft()

    def stop(self) -> None:
        """Receipts for all who wait."""
        for channel in list(self._unseen):
            for asked in self._unseen.pop(channel):
                asked.end(seen=False)
