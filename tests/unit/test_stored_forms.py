"""What nodes keep on disk for ever: every stored type is read back from, and written as, the bytes in tests/golden."""

from __future__ import annotations

import json
from typing import get_args

import msgspec
import pytest

from scapp.channels.adjudicator_status import Status
from scapp.channels.books.events import BooksEvent, BooksRestored, Forgotten
from scapp.channels.books.events import decode_event as decode_books_event
from scapp.channels.books.events import encode_event as encode_books_event
from scapp.channels.chain import events as chain_events
from scapp.channels.channel.effects import STORED, SendDecisions, SendRejected, StoredSend, outbox_row, parse_outbox_row
from scapp.channels.channel.events import (
    BackingSeen,
    ChainSeen,
    ChannelCreated,
    ChannelRejected,
    Event,
    ExitStarted,
    OnChain,
    Recovered,
    Refused,
    Restored,
    RestoreSeen,
    Retired,
    SignatureSeen,
    Signed,
    StateAdopted,
    StateCompleted,
    StateRecalled,
    StateSigned,
    StateSupported,
    SubmissionsDropped,
    SubmissionsRefused,
    Submitted,
    SuccessorCreated,
    TopUpApproved,
    VirtualCreated,
    decode_event,
    encode_event,
)
from scapp.channels.errors import CorruptionError
from scapp.channels.node_events import NodeFact, NodeRestored, decode_node_event, encode_node_event
from scapp.channels.onchain import Purpose
from scapp.channels.payments.events import (
    PurseEvent,
    PurseSettled,
    decode_purse_event,
    encode_purse_event,
    ends_purse,
    is_purse_event,
)
from scapp.channels.payments.locked.events import LocksEvent, decode_locks_event, encode_locks_event
from scapp.channels.types import ChannelId
from tests.support.locked import every_event as every_locks_event
from tests.support.payments import every_event
from tests.support.tree import ROOT

CHANNEL = b"\xc0" * 32
GOLDEN: dict[str, str] = json.loads((ROOT / "tests" / "golden" / "stored-forms.json").read_text())

SIGNED = Signed(
    turn=7,
    is_final=False,
    entries=(b"first", b"second"),
    sequence=12,
    log_root=b"\x01" * 32,
    state_root=b"\x02" * 32,
    amounts=b"\x03" * 64,
    time_ms=1_700_000_000_000,
    signatures=(b"\x04" * 65, b""),
    last=(5, 6),
)
REFUSED = (Refused(1, 6, "rejected", "not your turn"), Refused(0, 9, "limit", "too long"))
HELD = (b"\x0e" * 32, bytes(32))
EVENTS: dict[str, Event] = {
    "created.1": ChannelCreated(
        my_index=1,
        participants=(b"\x0a" * 20, b"\x0b" * 20),
        nonce=2**63,
        app_definition=bytes(20),
        challenge_duration=86_400,
        deployment=b"deployment",
        slots=((bytes(20), b"\x0c" * 32, b"\x0d" * 32),),
        prefund=SIGNED,
    ),
    "created.2": VirtualCreated(
        my_index=1,
        participants=(b"\x0a" * 20, b"\x0b" * 20),
        nonce=2**63,
        app_definition=b"\x0f" * 20,
        challenge_duration=86_400,
        deployment=b"deployment",
        slots=((bytes(20), b"\x0c" * 32, b"\x0d" * 32),),
        prefund=SIGNED,
        hubs=(b"\x10" * 20,),
        fees=(b"\x11" * 32,),
    ),
    "created.3": SuccessorCreated(
        my_index=1,
        participants=(b"\x0a" * 20, b"\x0b" * 20),
        nonce=2**63,
        app_definition=b"\x0f" * 20,
        challenge_duration=86_400,
        deployment=b"deployment",
        slots=((bytes(20), b"\x0c" * 32, b"\x0d" * 32),),
        prefund=SIGNED,
        renews=b"\x12" * 32,
        base_turn=7,
    ),
    "rejected.1": ChannelRejected(1, "no such app here"),
    "signed.1": StateSigned(SIGNED),
    "seen.1": SignatureSeen(7, 1, b"\x05" * 65),
    "supported.1": StateSupported(7, (b"\x04" * 65, b"\x05" * 65)),
    "completed.1": StateCompleted(SIGNED),
    "adopted.1": StateAdopted(SIGNED),
    "submitted.1": Submitted(6, 1, (b"payload", b"")),
    "refused.1": SubmissionsRefused(REFUSED),
    "dropped.1": SubmissionsDropped(REFUSED),
    "chain.1": ChainSeen(
        latest=OnChain(2**40, b"\x06" * 32, HELD, Status(7, 2**40, b"\x07" * 20), SIGNED),
        confirmed=OnChain(2**40 - 3, b"\x08" * 32, (bytes(32), bytes(32)), Status(0, 0, bytes(20)), None),
        time_s=2**40 - 60,
        ended=True,
        held=HELD,
    ),
    "backing.1": BackingSeen("complete", "", ((1, (b"\x04" * 65, b"", b"\x05" * 65)),)),
    "exit.1": ExitStarted("no answer from the others for 300 seconds"),
    "top-up.1": TopUpApproved(bytes(20), b"\x0f" * 32),
    "restored.1": Restored(b"\x06" * 16, 1_700_000_000_000, 1_600_000_000_000),
    "restore-seen.1": RestoreSeen(0, b"\x06" * 16, 1029),
    "recalled.1": StateRecalled(SIGNED),
    "recovered.1": Recovered(1029, True),
    "retired.1": Retired("settled", 1029, b"\x07" * 32),
}
PURPOSE = Purpose(ChannelId(CHANNEL), "deposit", bytes(20))
CHAIN_EVENTS: dict[str, chain_events.ChainEvent] = {
    "chain.cursor.1": chain_events.CursorMoved(2**32, b"\x01" * 32),
    "chain.signed.1": chain_events.TransactionSigned(
        purpose=PURPOSE,
        step="main",
        digest=b"\x02" * 32,
        nonce=3,
        raw=b"raw transaction",
        hash=b"\x03" * 32,
        to=b"\x04" * 20,
        data=b"calldata",
        value=b"\x05" * 32,
        gas=90_000,
        max_fee=2 * 10**9,
        priority_fee=10**8,
        block=2**32,
    ),
    "chain.ended.1": chain_events.TransactionEnded(3, PURPOSE, "main", b"\x02" * 32, b"\x03" * 32, True, 17, 60_000),
}
BOOKS_EVENTS: dict[str, BooksRestored | Forgotten] = {
    "books.restored.1": BooksRestored(b"\x05" * 16, 1_000, 30),
    "books.forgotten.1": Forgotten((b"\x01" * 32, b"\x02" * 32), 1_700_000_000_000),
}
NODE_EVENTS: dict[str, NodeFact] = {"node.restored.1": NodeRestored(1_700_000_000_000, 1_600_000_000_000)}
PURSE_EVENTS: dict[str, PurseEvent] = {
    msgspec.inspect.type_info(type(event)).tag: event  # type: ignore[attr-defined]
    for event in every_event()
}
LOCK_EVENTS: dict[str, LocksEvent] = {
    msgspec.inspect.type_info(type(event)).tag: event  # type: ignore[attr-defined]
    for event in every_locks_event()
}
SENDS: dict[str, StoredSend] = {"outbox reject": SendRejected(1), "outbox decide": SendDecisions(1, 6)}


@pytest.mark.parametrize("name", EVENTS)
def test_events_keep_their_bytes(name: str) -> None:
    """A node of this release reads what earlier ones stored, and writes what they read."""
    assert encode_event(EVENTS[name]).hex() == GOLDEN[name]
    assert decode_event(bytes.fromhex(GOLDEN[name])) == EVENTS[name]


@pytest.mark.parametrize("name", CHAIN_EVENTS)
def test_events_of_the_chain_keep_their_bytes(name: str) -> None:
    """The same for the node's own stream."""
    assert chain_events.encode_event(CHAIN_EVENTS[name]).hex() == GOLDEN[name]
    assert chain_events.decode_event(bytes.fromhex(GOLDEN[name])) == CHAIN_EVENTS[name]


@pytest.mark.parametrize("value", [b"", b"\x90", b"\x91\xabchain.new.1", b"\x91\xaechain.cursor.1", b"\x91" * 5_000])
def test_an_event_of_the_chain_that_cannot_be_read_is_refused(value: bytes) -> None:
    """Ours are never skipped; those of other parts are not ours to read."""
    with pytest.raises(CorruptionError, match="stored event cannot be read"):
        chain_events.decode_event(value)
    assert chain_events.decode_event(b"\x92\xa7other.1\x01") is None


@pytest.mark.parametrize("name", NODE_EVENTS)
def test_the_nodes_own_events_keep_their_bytes(name: str) -> None:
    """The same for the node's stream."""
    assert encode_node_event(NODE_EVENTS[name]).hex() == GOLDEN[name]
    assert decode_node_event(bytes.fromhex(GOLDEN[name])) == NODE_EVENTS[name]


@pytest.mark.parametrize("name", BOOKS_EVENTS)
def test_events_of_the_books_keep_their_bytes(name: str) -> None:
    """The same for what concerns all ledgers; each ledger's and channel's own stand in files of their own."""
    assert encode_books_event(BOOKS_EVENTS[name]).hex() == GOLDEN[name]
    assert decode_books_event(bytes.fromhex(GOLDEN[name])) == BOOKS_EVENTS[name]


@pytest.mark.parametrize("name", PURSE_EVENTS)
def test_events_of_purses_keep_their_bytes(name: str) -> None:
    """The same for payment channels, whose streams are told from others by their first event."""
    assert encode_purse_event(PURSE_EVENTS[name]).hex() == GOLDEN[name]
    assert decode_purse_event(bytes.fromhex(GOLDEN[name])) == PURSE_EVENTS[name]
    assert is_purse_event(bytes.fromhex(GOLDEN[name]))
    assert ends_purse(bytes.fromhex(GOLDEN[name])) == isinstance(PURSE_EVENTS[name], PurseSettled)
    assert not any(is_purse_event(bytes.fromhex(GOLDEN[other])) for other in (*EVENTS, *NODE_EVENTS, *CHAIN_EVENTS))


@pytest.mark.parametrize("name", LOCK_EVENTS)
def test_events_of_locked_payments_keep_their_bytes(name: str) -> None:
    """The same for payments under hash locks, which have a stream of their own."""
    assert encode_locks_event(LOCK_EVENTS[name]).hex() == GOLDEN[name]
    assert decode_locks_event(bytes.fromhex(GOLDEN[name])) == LOCK_EVENTS[name]


@pytest.mark.parametrize("data", [b"", b"\x90", b"\x93\xafnode.restored.2\x01\x02", b"\x91" * 5_000])
def test_an_event_that_cannot_be_read_is_never_skipped(data: bytes) -> None:
    """An event of a newer release halts the start, naming its first bytes, rather than being passed over."""
    for decode in (decode_event, decode_node_event, decode_books_event, decode_purse_event, decode_locks_event):
        with pytest.raises(CorruptionError, match=f"stored event.* cannot be read: .*{data[:24].hex()}"):
            decode(data)


@pytest.mark.parametrize("name", SENDS)
def test_outbox_rows_keep_their_bytes(name: str) -> None:
    """The same for the rows of the outbox, key and value."""
    key, value = outbox_row(CHANNEL, SENDS[name])
    assert (key + value).hex() == GOLDEN[name]
    assert parse_outbox_row(key, value) == (CHANNEL, SENDS[name])


@pytest.mark.parametrize("value", [b"", b"\x91\xa4what", b"\x92\xa6reject\xa2\xff\xfe", b"\x91" * 5_000])
def test_an_outbox_row_that_cannot_be_read_is_named(value: bytes) -> None:
    """Foreign bytes or a kind of another release: refused like an unknown event, never skipped."""
    with pytest.raises(CorruptionError, match="outbox row 0xc0c0"):
        parse_outbox_row(CHANNEL + b"\x01", value)


def test_no_stored_type_is_without_its_bytes() -> None:
    """A new stored type brings its golden encoding, and the file holds no other."""
    assert {type(event) for event in EVENTS.values()} == set(get_args(Event))
    assert {type(send) for send in SENDS.values()} == set(get_args(StoredSend)) == set(STORED)
    assert set(EVENTS) == {msgspec.inspect.type_info(kind).tag for kind in get_args(Event)}  # type: ignore[attr-defined]
    assert {type(event) for event in CHAIN_EVENTS.values()} == set(get_args(chain_events.ChainEvent))
    assert set(NODE_EVENTS) == {msgspec.inspect.type_info(NodeFact).tag}  # type: ignore[attr-defined]
    assert {type(event) for event in PURSE_EVENTS.values()} == set(get_args(PurseEvent))
    assert {type(event) for event in LOCK_EVENTS.values()} == set(get_args(LocksEvent))
    known = (EVENTS, CHAIN_EVENTS, SENDS, NODE_EVENTS, BOOKS_EVENTS, PURSE_EVENTS, LOCK_EVENTS)
    assert set(GOLDEN) == {name for each in known for name in each}


def test_no_fact_of_the_books_is_without_its_bytes() -> None:
    """Whatever the books' stream may hold has a golden encoding under its tag, in one of three files."""
    golden = set(GOLDEN)
    for kind in ("ledger", "virtual"):
        golden |= set(json.loads((ROOT / "tests" / "golden" / f"{kind}-forms.json").read_text()))
    tags = {msgspec.inspect.type_info(kind).tag for kind in get_args(BooksEvent)}  # type: ignore[attr-defined]
    assert tags <= {name.partition(" ")[0] for name in golden}
