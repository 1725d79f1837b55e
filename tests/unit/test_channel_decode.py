"""Bytes from strangers and from disk: decoders answer or raise what they document, nothing else."""

from __future__ import annotations

from collections.abc import Callable

import msgpack
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scapp.channels.channel.events import (
    ChannelRejected,
    Refused,
    SignatureSeen,
    Signed,
    StateAdopted,
    StateCompleted,
    StateSigned,
    StateSupported,
    SubmissionsDropped,
    SubmissionsRefused,
    Submitted,
    decode_event,
    encode_event,
)
from scapp.channels.channel.messages import (
    Countersign,
    Decisions,
    Entries,
    EntriesWanted,
    MalformedMessage,
    Message,
    Propose,
    Refuse,
    Rejected,
    Status,
    Submit,
    Supported,
    decode_message,
    encode_message,
)
from scapp.channels.deployment import Deployment, Limits, decode_deployment, encode_deployment
from scapp.channels.entries import Kind, decode_entry, encode_entry
from scapp.channels.errors import CorruptionError
from scapp.channels.log.framing import Head, frame_head, frame_page, page_key

CHANNEL = bytes(range(32))
WORD = b"\x05" * 32
SIGNATURE = b"\x07" * 65
REFUSED = (Refused(1, 2, "code", "reason with ünicode"),)
STATE = Signed(7, False, (b"entry",), 3, WORD, WORD, WORD * 2, 5, (SIGNATURE, b""), (1, 2))

MESSAGES: tuple[Message, ...] = (
    Rejected(CHANNEL, "no"),
    Submit(CHANNEL, 1, 1, (b"a", b"b")),
    Decisions(CHANNEL, REFUSED),
    Propose(CHANNEL, 2**48 - 1, True, 3, (b"x" * 40,), WORD, WORD, WORD, 2**63 - 1, REFUSED, SIGNATURE),
    Countersign(CHANNEL, 4, SIGNATURE),
    Refuse(CHANNEL, 4, "root", "differs", 3),
    Status(CHANNEL, -1, -1, 0, WORD, True),
    Supported(CHANNEL, 4, False, 3, WORD, WORD, b"", 9, (SIGNATURE, SIGNATURE)),
    EntriesWanted(CHANNEL, 0, 2**63 - 1),
    Entries(CHANNEL, 1, (b"", b"e")),
)
EVENTS = (
    ChannelRejected(1, "no"),
    StateSigned(STATE),
    SignatureSeen(7, 1, SIGNATURE),
    StateSupported(7, (SIGNATURE, SIGNATURE)),
    StateCompleted(STATE),
    StateAdopted(STATE),
    Submitted(1, 1, (b"a",)),
    SubmissionsRefused(REFUSED),
    SubmissionsDropped(REFUSED),
)
ENCODED_MESSAGES = tuple(map(encode_message, MESSAGES))
ENCODED_EVENTS = tuple(map(encode_event, EVENTS))
ENCODED_ENTRIES = tuple(encode_entry(kind, 1, 2, 3, b"payload") for kind in Kind)
ENCODED_DEPLOYMENTS = (
    encode_deployment(Deployment(WORD)),
    encode_deployment(Deployment(WORD, limits=Limits(rows_max=1))),
)

DEEP = b"\x91" * 900


@st.composite
def mutated(draw: st.DrawFn, originals: tuple[bytes, ...]) -> bytes:
    """Good bytes with a few of them changed, cut out, doubled or replaced by nonsense."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["set", "insert", "cut", "double", "end"])):
            case "set" if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case "insert":
                data[at:at] = draw(st.one_of(st.binary(max_size=8), st.sampled_from([b"\xa2\xff\xfe", DEEP, b"\xc1"])))
            case "cut":
                del data[at : at + draw(st.integers(1, 8))]
            case "double":
                data[at:at] = data[at : at + 16]
            case "end":
                del data[at:]
    return bytes(data)


def plain_msgpack(value: object) -> bytes:
    """By another MessagePack implementation, so that shapes ours would never write are tried as well."""
    data: bytes = msgpack.packb(value)
    return data


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.binary(max_size=70), st.text(max_size=8), st.floats()
)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=6), max_leaves=25)
MESSAGE_TAGS = ("open", "reject", "submit", "decide", "propose", "sign", "refuse", "status", "full", "want", "entries")
TAGS = (*MESSAGE_TAGS, "signed.1")
TAGGED = st.builds(lambda tag, rest: plain_msgpack([tag, *rest]), st.sampled_from(TAGS), st.lists(TREES, max_size=12))


def bytes_like(originals: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    return st.one_of(st.binary(max_size=200), mutated(originals), TAGGED, TREES.map(plain_msgpack))


def only_raises(decode: Callable[[bytes], object], data: bytes, errors: tuple[type[Exception], ...]) -> object | None:
    """What it decodes to, or None for a documented error; everything else passes through and fails the test."""
    try:
        return decode(data)
    except errors:
        return None


@given(bytes_like(ENCODED_MESSAGES))
@example(b"\x93\xa6reject\xc4\x20" + CHANNEL + b"\xa2\xff\xfe")
@example(b"\x94\xa6reject\xc4\x20" + CHANNEL + b"\xa0" + b"\x91" * 50_000)
@example(b"")
def test_a_message_is_read_or_malformed(data: bytes) -> None:
    """What is read is written back and read again as the same."""
    message = only_raises(decode_message, data, (MalformedMessage,))
    if message is not None:
        assert decode_message(encode_message(message)) == message


@given(bytes_like(ENCODED_EVENTS))
@example(b"\x93\xaarejected.1\x00\xa2\xff\xfe")
@example(b"\x94\xaarejected.1\x00\xa0" + b"\x91" * 50_000)
def test_an_event_is_read_or_corrupt(data: bytes) -> None:
    event = only_raises(decode_event, data, (CorruptionError,))
    if event is not None:
        assert decode_event(encode_event(event)) == event


@given(st.one_of(st.binary(max_size=60), mutated(ENCODED_ENTRIES)))
def test_an_entry_is_read_or_no_entry(data: bytes) -> None:
    """An entry has one form: what is read is written back byte for byte."""
    entry = only_raises(decode_entry, data, (ValueError,))
    if entry is not None:
        assert encode_entry(entry.kind, entry.author, entry.counter, entry.time_ms, entry.payload) == data


@given(st.one_of(st.binary(max_size=200), mutated(ENCODED_DEPLOYMENTS), TREES.map(plain_msgpack)))
@example(b"\x93\xc4\x20" + WORD + b"\xa2\xff\xfe\x90")
def test_a_deployment_is_canonical_or_refused(data: bytes) -> None:
    """It has one form, because its hash is signed."""
    deployment = only_raises(decode_deployment, data, (msgspec.DecodeError, ValueError, RecursionError))
    if deployment is not None:
        assert encode_deployment(deployment) == data


@pytest.mark.parametrize("data", ENCODED_MESSAGES + ENCODED_EVENTS)
def test_every_cut_of_good_bytes_is_refused(data: bytes) -> None:
    """No prefix of a message or event is one, so a torn frame is never taken for a shorter message."""
    decode, error = (decode_message, MalformedMessage) if data in ENCODED_MESSAGES else (decode_event, CorruptionError)
    decode(data)
    for end in range(len(data)):
        with pytest.raises(error):  # type: ignore[arg-type]
            decode(data[:end])


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_an_independent_reader_sees_the_same_message(message: Message) -> None:
    """`msgpack` reads the wire's bytes as an array that begins with the tag."""
    fields = msgpack.unpackb(encode_message(message))
    assert fields[0] in TAGS
    assert fields[1] == CHANNEL
    assert decode_message(plain_msgpack(fields)) == message


def test_an_independent_reader_sees_the_same_log() -> None:
    """A page, its head, and in it each event, as `msgpack` reads what is stored."""
    key = page_key(CHANNEL, 0)
    page, chain = frame_page(key, ENCODED_EVENTS, 7)
    before, stored, after = msgpack.unpackb(page)
    assert (before, tuple(stored), after) == (7, ENCODED_EVENTS, chain)
    assert msgpack.unpackb(frame_head(CHANNEL, Head(len(stored), chain)))[:2] == [len(stored), chain]
    for event, data in zip(EVENTS, stored, strict=True):
        fields = msgpack.unpackb(data)
        assert isinstance(fields[0], int | str)
        assert decode_event(plain_msgpack(fields)) == event
