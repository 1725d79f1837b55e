"""Connections to the local API: strangers are few and short-lived, and never keep an authorised caller out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from scapp.runtime.api.connections import Connections

HALF = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "
WHOLE = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n"
TRUSTED = WHOLE + b"Authorization: yes\r\n\r\n"


class Scene:
    """A listener over a handler that trusts whoever says yes."""

    def __init__(self, connections_max: int, stranger_s: float) -> None:
        self._settings = connections_max, stranger_s
        self._open: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        runner = web.ServerRunner(web.Server(self._answer))
        await runner.setup()
        assert isinstance(runner.server, web.Server)
        most, stranger_s = self._settings
        self.runner = runner
        self.connections = Connections(runner.server, connections_max=most, stranger_s=stranger_s)
        loop = asyncio.get_running_loop()
        self.listener = await loop.create_server(self.connections, "127.0.0.1", 0)
        self.port = self.listener.sockets[0].getsockname()[1]

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Authorization"):
            self.connections.trust(request)
        return web.Response(text="hello")

    async def connect(self, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._open.append(writer)
        writer.write(data)
        return reader, writer

    async def stop(self) -> None:
        for writer in self._open:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self.listener.close()
        self.connections.close()
        await self.runner.cleanup()


@contextlib.asynccontextmanager
async def listening(connections_max: int = 8, stranger_s: float = 30.0) -> AsyncIterator[Scene]:
    scene = Scene(connections_max, stranger_s)
    await scene.start()
    try:
        async with asyncio.timeout(20):
            yield scene
    finally:
        await scene.stop()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All there was before the node ended the connection."""
    data = b""
    with contextlib.suppress(ConnectionError):
        data = await reader.read()
    return data


async def answered(reader: asyncio.StreamReader) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(len(b"hello"))
    return head.decode().split(" ")[1]


@pytest.mark.parametrize("said", [b"", HALF, WHOLE + b"\r\n"])
async def test_who_shows_no_token_is_sent_away(said: bytes) -> None:
    """Silent, half a request, or a whole one that needs no token: none stays longer than the limit."""
    async with listening(stranger_s=0.2) as scene:
        reader, _ = await scene.connect(said)
        assert (b"hello" in await ended(reader)) == said.endswith(b"\r\n\r\n")


async def test_who_showed_a_token_stays() -> None:
    """Also while strangers come and go."""
    async with listening(stranger_s=0.2) as scene:
        reader, writer = await scene.connect(TRUSTED)
        assert await answered(reader) == "200"
        stranger, _ = await scene.connect(HALF)
        assert await ended(stranger) == b""
        writer.write(TRUSTED)
        assert await answered(reader) == "200"


async def test_the_stranger_who_waited_longest_makes_room() -> None:
    """A caller with a token gets through however many connections are held open."""
    async with listening(connections_max=8) as scene:
        trusted, writer = await scene.connect(TRUSTED)
        assert await answered(trusted) == "200"
        strangers = [(await scene.connect(HALF))[0] for _ in range(20)]
        for reader in strangers[:12]:
            assert await ended(reader) == b""
        late, _ = await scene.connect(TRUSTED)
        assert await answered(late) == "200"
        writer.write(TRUSTED)
        assert await answered(trusted) == "200"


async def test_without_room_a_newcomer_is_refused() -> None:
    """Everyone who is in showed a token; when one leaves there is room again."""
    async with listening(connections_max=2) as scene:
        inside = [await scene.connect(TRUSTED) for _ in range(2)]
        for reader, _ in inside:
            assert await answered(reader) == "200"
        refused, _ = await scene.connect(TRUSTED)
        assert await ended(refused) == b""
        inside[0][1].write(WHOLE + b"Connection: close\r\n\r\n")
        assert b"hello" in await ended(inside[0][0])
        reader, _ = await scene.connect(TRUSTED)
        assert await answered(reader) == "200"
