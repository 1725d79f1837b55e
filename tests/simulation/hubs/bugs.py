"""Bugs planted in ledgers, virtual channels and payments: lives of nodes with ledgers must find each (`../bugs.py`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scapp.channels.books.engine import Books
from scapp.channels.books.events import BooksRestored
from scapp.channels.books.messages import encode_message
from scapp.channels.books.purses import Purses
from scapp.channels.books.runner import BooksRunner
from scapp.channels.books.state import BooksState
from scapp.channels.books.step import Step
from scapp.channels.errors import ScappError
from scapp.channels.ledger import settling, updating
from scapp.channels.payments.book import PaymentBook
from scapp.channels.payments.events import PurseClosed, PurseEvent, amount_bytes
from scapp.channels.payments.hops import Conditional
from scapp.channels.payments.locked import claims, speaking, taking
from scapp.channels.payments.locked.runner import LockRunner
from scapp.channels.payments.locks import LockedVoucher
from scapp.channels.payments.store import PurseStore
from scapp.channels.signing import Verifier
from scapp.channels.types import ChannelId
from scapp.channels.virtual.record import VirtualRecord

Plant = Callable[[pytest.MonkeyPatch], None]


def books_say_before_they_store(patch: pytest.MonkeyPatch) -> None:
    """What a batch has to say leaves before its facts are on the disk."""
    original = BooksRunner._store

    def store(self: BooksRunner, step: Step, then: Callable[[Exception | None], None]) -> None:
        for send in step.sends:
            self._shared.send(send.peer, encode_message(send.message))
        original(self, step, then)

    patch.setattr(BooksRunner, "_store", store)


def vouchers_leave_before_they_are_stored(patch: pytest.MonkeyPatch) -> None:
    """Whoever waits for an append hears at once that it is done."""
    original = PurseStore.commit

    def commit(self: PurseStore, then: Callable[[ScappError | None], None]) -> None:
        for purse, _ in self._touched:
            self.durable[purse.channel] = purse
        then(None)
        original(self, lambda error: None)

    patch.setattr(PurseStore, "commit", commit)


def one_guarantee_is_enough(patch: pytest.MonkeyPatch) -> None:
    """The postfund state is signed as soon as one ledger holds the guarantee."""
    patch.setattr(VirtualRecord, "guaranteed", property(lambda self: any(self.held)))


def any_change_is_countersigned(patch: pytest.MonkeyPatch) -> None:
    """A follower signs whatever its leader proposes."""
    patch.setattr(updating, "_unwanted", lambda *_: "")


def any_end_is_signed(patch: pytest.MonkeyPatch) -> None:
    """A payee agrees to an end that gives it less than its vouchers."""
    original = PaymentBook.close

    def close(self: PaymentBook, channel: ChannelId, total: int | None, now_ms: int) -> PurseEvent | None:
        purse = self.purse(channel)
        if self.me == purse.payee and purse.phase == "open" and total is not None:
            return self._decided(channel, PurseClosed(amount_bytes(total), now_ms))
        return original(self, channel, total, now_ms)

    patch.setattr(PaymentBook, "close", close)


def stale_ledgers_stand(patch: pytest.MonkeyPatch) -> None:
    """Nobody answers a challenge of a ledger."""
    patch.setattr(settling, "_answer", lambda *_: ())


def vouchers_are_not_redeemed(patch: pytest.MonkeyPatch) -> None:
    """A payee whose channel ends on chain leaves its vouchers where they are."""
    patch.setattr(Purses, "_ends_on_chain", lambda self, record: False)


def books_come_back_as_if_nothing_happened(patch: pytest.MonkeyPatch) -> None:
    """The books of a backup go on signing where they were."""

    def restore(self: BooksState, event: BooksRestored) -> None:
        self.restored_ms = max(self.restored_ms, event.at_ms)

    patch.setattr(BooksState, "_restore", restore)


def nothing_is_said_again(patch: pytest.MonkeyPatch) -> None:
    """What a peer has not answered is said once, and when a link comes up."""
    patch.setattr(Books, "_say_again", lambda self, channel: None)


def lost_channels_are_not_asked_for(patch: pytest.MonkeyPatch) -> None:
    """A restored node waits until somebody speaks of a channel that its ledgers guarantee and it does not know."""
    patch.setattr(BooksState, "lost", lambda self, ledger: [])


def a_payment_is_counted_twice(patch: pytest.MonkeyPatch) -> None:
    """Of two payments that share a voucher the second is told the total of the first."""
    original = PaymentBook.pay

    def pay(self: PaymentBook, channel: ChannelId, amounts: Any, now_ms: int) -> Any:
        event, outcomes = original(self, channel, amounts, now_ms)
        return event, [each + 1 if isinstance(each, int) else each for each in outcomes]

    patch.setattr(PaymentBook, "pay", pay)


def locks_leave_before_they_are_stored(patch: pytest.MonkeyPatch) -> None:
    """What was decided of a lane is said at once."""
    original = LockRunner._decide

    def decide(self: LockRunner, item: Any) -> ScappError | None:
        outcome = original(self, item)
        for lane in self.book.state.locked():
            for message in speaking.pending(self.book, lane, 0):
                self._tell(lane.peer_of(self.book.me), message)
        return outcome

    patch.setattr(LockRunner, "_decide", decide)


def preimages_are_not_revealed(patch: pytest.MonkeyPatch) -> None:
    """Whoever knows a preimage waits for its payer, whatever the time."""
    patch.setattr(claims, "reveals", lambda book, lane: ())


def locks_are_given_back(patch: pytest.MonkeyPatch) -> None:
    """A payee takes a voucher without locks that have not ended."""
    original = taking.accept

    def accept(known: Conditional, voucher: LockedVoucher, verifier: Verifier, _: frozenset[bytes]) -> Conditional:
        return original(known, voucher, verifier, frozenset(lock.hash for lock in known.locks))

    patch.setattr(taking, "accept", accept)


HUB_BUGS: dict[str, tuple[Plant, str]] = {
    "rule 1: books say before they store": (books_say_before_they_store, "^1: .* on no disk"),
    "rule 1: vouchers leave unstored": (vouchers_leave_before_they_are_stored, "^1: .* on no disk"),
    "rule 1: receipts for more than was paid": (a_payment_is_counted_twice, "^1: .* was paid"),
    "rule 1: locks leave unstored": (locks_leave_before_they_are_stored, "^1: .* on no disk"),
    "rule 7: preimages are not revealed": (preimages_are_not_revealed, "^7: .* and was not paid"),
    "rule 7: locks are given back": (locks_are_given_back, "^7: .* for paid, and holds vouchers for"),
    "rule 7: any change is countersigned": (any_change_is_countersigned, "^7: .* is due"),
    "rule 7: any end is signed": (any_end_is_signed, "^7: .* is due"),
    "rule 7: stale ledgers stand": (stale_ledgers_stand, "^7: .* is due"),
    "rule 7: vouchers are not redeemed": (vouchers_are_not_redeemed, "^7: .* is due|^1: .* was paid"),
    "rule 8: one guarantee is enough": (one_guarantee_is_enough, "^8: .* without its guarantees"),
    "rule 10: books come back as if nothing happened": (books_come_back_as_if_nothing_happened, "^2: "),
    "nothing is said again": (nothing_is_said_again, "do not end"),
    "lost channels are not asked for": (lost_channels_are_not_asked_for, "do not end"),
}
