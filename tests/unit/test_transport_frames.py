"""Frames: bytes that an independent MessagePack decoder reads, and a decoder that survives anything."""

from __future__ import annotations

import io
import struct

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels.deployment import Limits
from scapp.channels.transport.frames import (
    CLOSE_REASON_MAX,
    DATA_OVERHEAD_BYTES,
    Ack,
    Auth,
    Close,
    Data,
    Frame,
    FrameDecoder,
    Hello,
    Open,
    Ping,
    Pong,
    close_frame,
    data_head,
    encode_frame,
)
from scapp.channels.transport.limits import HANDSHAKE_FRAME_BYTES_MAX, TransportLimits, frame_bytes_for

EXAMPLES: list[tuple[Frame, list[object]]] = [
    (Hello(1, b"a" * 20, b"n" * 32, b""), [1, 1, b"a" * 20, b"n" * 32, b""]),
    (Auth(b"s" * 65), [2, b"s" * 65]),
    (Open(b"o" * 16, 1, b"", 0, 4_000_000, 16, 32), [3, b"o" * 16, 1, b"", 0, 4_000_000, 16, 32]),
    (Data(2**40, b"payload"), [4, 2**40, b"payload"]),
    (Ack(7), [5, 7]),
    (Ping(0), [6, 0]),
    (Pong(2**63 - 1), [7, 2**63 - 1]),
    (Close("because"), [8, "because"]),
]
counts = st.integers(0, 2**63 - 1)
frames = st.one_of(st.builds(Data, counts, st.binary(max_size=6000)), st.builds(Ack, counts), st.builds(Ping, counts))


def independent(data: bytes) -> list[list[object]]:
    """Frames' arrays as the `msgpack` package reads them."""
    found = []
    stream = io.BytesIO(data)
    while prefix := stream.read(4):
        (length,) = struct.unpack(">I", prefix)
        unpacker = msgpack.Unpacker(raw=False)
        unpacker.feed(stream.read(length))
        version, array = unpacker
        assert version == 1
        found.append(array)
    return found


@pytest.mark.parametrize(("frame", "array"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_bytes_of_each_kind(frame: Frame, array: list[object]) -> None:
    """Each kind is the documented array, and comes back as it was."""
    data = encode_frame(frame)
    assert independent(data) == [array]
    assert FrameDecoder().feed(data) == [frame]


def test_known_bytes() -> None:
    """The wire does not change unnoticed."""
    assert encode_frame(Ack(7)).hex() == "00000004019205" + "07"
    assert (data_head(1, 2) + b"hi").hex() == "0000001301" + "9304" + "cf0000000000000001" + "c600000002" + b"hi".hex()


@given(counts, st.binary(max_size=300))
def test_hand_packed_data(seq: int, payload: bytes) -> None:
    """The hand-packed head of Data says the same as the encoder."""
    data = data_head(seq, len(payload)) + payload
    assert independent(data) == [[4, seq, payload]]
    assert FrameDecoder().feed(data) == [Data(seq, payload)]
    assert len(data) == 4 + DATA_OVERHEAD_BYTES + len(payload)


@given(st.lists(frames, max_size=12), st.data())
def test_any_split(sent: list[Frame], data: st.DataObject) -> None:
    """However the bytes are cut into reads, the same frames come out, in order."""
    decoder = FrameDecoder(limit=8000)
    stream = b"".join(map(encode_frame, sent))
    received = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        received += decoder.feed(stream[:cut])
        stream = stream[cut:]
    assert decoder.error is None
    assert received == sent


def test_a_long_frame_in_small_reads() -> None:
    """The buffer grows with what arrives, up to the frame, and is small again afterwards."""
    decoder = FrameDecoder(limit=4 * 1024 * 1024)
    payload = bytes(range(256)) * 8192
    stream = encode_frame(Data(1, payload)) + encode_frame(Ack(1))
    received: list[Frame] = []
    position = 0
    while position < len(stream):
        space = decoder.get_buffer()
        assert len(space) > 0
        taken = min(len(space), 50_000, len(stream) - position)
        space[:taken] = stream[position : position + taken]
        received += decoder.buffer_updated(taken)
        position += taken
    assert received == [Data(1, payload), Ack(1)]
    assert len(decoder.get_buffer()) == 262_144


def test_a_length_alone_reserves_nothing() -> None:
    """A prefix that announces 4 MiB does not make the node hold 4 MiB."""
    decoder = FrameDecoder(limit=4 * 1024 * 1024)
    decoder.feed((4 * 1024 * 1024).to_bytes(4, "big"))
    assert len(decoder.get_buffer()) <= 262_144


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x01\x90", "malformed"),
        (b"\x01\x92\x05\x07\x00", "malformed"),
        (b"\x01\x93\x05\x07\x00", "malformed"),
        (b"\x01\x92\x05\xff", "malformed"),
        (b"\x01\x92\x05\xc0", "malformed"),
        (b"\x01\x92\x05\xa1x", "malformed"),
        (b"\x01\x92\x05\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "malformed"),
        (b"\x01\x92\x09\x00", "malformed"),
        (b"\x01\x81\x05\x07", "malformed"),
        (b"\x01\x92\x02\xc4\x40" + bytes(64), "malformed"),
        (b"\x01\x92\x08\xa2\xff\xfe", "malformed"),
        (b"\x02\x92\x05\x07", "version 2"),
        (b"\x01", "1 bytes: 2 to 4096"),
    ],
    ids=[
        "no-kind", "trailing", "field-too-many", "negative", "nil", "text", "above-2^63",
        "unknown-kind", "map", "short-signature", "not-utf8", "version", "too-short",
    ],
)  # fmt: skip
def test_malformed(body: bytes, reason: str) -> None:
    """What is not a frame sets the error; frames before it in the read are returned, none after it."""
    decoder = FrameDecoder()
    good = encode_frame(Ping(1))
    assert decoder.feed(good + len(body).to_bytes(4, "big") + body + good) == [Ping(1)]
    assert reason in str(decoder.error)
    assert decoder.feed(good) == []


def test_the_limit_is_exact() -> None:
    """A frame as long as allowed passes, one byte more does not."""
    room = HANDSHAKE_FRAME_BYTES_MAX - DATA_OVERHEAD_BYTES
    assert FrameDecoder().feed(data_head(1, room) + bytes(room)) == [Data(1, bytes(room))]
    decoder = FrameDecoder()
    assert decoder.feed(data_head(1, room + 1) + bytes(room + 1)) == []
    assert f"2 to {HANDSHAKE_FRAME_BYTES_MAX} are allowed" in str(decoder.error)


@given(st.binary(max_size=400))
def test_random_bytes(data: bytes) -> None:
    """Nothing but frames or an error comes of random bytes."""
    for stream in (data, len(data).to_bytes(4, "big") + data, len(data).to_bytes(4, "big") + b"\x01" + data[1:]):
        decoder = FrameDecoder()
        decoder.feed(stream)
        assert len(decoder.get_buffer()) > 0


@given(st.sampled_from([frame for frame, _ in EXAMPLES]), st.data())
def test_flipped_bytes(frame: Frame, data: st.DataObject) -> None:
    """A frame with one byte changed is another frame of this protocol, or an error, or waits for more."""
    stream = bytearray(encode_frame(frame))
    stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    decoder = FrameDecoder()
    for found in decoder.feed(bytes(stream)):
        assert encode_frame(found)


def test_long_reasons_are_cut() -> None:
    """A Close frame always fits what the other end accepts."""
    (frame,) = FrameDecoder().feed(close_frame("x" * 1000))
    assert frame == Close("x" * CLOSE_REASON_MAX)


def test_default_limits_fit_the_default_deployment() -> None:
    """A full batch under the default signed limits fits the default frame."""
    assert frame_bytes_for(Limits()) <= TransportLimits().frame_bytes_max
    assert frame_bytes_for(Limits(batch_bytes_max=8_000_000)) > 8_000_000
