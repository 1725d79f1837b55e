"""Sockets as `tcp.py` wants them."""

from __future__ import annotations

import asyncio
import socket


async def listen(host: str, port: int) -> socket.socket:
    """A non-blocking listening socket on the first address that `host` stands for; raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    listener = socket.create_server(address[:2], family=family, backlog=128)
    listener.setblocking(False)
    return listener


async def let_asyncio_make_transports() -> None:
    """Give the tasks of connections just accepted the few turns after which cancelling them closes the socket.

    Before that, asyncio's TLS layer has not begun and ignores being closed.
    """
    for _ in range(3):
        await asyncio.sleep(0)


def no_delay(connection: socket.socket) -> None:
    """Small frames go out at once: writes are already gathered (`Peer.flush_soon`)."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
