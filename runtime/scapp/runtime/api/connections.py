"""How many connections the API holds, and for how long one may stay that never proved who it is; `server.py` listens.

Anybody on this machine can connect, and every connection is a file of the process that also holds the log and the
links to peers. So strangers are few and short-lived; a connection that showed a token stays.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

CONNECTIONS_MAX = 256
STRANGER_S = 10.0


class Connections:
    """The protocol factory of a listener. Belongs to the event loop; `close` stops the sweeping."""

    def __init__(
        self, server: web.Server, *, connections_max: int = CONNECTIONS_MAX, stranger_s: float = STRANGER_S
    ) -> None:
        self._server = server
        self._most = connections_max
        self._stranger_s = stranger_s
        self._loop = asyncio.get_running_loop()
        self._strangers: dict[RequestHandler, float] = {}  # oldest first, with the time each may stay until
        self._known: set[RequestHandler] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> asyncio.BaseProtocol:
        """The protocol of a new connection; where there are too many, the stranger who waited longest goes."""
        self._forget_closed()
        if len(self._strangers) + len(self._known) >= self._most:
            if not self._strangers:
                return _Closing()
            self._end(next(iter(self._strangers)))
        handler: RequestHandler = self._server()
        self._strangers[handler] = self._loop.time() + self._stranger_s
        if self._timer is None:
            self._timer = self._loop.call_later(self._stranger_s, self._sweep)
        return handler

    def trust(self, request: web.BaseRequest) -> None:
        """The request's connection showed a valid token."""
        handler = request.protocol
        if self._strangers.pop(handler, None) is not None:
            self._known.add(handler)

    def close(self) -> None:
        """Idempotent. The connections themselves are the server's to close."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._strangers.clear()
        self._known.clear()

    def _sweep(self) -> None:
        self._timer = None
        self._forget_closed()
        now = self._loop.time()
        for handler in [handler for handler, until in self._strangers.items() if until <= now]:
            self._end(handler)
        if self._strangers:
            self._timer = self._loop.call_at(next(iter(self._strangers.values())), self._sweep)

    def _forget_closed(self) -> None:
        """A closed connection has no transport; a new one gets its own a moment after it was made here."""
        moment = self._loop.time() + self._stranger_s - 1.0
        for handler in [h for h, until in self._strangers.items() if h.transport is None and until < moment]:
            del self._strangers[handler]
        self._known = {handler for handler in self._known if handler.transport is not None}

    def _end(self, handler: RequestHandler) -> None:
        del self._strangers[handler]
        if handler.transport is not None:
            handler.transport.abort()


class _Closing(asyncio.Protocol):
    """Closes a connection for which there is no room."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
