"""Payer and payee of one channel as a state machine: payments, vouchers that are late, doubled, foreign or forged,
crashes before and after the disk, restores, and an end; scrambled rules beside valid ones."""

from __future__ import annotations

import contextlib

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scapp.channels.errors import LocalError, PeerError
from scapp.channels.payments.book import PaymentBook
from scapp.channels.payments.events import (
    PurseEvent,
    PurseRestored,
    VoucherPaid,
    amount_of,
    decode_purse_event,
    encode_purse_event,
)
from scapp.channels.payments.purse import Purse
from scapp.channels.payments.vouchers import Voucher, is_signed, sign_voucher
from scapp.channels.signing import Signer, Verifier
from scapp.channels.types import ChannelId
from tests.support.payments import CHANNEL, MALLORY, NOW_MS, PAYEE, PAYER, terms

START = 100
OTHER = ChannelId(b"\xd5" * 32)
AMOUNTS = st.integers(-2, START + 5)


class Party:
    """One book and its stream. A decision is stored with `store`, or lost with a crash."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer
        self.stream: list[bytes] = []
        self.book = PaymentBook(signer)
        self.store(*self.book.open(terms(CHANNEL, START), NOW_MS))

    @property
    def purse(self) -> Purse:
        return self.book.purse(CHANNEL)

    def store(self, *events: PurseEvent | None) -> None:
        self.stream += [encode_purse_event(event) for event in events if event is not None]

    def restart(self) -> None:
        """From what is stored."""
        self.book = PaymentBook(self.signer)
        for data in self.stream:
            self.book.fold(CHANNEL, decode_purse_event(data))


class VoucherMachine(RuleBasedStateMachine):
    """`wire` holds every voucher that has left the payer; the payee may hear any of them, any number of times."""

    def __init__(self) -> None:
        super().__init__()
        self.payer, self.payee = Party(PAYER), Party(PAYEE)
        self.wire: list[Voucher] = []
        self.promised = 0  # the largest total that has left the payer, ever
        self.held = 0  # the largest total that the payee has stored since it last lost its disk
        self.backups: dict[str, tuple[str, int]] = {}
        self.ended = False
        self.restores = 0

    # Valid rules

    @rule(amounts=st.lists(AMOUNTS, min_size=1, max_size=4), crash=st.sampled_from(["", "before", "after"]))
    def pay(self, amounts: list[int], crash: str) -> None:
        before = self.payer.purse
        try:
            event, outcomes = self.payer.book.pay(CHANNEL, amounts, NOW_MS)
        except LocalError:
            assert before.phase != "open" or before.recovering
            return
        good = [each for each in outcomes if isinstance(each, int)]
        assert (event is None) == (not good)
        assert good == sorted(good)
        if event is None:
            return
        assert isinstance(event, VoucherPaid)
        assert amount_of(event.total) == good[-1] == self.payer.purse.paid <= START
        if crash == "before":
            self.payer.restart()  # decided, never stored, never said
            assert self.payer.purse == before
            return
        self.payer.store(event)
        if crash == "after":
            self.payer.restart()
        self._say()

    @rule()
    def say_again(self) -> None:
        if not self.payer.purse.recovering:
            self._say()

    def _say(self) -> None:
        largest = self.payer.purse.largest
        if largest is not None:
            self.wire.append(largest)
            self.promised = max(self.promised, largest.amount)

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), crash=st.booleans())
    def hear(self, data: st.DataObject, crash: bool) -> None:
        """Any voucher that was ever said: late, doubled, out of order."""
        self._take(data.draw(st.sampled_from(self.wire)), crash=crash)

    def _take(self, voucher: Voucher, *, crash: bool) -> int:
        before = self.payee.purse
        event, added = self.payee.book.take(voucher, NOW_MS)
        assert added == max(0, voucher.amount - before.paid)
        if crash:
            self.payee.restart()
            assert self.payee.purse == before
            return 0
        self.payee.store(event)
        self.held = max(self.held, self.payee.purse.paid)
        return added

    @rule(who=st.sampled_from(["payer", "payee"]))
    def restart(self, who: str) -> None:
        party = getattr(self, who)
        before = party.purse
        party.restart()
        assert party.purse == before

    @rule(who=st.sampled_from(["payer", "payee"]))
    def back_up(self, who: str) -> None:
        self.backups[who] = who, len(getattr(self, who).stream)

    @precondition(lambda self: self.backups and not self.ended)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """One of the two goes on from its backup, and recovers."""
        who, length = data.draw(st.sampled_from(sorted(self.backups.values())))
        party: Party = getattr(self, who)
        del party.stream[length:]
        self.restores += 1
        party.store(PurseRestored(self.restores.to_bytes(16, "big"), NOW_MS, NOW_MS - 1))
        self.backups.pop(who)
        party.restart()
        if who == "payee":
            self.held = party.purse.paid
        assert party.purse.recovering

    @rule()
    def recover(self) -> None:
        """The other tells the largest voucher it holds, unless it recovers too."""
        for party, other in ((self.payer, self.payee), (self.payee, self.payer)):
            if not party.purse.recovering or other.purse.recovering:
                continue
            largest = other.purse.largest
            if largest is not None and party is self.payer:
                party.store(party.book.recalled(largest, NOW_MS))
            elif largest is not None:
                with contextlib.suppress(PeerError, LocalError):  # above the end that it has signed
                    self._take(largest, crash=False)
            party.store(party.book.recovered(CHANNEL, NOW_MS, by_operator=False))

    @precondition(lambda self: not self.payer.purse.recovering and not self.payee.purse.recovering)
    @rule()
    def end(self) -> None:
        """The payer closes with its total, and the payee agrees if that is at least what it holds."""
        event = self.payer.book.close(CHANNEL, None, NOW_MS)
        self.payer.store(event)
        final = self.payer.purse.final
        assert final is not None
        if self.payee.purse.phase == "open":
            assert final >= self.payee.purse.paid, "the payee holds more than the payer knows"
        self.payee.store(self.payee.book.close(CHANNEL, final, NOW_MS))
        assert self.payee.purse.final == final
        self.ended = True

    # Scrambled rules

    @rule(amount=st.integers(0, 2 * START), signer=st.sampled_from([PAYEE, MALLORY]))
    def forged(self, amount: int, signer: Signer) -> None:
        """A voucher under a key that does not pay here adds nothing."""
        before = self.payee.purse
        with contextlib.suppress(PeerError, LocalError):
            event, added = self.payee.book.take(sign_voucher(CHANNEL, amount, signer), NOW_MS)
            assert (event, added) == (None, 0)
        assert self.payee.purse == before

    @rule(amount=st.integers(START + 1, 2**256 - 1))
    def oversize(self, amount: int) -> None:
        """Nor does one of the payer's own for more than there is."""
        before = self.payee.purse
        with contextlib.suppress(PeerError, LocalError):
            self.payee.book.take(sign_voucher(CHANNEL, amount, PAYER), NOW_MS)
            raise AssertionError("taken")
        assert self.payee.purse == before

    @rule(amount=st.integers(1, START))
    def foreign(self, amount: int) -> None:
        """One of another channel is nobody's here, and one that comes back to the payer pays nobody."""
        with contextlib.suppress(PeerError, LocalError):
            self.payee.book.take(sign_voucher(OTHER, amount, PAYER), NOW_MS)
            raise AssertionError("taken")
        before = self.payer.purse
        with contextlib.suppress(PeerError, LocalError):
            self.payer.book.take(sign_voucher(CHANNEL, amount, PAYER), NOW_MS)
            raise AssertionError("taken")
        assert self.payer.purse == before

    @rule(amount=st.integers(1, START))
    def false_recall(self, amount: int) -> None:
        """A voucher given back that the payer has not signed."""
        before = self.payer.purse
        with contextlib.suppress(PeerError, LocalError):
            assert self.payer.book.recalled(sign_voucher(CHANNEL, amount, MALLORY), NOW_MS) is None
        assert self.payer.purse == before

    @rule(total=AMOUNTS)
    def wrong_end(self, total: int) -> None:
        """An end with less than the payee holds is refused by it, one with another total than promised by the payer."""
        for party, fits in ((self.payee, self.payee.purse.paid <= total <= START), (self.payer, False)):
            if fits or party.purse.phase != "open" or (party is self.payer and total == party.purse.paid):
                continue
            before = party.purse
            with contextlib.suppress(LocalError):
                party.book.close(CHANNEL, total, NOW_MS)
                raise AssertionError(f"{total} to the payee was agreed to")
            assert party.purse == before

    # What holds

    @invariant()
    def nobody_has_more_than_was_promised(self) -> None:
        assert self.payee.purse.paid <= self.promised <= START
        assert self.payee.purse.paid >= self.held
        for party in (self.payer, self.payee):
            largest = party.purse.largest
            assert largest is None or is_signed(largest, Verifier(PAYER.address))

    @invariant()
    def what_has_ended_stays_so(self) -> None:
        if self.ended:
            assert self.payer.purse.final == self.payee.purse.final
            assert self.payee.purse.paid <= (self.payee.purse.final or 0)

    @invariant()
    def a_node_that_knows_all_promises_no_less_than_was_said(self) -> None:
        if not self.restores:
            assert self.payer.purse.paid >= self.promised


TestVouchers = VoucherMachine.TestCase
