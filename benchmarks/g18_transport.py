"""G18: messages told to be processed per second over the node's transport, against an asyncio stream echo.

Both sides carry the same frames over the loopback interface, both ends in this process, a window of 256 on the
way. The transport does it as in a node: TLS, sequence numbers, one handler call a message, acknowledged through
`on_acked`. The reference reads each frame with `readexactly`, decodes it, encodes an answer of the same size and
drains, without TLS; its client decodes each answer. The notes give the ratio to the same echo inside TLS.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Callable
from typing import Any

from benchmarks.runner import Measure, Result

MESSAGES = 4_000
WINDOW = 256
PAYLOAD = bytes(range(110))
_LENGTH = struct.Struct(">I")


class Transports:
    """Two linked nodes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        from scapp.channels.signing import Signer
        from scapp.channels.transport.tcp import TcpTransport

        self._loop = loop
        self._one, self._other = TcpTransport(Signer(b"\1" * 32)), TcpTransport(Signer(b"\2" * 32))
        loop.run_until_complete(self._start())

    async def _start(self) -> None:
        linked = asyncio.Event()
        await self._one.start(self._handle, lambda peer, up: linked.set())
        await self._other.start(self._handle, lambda peer, up: None)
        self._one.add_peer(self._other.address, self._other.endpoint)
        await linked.wait()

    async def _handle(self, peer: bytes, message: bytes) -> None:
        assert message == PAYLOAD

    def run(self) -> None:
        """Send MESSAGES, at most WINDOW unacknowledged, until the last is acknowledged."""
        self._loop.run_until_complete(self._run())

    async def _run(self) -> None:
        done = self._loop.create_future()
        left_to_send, left_to_ack = MESSAGES - WINDOW, MESSAGES
        send, peer = self._one.send, self._other.address

        def on_acked() -> None:
            nonlocal left_to_send, left_to_ack
            left_to_ack -= 1
            if left_to_send:
                left_to_send -= 1
                send(peer, PAYLOAD, on_acked)
            elif not left_to_ack:
                done.set_result(None)

        for _ in range(WINDOW):
            send(peer, PAYLOAD, on_acked)
        await done

    def close(self) -> None:
        self._loop.run_until_complete(self._one.stop())
        self._loop.run_until_complete(self._other.stop())


class StreamEcho:
    """asyncio's stream classes, with or without TLS."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, tls: bool) -> None:
        import msgspec

        from scapp.channels.transport.certificates import client_context, server_context
        from scapp.channels.transport.frames import Data, encode_frame

        self._loop = loop
        self._data: Callable[[int, bytes], Any] = Data
        self._encode: Callable[[Any], bytes] = encode_frame
        self._decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(Data).decode
        self._server_tls: ssl.SSLContext | None = server_context()[0] if tls else None
        self._client_tls: ssl.SSLContext | None = client_context() if tls else None
        loop.run_until_complete(self._start())

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._echo, "127.0.0.1", 0, ssl=self._server_tls)
        port = self._server.sockets[0].getsockname()[1]
        name = "" if self._client_tls else None
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=self._client_tls, server_hostname=name
        )

    async def _read(self, reader: asyncio.StreamReader) -> Any:
        (length,) = _LENGTH.unpack(await reader.readexactly(4))
        return self._decode((await reader.readexactly(length))[1:])

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(self._encode(await self._read(reader)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def run(self) -> None:
        self._loop.run_until_complete(self._run())

    async def _run(self) -> None:
        writer, encode, data = self._writer, self._encode, self._data
        for seq in range(WINDOW):
            writer.write(encode(data(seq, PAYLOAD)))
        for seq in range(WINDOW, MESSAGES + WINDOW):
            answer = await self._read(self._reader)
            assert answer.payload == PAYLOAD
            if seq < MESSAGES:
                writer.write(encode(data(seq, PAYLOAD)))
                await writer.drain()

    def close(self) -> None:
        self._loop.run_until_complete(self._close())

    async def _close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()
        self._server.close()
        await self._server.wait_closed()


def run() -> Result:
    from benchmarks.timing import Side, compare

    loop = asyncio.new_event_loop()
    ours, plain, tls = Transports(loop), StreamEcho(loop, tls=False), StreamEcho(loop, tls=True)
    try:
        subject = Side(ours.run, units=MESSAGES)
        against_plain = compare(subject, Side(plain.run, units=MESSAGES), clock="wall")
        against_tls = compare(subject, Side(tls.run, units=MESSAGES), clock="wall")
    finally:
        for side in (ours, plain, tls):
            side.close()
        loop.close()
    note = f"against the same echo inside TLS: {against_tls.ratio:.1f}"
    return Result(value=against_plain.rate, unit="messages/s", ratio=against_plain.ratio, notes=(note,))


MEASURES = [Measure("G18", "transport, pipelined frames, against asyncio stream echo", goal=3, run=run)]
