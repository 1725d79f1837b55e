"""Frames on the wire: their MessagePack bytes and an incremental decoder (docs/reference/wire.md); no I/O.

A frame is `u32 length | u8 version | MessagePack array [kind, fields…]`, the length big-endian and counting what
follows it. The version byte 1 is itself the MessagePack integer 1, so a body is a MessagePack stream of two
values. What the frames mean stands in `handshake.py` (Hello, Auth) and `session.py` (the others).
"""

from __future__ import annotations

import struct
from typing import Annotated, TypeAlias

import msgspec

from scapp.channels.errors import PeerError
from scapp.channels.transport.limits import HANDSHAKE_FRAME_BYTES_MAX

VERSION = 1
"""Of the frame envelope. The protocol's own version is in Hello."""

_LENGTH = struct.Struct(">I")
_DATA_HEAD = struct.Struct(">IBBBBQBI")
DATA_OVERHEAD_BYTES = _DATA_HEAD.size - _LENGTH.size
"""Length of a Data frame minus length of its payload."""
_BUFFER_BYTES_FIRST = HANDSHAKE_FRAME_BYTES_MAX + _LENGTH.size
_BUFFER_BYTES = 262_144  # asyncio's TLS layer decrypts up to this much in one go
CLOSE_REASON_MAX = 200

_Address = Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
_AddressOrEmpty = Annotated[bytes, msgspec.Meta(max_length=20)]
_Nonce = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Signature = Annotated[bytes, msgspec.Meta(min_length=65, max_length=65)]
_Session = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_SessionOrEmpty = Annotated[bytes, msgspec.Meta(max_length=16)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Size = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]


class FrameError(PeerError):
    """Bytes that are no frame of this protocol, or one longer than allowed."""


class _Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Common options: positional fields, nothing after the last one."""


class Hello(_Frame, frozen=True, tag=1):
    """Who speaks, a fresh nonce, and the address expected at the other end (empty: any)."""

    version: Annotated[int, msgspec.Meta(ge=0, le=65_535)]
    address: _Address
    nonce: _Nonce
    expected: _AddressOrEmpty


class Auth(_Frame, frozen=True, tag=2):
    """The speaker's channel key over role, certificate, nonces and addresses (`handshake.signed_text`)."""

    signature: _Signature


class Open(_Frame, frozen=True, tag=3):
    """Where the two sessions stand, sent first on each authenticated link and once.

    `session` and `first_seq`: the speaker's session and its first unacknowledged sequence number.
    `known_session` and `received`: the listener's session the speaker knows (empty: none) and the highest
    sequence number received in it. The rest is what the speaker accepts.
    """

    session: _Session
    first_seq: _Count
    known_session: _SessionOrEmpty
    received: _Count
    frame_bytes_max: _Size
    window_messages: _Size
    window_bytes: _Size


class Data(_Frame, frozen=True, tag=4):
    """One message; sequence numbers start at 1 in each session and grow by one."""

    seq: _Count
    payload: bytes


class Ack(_Frame, frozen=True, tag=5):
    """Every message up to `seq`, included, has been processed."""

    seq: _Count


class Ping(_Frame, frozen=True, tag=6):
    """Asks for a Pong of the same value."""

    value: _Count


class Pong(_Frame, frozen=True, tag=7):
    """Answers a Ping."""

    value: _Count


class Close(_Frame, frozen=True, tag=8):
    """The speaker's last frame, with a reason for the listener's log."""

    reason: Annotated[str, msgspec.Meta(max_length=CLOSE_REASON_MAX)]


Frame: TypeAlias = Hello | Auth | Open | Data | Ack | Ping | Pong | Close

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)
_decode = _decoder.decode


def encode_frame(frame: Frame) -> bytes:
    """The bytes of one frame with its length prefix."""
    body = _encoder.encode(frame)
    return _LENGTH.pack(len(body) + 1) + b"\x01" + body


def data_head(seq: int, payload_bytes: int) -> bytes:
    """What stands before a Data frame's payload on the wire.

    Packed by hand with fixed widths (array of 3, kind, uint64, bin32), so that a message is copied once, when the
    parts of a write are joined.
    """
    length = DATA_OVERHEAD_BYTES + payload_bytes
    return _DATA_HEAD.pack(length, VERSION, 0x93, 4, 0xCF, seq, 0xC6, payload_bytes)


def close_frame(reason: str) -> bytes:
    """The bytes of a Close frame, its reason cut to what a frame may carry."""
    return encode_frame(Close(reason[:CLOSE_REASON_MAX]))


class FrameDecoder:
    """Gathers bytes and cuts them into frames; owns the buffer that a `BufferedProtocol` reads into.

    `limit` is the longest frame accepted now (without its length prefix). After the first error nothing more is
    decoded and `error` is set; frames before it in the same read are still returned.
    """

    def __init__(self, limit: int = HANDSHAKE_FRAME_BYTES_MAX) -> None:
        self.limit = limit
        self.error: FrameError | None = None
        self._end = 0
        self._view = memoryview(bytearray(_BUFFER_BYTES_FIRST))

    def get_buffer(self) -> memoryview:
        """Free space to read into; never empty."""
        if self.error is not None:
            self._end = 0
        return self._view[self._end :]

    def feed(self, data: bytes) -> list[Frame]:
        """Decode `data` however long it is, for callers that have bytes rather than a socket."""
        frames: list[Frame] = []
        for start in range(0, len(data), _BUFFER_BYTES_FIRST):
            rest = memoryview(data)[start : start + _BUFFER_BYTES_FIRST]
            while rest:
                space = self.get_buffer()
                taken = min(len(space), len(rest))
                space[:taken] = rest[:taken]
                frames += self.buffer_updated(taken)
                rest = rest[taken:]
        return frames

    def buffer_updated(self, count: int) -> list[Frame]:
        """Decode what is complete after `count` bytes were written to the buffer; sets `error` on the first fault."""
        frames: list[Frame] = []
        if self.error is not None:
            return frames
        view, start, end, limit = self._view, 0, self._end + count, self.limit
        append, unpack = frames.append, _LENGTH.unpack_from
        needed = _LENGTH.size
        try:
            while end - start >= 4:
                length = unpack(view, start)[0]
                if not 2 <= length <= limit:
                    raise FrameError(f"frame of {length} bytes: 2 to {limit} are allowed")
                stop = start + 4 + length
                if stop > end:
                    needed = 4 + length
                    break
                if view[start + 4] != VERSION:
                    raise FrameError(f"frame version {view[start + 4]}: this node reads version {VERSION}")
                append(_decode(view[start + 5 : stop]))
                start = stop
        except FrameError as error:
            self.error = error
        except (msgspec.MsgspecError, ValueError) as error:
            self.error = FrameError(f"malformed frame of {length} bytes: {error}")
        self._keep_rest(start, end, needed)
        return frames

    def _keep_rest(self, start: int, end: int, needed: int) -> None:
        """Move the incomplete frame to the front of a buffer with room for more of it.

        The buffer is replaced, never resized: the TLS layer still holds a view of it. It grows by doubling, so
        that a length prefix alone reserves nothing.
        """
        rest = end - start
        room = len(self._view)
        wanted = room if self.limit == HANDSHAKE_FRAME_BYTES_MAX else _BUFFER_BYTES
        if needed > room:
            wanted = max(wanted, min(needed, 2 * max(rest, room)))
        if wanted != room and wanted > rest:
            view = memoryview(bytearray(wanted))
            view[:rest] = self._view[start:end]
            self._view = view
        elif start:
            # Through bytes: slices of one memoryview may overlap, and rests are short.
            self._view[:rest] = bytes(self._view[start:end])
        self._end = rest
