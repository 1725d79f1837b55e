"""A hand-made end of a connection: TLS and frames without any of the transport's own driving, to misbehave with."""

from __future__ import annotations

import asyncio
import hashlib
import ssl

from scapp.channels.signing import Signer, recover_text
from scapp.channels.transport.certificates import client_context, server_context
from scapp.channels.transport.endpoints import parse_endpoint
from scapp.channels.transport.frames import Auth, Close, Frame, FrameDecoder, Hello, Open, encode_frame
from scapp.channels.transport.handshake import PROTOCOL_VERSION, Handshake, Role, Step, signed_text


class Wire:
    """Frames in and out over one TLS stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, certificate_hash: bytes) -> None:
        self.reader, self.writer, self.certificate_hash = reader, writer, certificate_hash
        self._decoder = FrameDecoder()
        self._frames: list[Frame] = []

    @classmethod
    async def connect(cls, endpoint: str) -> Wire:
        host, port = parse_endpoint(endpoint)
        reader, writer = await asyncio.open_connection(host, port, ssl=client_context(), server_hostname="")
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return cls(reader, writer, hashlib.sha256(shown).digest())

    def send(self, *frames: Frame) -> None:
        self.raw(b"".join(map(encode_frame, frames)))

    def raw(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self) -> Frame | None:
        """The next frame, or None once the connection has ended."""
        async with asyncio.timeout(10):
            while not self._frames:
                try:
                    data = await self.reader.read(65_536)
                except (ConnectionError, ssl.SSLError):
                    data = b""
                if not data:
                    return None
                self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    async def receive_until_closed(self) -> list[Frame]:
        """Everything up to the end of the connection."""
        frames: list[Frame] = []
        while (frame := await self.receive()) is not None:
            frames.append(frame)
        return frames

    async def close_reason(self) -> str:
        """The reason in the Close frame with which the other end must end the connection."""
        last = (await self.receive_until_closed())[-1]
        assert isinstance(last, Close), f"the last frame is {last}"
        return last.reason

    async def close(self) -> None:
        self.writer.transport.abort()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            return

    # --- a correct client, as far as a test wants it to go -------------------------------------------------------

    def hello(self, signer: Signer, expected: bytes = b"", nonce: bytes = bytes(range(32))) -> Hello:
        return Hello(PROTOCOL_VERSION, signer.address, nonce, expected)

    async def greet(self, hello: Hello) -> Hello:
        """Send a Hello, get one."""
        self.send(hello)
        answer = await self.receive()
        assert isinstance(answer, Hello), f"answered with {answer}"
        return answer

    def auth(self, signer: Signer, client: Hello, server: Hello) -> Auth:
        return Auth(signer.sign_text(signed_text(Role.CLIENT, self.certificate_hash, client, server)))

    async def log_in(self, signer: Signer, server: bytes) -> Open:
        """A whole correct handshake as a client; returns the server's Open, sends none."""
        hello = self.hello(signer, server)
        answer = await self.greet(hello)
        self.send(self.auth(signer, hello, answer))
        assert isinstance(await self.receive(), Auth)
        frame = await self.receive()
        assert isinstance(frame, Open)
        return frame

    async def link(self, signer: Signer, server: bytes, session: bytes = b"hand-made wire 1") -> Open:
        """Log in and open a fresh session whose first message is 1; returns the server's Open."""
        theirs = await self.log_in(signer, server)
        self.send(Open(session, 1, theirs.session, theirs.first_seq - 1, 2**26, 4096, 2**26))
        return theirs


class WireServer:
    """Accepts TLS connections as hand-made ends."""

    def __init__(self) -> None:
        self.context, self.certificate_hash = server_context()
        self.accepted: asyncio.Queue[Wire] = asyncio.Queue()
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", 0, ssl=self.context)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.put_nowait(Wire(reader, writer, self.certificate_hash))

    async def next(self) -> Wire:
        async with asyncio.timeout(10):
            return await self.accepted.get()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()
        while not self.accepted.empty():
            await self.accepted.get_nowait().close()


async def serve_handshake(wire: Wire, signer: Signer) -> None:
    """A correct server's handshake on a hand-made end."""
    handshake = Handshake(Role.SERVER, signer, recover_text, certificate_hash=wire.certificate_hash, nonce=bytes(32))
    while handshake.step is not Step.DONE:
        frame = await wire.receive()
        assert frame is not None, "the client left during the handshake"
        wire.send(*handshake.receive(frame))
