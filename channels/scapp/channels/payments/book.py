"""All purses of a node, and what is decided about them. Pure: `runner.py` stores what is decided, then sends.

A decider folds the events it returns at once, so that the next one builds on them while they are being stored; the
shell therefore stores them in the order in which they were decided, and lets nothing of them out before they are
durable. Deciders raise LocalError for what a caller asked and VoucherRefused for what a peer sent; then nothing has
changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from scapp.channels.errors import LocalError
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
from scapp.channels.payments.limits import NO_LIMITS, Limits
from scapp.channels.payments.purse import Purse, create, evolve
from scapp.channels.payments.vouchers import Voucher, VoucherRefused, VoucherSigner, is_signed, sign_voucher
from scapp.channels.signing import Verifier
from scapp.channels.types import U256_MAX, Address, ChannelId, money


class PurseTerms(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual payment channel that runs: who pays whom, in what, and how much at most."""

    channel: ChannelId
    payer: Address
    payee: Address
    asset: Address
    start: int


class PaymentBook:
    """`me` is the node's address, `signer` signs as that. `purses` are those that it remembers, by channel."""

    def __init__(self, signer: VoucherSigner, limits: Limits | None = None) -> None:
        self.me = signer.address
        self.purses: dict[ChannelId, Purse] = {}
        self._signer = signer
        self._limits: Limits = limits or {}
        self._by_peer: defaultdict[Address, dict[ChannelId, None]] = defaultdict(dict)  # those that are not settled
        self._unsettled: defaultdict[tuple[Address, Address, Address], int] = defaultdict(int)  # payer, payee, asset
        self._verifiers: dict[Address, Verifier] = {}

    # Facts

    def load(self, purse: Purse) -> None:
        """Add a purse as its stored events give it."""
        self._put(purse)

    def fold(self, channel: ChannelId, event: PurseEvent) -> None:
        before = self.purses.get(channel)
        self._put(create(event) if before is None else evolve(before, event))

    def _put(self, purse: Purse) -> None:
        before = self.purses.get(purse.channel)
        ours = purse.payer, purse.payee, purse.asset
        if before is not None and before.phase != "settled":
            self._unsettled[ours] -= before.paid
        self.purses[purse.channel] = purse
        held = self._by_peer[purse.peer_of(self.me)]
        if purse.phase == "settled":
            held.pop(purse.channel, None)
        else:
            self._unsettled[ours] += purse.paid
            held[purse.channel] = None

    def forget(self, channel: ChannelId) -> None:
        """A settled purse is not remembered any more; any other is."""
        purse = self.purses.get(channel)
        if purse is None or purse.phase != "settled":
            return
        del self.purses[channel]
        ours, peer = (purse.payer, purse.payee, purse.asset), purse.peer_of(self.me)
        if not self._unsettled.get(ours):
            self._unsettled.pop(ours, None)
        if not self._by_peer.get(peer):
            self._by_peer.pop(peer, None)
            self._verifiers.pop(purse.payer, None)

    # Reading

    def purse(self, channel: bytes) -> Purse:
        """Raises LocalError for a channel without purse."""
        purse = self.purses.get(ChannelId(channel))
        if purse is None:
            raise LocalError(f"no payment channel 0x{channel.hex()} at this node")
        return purse

    def with_peer(self, peer: Address) -> Iterable[Purse]:
        """Unsettled purses shared with a peer."""
        return [self.purses[channel] for channel in self._by_peer.get(peer, ())]

    def verifier(self, payer: Address) -> Verifier:
        """Finding a payer's key costs as much as a signature, so it is kept."""
        verifier = self._verifiers.get(payer)
        if verifier is None:
            verifier = self._verifiers[payer] = Verifier(payer)
        return verifier

    # Deciding

    def open(self, terms: PurseTerms, now_ms: int, token: bytes = b"") -> tuple[PurseEvent, ...]:
        """Nothing when it is open on these terms already. `token`: of a restore that may have lost this purse, with
        what it had promised or held; it is opened to recover then (safety rule 10)."""
        known = self.purses.get(terms.channel)
        if known is not None:
            same = (known.payer, known.payee, known.asset, known.start)
            if same != (terms.payer, terms.payee, terms.asset, terms.start):
                raise LocalError(f"payment channel 0x{terms.channel.hex()} is open on other terms")
            return ()
        if self.me not in (terms.payer, terms.payee) or terms.payer == terms.payee:
            raise LocalError(f"0x{self.me.hex()} is not one of two different parties, the payer or the payee")
        if not 0 < terms.start <= U256_MAX:
            raise LocalError(f"a payment channel over {terms.start}; allowed are 1 to 2^256-1")
        start = amount_bytes(terms.start)
        opened = PurseOpened(terms.channel, terms.payer, terms.payee, terms.asset, start, now_ms)
        events = (opened, PurseRestored(token, now_ms, 0)) if token else (opened,)
        return tuple(self._decided(terms.channel, event) for event in events)

    def pay(
        self, channel: ChannelId, amounts: Sequence[int], now_ms: int
    ) -> tuple[PurseEvent | None, list[int | LocalError]]:
        """Payments of one channel, one after another, under one voucher: the largest total covers them all.

        For each its total, or why it is refused; the others go on. Raises LocalError when nobody can pay here."""
        purse = self._payable(channel)
        outcomes: list[int | LocalError] = []
        paid: list[int] = []
        total = purse.paid
        unsettled = self._unsettled[purse.payer, purse.payee, purse.asset]
        limits = self._limits.get(purse.asset, NO_LIMITS)
        bound = purse.start if limits.payee_max is None else min(purse.start, total + limits.payee_max - unsettled)
        most = bound if limits.payment_max is None else min(bound, limits.payment_max)
        for amount in amounts:
            if 0 < amount <= most and total + amount <= bound:
                total += amount
                paid.append(amount)
                outcomes.append(total)
            else:
                outcomes.append(self._not_paid(purse, amount, total, unsettled + total - purse.paid))
        if not paid:
            return None, outcomes
        voucher = sign_voucher(channel, total, self._signer)
        blob = b"".join([amount_bytes(amount) for amount in paid])
        return self._decided(channel, VoucherPaid(amount_bytes(total), voucher.signature, blob, now_ms)), outcomes

    def _payable(self, channel: ChannelId) -> Purse:
        purse = self.purse(channel)
        if purse.payer != self.me:
            raise LocalError("only the payer of a channel can pay in it")
        if purse.phase != "open":
            raise LocalError(f"payment channel 0x{channel.hex()} is {purse.phase}: nothing is paid in it any more")
        if purse.token:
            raise LocalError(
                "this node was restored from a backup; it pays once the payee has told the largest voucher it holds"
            )
        return purse

    def _not_paid(self, purse: Purse, amount: int, total: int, unsettled: int) -> LocalError:
        limits = self._limits.get(purse.asset, NO_LIMITS)
        if amount <= 0:
            return LocalError(f"a payment of {amount}; it must be at least 1")
        remaining = purse.start - total

        def said(units: int) -> str:
            return money(units, purse.asset, named=True)

        if amount > remaining:
            left = f"{said(remaining)} of {said(purse.start)} remain"
            return LocalError(f"unable to pay amount: insufficient funds: {left}")
        if limits.payment_max is not None and amount > limits.payment_max:
            return LocalError(f"a payment of {said(amount)} is above this node's limit of {said(limits.payment_max)}")
        return LocalError(
            f"a payment of {said(amount)} to a payee who is promised {said(unsettled)} already is above this node's "
            f"limit of {said(limits.payee_max or 0)} for one payee"
        )

    def take(self, voucher: Voucher, now_ms: int) -> tuple[PurseEvent | None, int]:
        """The payee takes a voucher, whoever brings it: what it adds, 0 and no event for one that is known or older.

        Raises LocalError for an unknown channel, VoucherRefused."""
        purse = self.purse(voucher.channel)
        if self.me != purse.payee:
            raise VoucherRefused("vouchers of this channel are its payee's")
        amount = voucher.amount
        if amount <= purse.paid:
            return None, 0
        if amount > purse.start:
            raise VoucherRefused(f"channel has insufficient funds: {amount} of {purse.start}")
        if purse.phase == "settled" or (purse.final is not None and amount > purse.final):
            raise VoucherRefused(f"the channel is {purse.phase}, with {purse.final} to the payee")
        added = amount - purse.paid
        payer_max = self._limits.get(purse.asset, NO_LIMITS).payer_max
        unsettled = self._unsettled[purse.payer, purse.payee, purse.asset]
        if payer_max is not None and unsettled + added > payer_max:
            raise VoucherRefused(
                f"{unsettled + added} unsettled by one payer is above the payee's limit of {payer_max}"
            )
        if not is_signed(voucher, self.verifier(purse.payer)):
            raise VoucherRefused(f"wrong signer: only 0x{purse.payer.hex()} pays in this channel")
        event = VoucherTaken(amount_bytes(amount), voucher.signature, amount_bytes(added), now_ms)
        return self._decided(voucher.channel, event), added

    def recalled(self, voucher: Voucher, now_ms: int) -> PurseEvent | None:
        """The payee holds a voucher of ours that we do not know; None for one that is not above ours.

        Raises VoucherRefused unless our signature is under it."""
        purse = self.purse(voucher.channel)
        if self.me != purse.payer or voucher.amount <= purse.paid or purse.phase == "settled":
            return None
        if voucher.amount > purse.start or not is_signed(voucher, self.verifier(self.me)):
            raise VoucherRefused(f"a voucher for {voucher.amount} given back to its payer, who did not sign it")
        event = VoucherRecalled(amount_bytes(voucher.amount), voucher.signature, now_ms)
        return self._decided(voucher.channel, event)

    def recovered(self, channel: ChannelId, now_ms: int, *, by_operator: bool) -> PurseEvent:
        """A restored purse goes on. Raises LocalError when it does not recover."""
        if not self.purse(channel).token:
            raise LocalError(f"payment channel 0x{channel.hex()} does not recover from a restore")
        return self._decided(channel, PurseRecovered(by_operator, now_ms))

    def close(self, channel: ChannelId, total: int | None, now_ms: int) -> PurseEvent | None:
        """Before a final state that gives the payee `total` (None: what is paid) is signed. None when it is closed so
        already. Raises LocalError for a final state that would cost this node what it was promised or has not.

        At the payee None is the end on chain: it redeems what it holds and takes nothing more, whatever a final state
        has offered before; and a restored one, whom nobody may tell more any more, does so as well."""
        purse = self.purse(channel)
        final = purse.paid if total is None else total
        redeems = total is None and self.me == purse.payee
        if redeems and purse.phase == "closed" and purse.final != final:
            return self._decided(channel, PurseClosed(amount_bytes(final), now_ms))
        if purse.phase != "open":
            # The payee may sign a final state that gives it more than it redeems; it takes no more vouchers for it.
            more = self.me == purse.payee and purse.phase == "closed" and final > (purse.final or 0)
            if total is None or purse.final == final or more:
                return None
            raise LocalError(f"payment channel 0x{channel.hex()} is {purse.phase} with {purse.final} to the payee")
        if purse.token and not redeems:
            raise LocalError("this node was restored from a backup; it first asks the other for its largest voucher")
        if self.me == purse.payee and not purse.paid <= final <= purse.start:
            raise LocalError(f"a final state with {final} to the payee, who holds a voucher for {purse.paid}")
        if self.me == purse.payer and final != purse.paid:
            raise LocalError(f"a final state with {final} to the payee, who was promised {purse.paid}")
        return self._decided(channel, PurseClosed(amount_bytes(final), now_ms))

    def settle(self, channel: ChannelId, now_ms: int) -> PurseEvent | None:
        """The channel is gone for good. None when that is known."""
        if self.purse(channel).phase == "settled":
            return None
        return self._decided(channel, PurseSettled(now_ms))

    def _decided(self, channel: ChannelId, event: PurseEvent) -> PurseEvent:
        self.fold(channel, event)
        return event
