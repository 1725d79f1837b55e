"""Good inputs, and readers, for the fuzzing of locked payments: messages into a running hub, stored facts, invoices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scapp.channels.errors import LocalError
from scapp.channels.payments.book import PurseTerms
from scapp.channels.payments.events import amount_bytes
from scapp.channels.payments.locked import messages as said
from scapp.channels.payments.locked import paying, recovering, speaking, taking
from scapp.channels.payments.locked.book import LockBook
from scapp.channels.payments.locked.events import decode_locks_event, encode_locks_event
from scapp.channels.payments.locked.invoice import Invoice, read_invoice, write_invoice
from scapp.channels.payments.locked.state import LocksState, wire_locks
from scapp.channels.payments.locked.terms import ChainClock, LockSettings
from scapp.channels.payments.locks import Lock, hash_of, sign_locked
from scapp.channels.payments.messages import NO_TOKEN
from scapp.channels.routing.fees import Schedule
from scapp.channels.signing import Signer
from scapp.channels.types import ZERO_ADDRESS, ZERO_HASH, ChannelId
from tests.support.locked import every_event

ALICE, HUB, BOB = (Signer(bytes((number,)) * 32) for number in (1, 2, 3))
FIRST, SECOND = ChannelId(b"\xc1" * 32), ChannelId(b"\xc2" * 32)
PREIMAGE, HEAD = b"\x11" * 32, 1_700_000_000
HASH = hash_of(PREIMAGE)


def _hub() -> LockBook:
    book = LockBook(HUB, LockSettings(margin_s=100, schedules=(Schedule(ZERO_ADDRESS, 1, 0),)))
    book.chain = ChainClock(head_s=HEAD, seen_s=HEAD)
    for channel, payer, payee in ((FIRST, ALICE, HUB), (SECOND, HUB, BOB)):
        book.open(
            PurseTerms(channel=channel, payer=payer.address, payee=payee.address, asset=ZERO_ADDRESS, start=100), 2_000
        )
    return book


def lock_messages() -> tuple[Callable[[bytes], object], list[bytes]]:
    """The first byte chooses who speaks. Each good message is taken by the hub; refusals change nothing that breaks."""
    book = _hub()
    peers = (ALICE.address, BOB.address)
    lock = Lock(30, HASH, HEAD + 400)
    voucher = sign_locked(FIRST, 5, [lock], ALICE)
    hops = ((BOB.address, amount_bytes(29), HEAD + 300),)
    amount, locks = amount_bytes(5), wire_locks((lock,))
    good: list[tuple[int, said.LockMessage]] = [
        (0, said.Ask(HASH, ZERO_ADDRESS, amount_bytes(30), HEAD + 400, hops, 1)),
        (0, said.Locked(FIRST, 1, amount, locks, voucher.signature, ((HASH, hops),))),
        (1, said.Secret(SECOND, PREIMAGE)),
        (1, said.Failed(SECOND, HASH, HEAD + 300, "no")),
        (1, said.LockedSeen(SECOND, 1)),
        (1, said.LockedRefusal(SECOND, 1, "no")),
        (1, said.Answer(HASH, BOB.address, "", amount_bytes(0), 1)),
        (0, said.LaneWanted(FIRST, NO_TOKEN)),
        (0, said.LaneHeld(FIRST, NO_TOKEN, 1, amount, locks, voucher.signature, (PREIMAGE,))),
    ]

    def decode(data: bytes) -> None:
        peer = peers[data[0] % 2 if data else 0]
        message = said.decode_lock_message(data[1:])
        match message:
            case said.Ask():
                taking.judge_ask(book, peer, message)
            case said.Locked():
                taking.take(book, peer, message)
            case said.Secret(channel, preimage):
                paying.secret_told(book, peer, channel, preimage)
            case said.Failed():
                paying.failure_told(book, peer, message)
            case said.LaneWanted(channel, token):
                recovering.answer(book, book.shared(peer, channel), token)
            case said.LaneHeld(channel):
                recovering.held(book, peer, message)
        book.sweep()
        speaking.touched(book, book.take())

    return decode, [bytes([who]) + said.encode_lock_message(message) for who, message in good]


def lock_events() -> tuple[Callable[[bytes], object], list[bytes]]:
    """Stored facts, and what follows of each behind good ones."""

    def decode(data: bytes) -> None:
        event: Any = decode_locks_event(data)
        state = LocksState()
        for each in every_event():
            state.next(each)
        state.next(event)

    return decode, [encode_locks_event(event) for event in every_event()]


def invoices() -> tuple[Callable[[bytes], object], list[bytes]]:
    """Text from whoever wants to be paid."""

    def decode(data: bytes) -> object:
        try:
            return read_invoice(data.decode())
        except UnicodeDecodeError:
            raise LocalError("no text") from None

    made = Invoice(
        network=ZERO_HASH, app=ZERO_ADDRESS, payee=BOB.address, asset=ZERO_ADDRESS, amount=30, hash=HASH,
        expires_s=HEAD, memo="tea",
    )  # fmt: skip
    return decode, [write_invoice(made, BOB).encode()]
