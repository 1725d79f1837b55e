"""The HTTP server of the local API: checks every request, hands it to its route, turns errors into documents.

A request passes, in this order: Host (a web page cannot reach us under another name), Origin (nor from a foreign
page), token, permission, size, media type, document. There are no cookies, so nothing is sent by a browser unasked.
Files of `pages.py` pass the first two.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from scapp.channels.types import ChannelId
from scapp.runtime.api.auth import TokenRecord, TokenStore
from scapp.runtime.api.call import Call, find_channel, require
from scapp.runtime.api.connections import Connections
from scapp.runtime.api.context import ApiContext
from scapp.runtime.api.errors import ApiError, as_api_error
from scapp.runtime.api.metrics import CONTENT_TYPE
from scapp.runtime.api.openapi import openapi_document
from scapp.runtime.api.pages import Pages
from scapp.runtime.api.routes import ROUTES, Route
from scapp.runtime.api.stream import KINDS, StreamHub, Wish, parse_start
from scapp.runtime.config import ApiSettings, parse_listen
from scapp.runtime.documents import RequestDocument, TokenView

_log = logging.getLogger("scapp.api")
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_PORT = re.compile(r":\d+$")


class ApiServer:
    """One per node; `start` returns when it answers, `stop` ends running streams and requests."""

    def __init__(
        self, context: ApiContext, settings: ApiSettings, tokens: TokenStore, pages: Pages | None = None
    ) -> None:
        self._context = context
        self._settings = settings
        self._tokens = tokens
        self._pages = pages or Pages({})
        self._hosts = {*_LOOPBACK, parse_listen(settings.listen, "api.listen")[0], *settings.hosts}
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._connections: Connections | None = None
        self._hub: StreamHub | None = None
        self.url = ""

    async def start(self) -> None:
        """Bind and serve. Raises OSError when the address is taken."""
        self._hub = StreamHub(self._context)
        app = web.Application(client_max_size=self._settings.body_bytes_max, middlewares=[self._guard])
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._handler(route), name=route.name)
        self._pages.add_to(app)
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=2.0, access_log=None)
        await self._runner.setup()
        host, port = parse_listen(self._settings.listen, "api.listen")
        assert self._runner.server is not None
        self._connections = Connections(self._runner.server)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._connections, host, port, reuse_address=True)
        bound = self._listener.sockets[0].getsockname()
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        self.url = f"http://{shown}:{bound[1]}"

    async def stop(self) -> None:
        """End streams, let short requests finish, close. Idempotent."""
        if self._hub:
            self._hub.close()
        if self._listener:
            self._listener.close()
        if self._connections:
            self._connections.close()
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Host, Origin, and every error as a document."""
        try:
            self._check_host(request)
            self._check_origin(request)
            response = await handler(request)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            response = self._failed(request, error)
        if not response.prepared:
            response.headers.setdefault("Cache-Control", "no-store")
            response.headers["X-Content-Type-Options"] = "nosniff"
            self._allow_origin(request, response)
        return response

    def _check_host(self, request: web.Request) -> None:
        host = _PORT.sub("", request.headers.get("Host", ""))
        if host.lower() not in self._hosts:
            known = ", ".join(sorted(self._hosts))
            raise ApiError(
                "bad_host", f"this node does not answer to the host name {host[:80]!r} (allowed: {known})",
                "name it in api.hosts when it stands behind a proxy",
            )  # fmt: skip

    def _check_origin(self, request: web.Request) -> None:
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._settings.origins and not self._is_own(origin, request):
            raise ApiError(
                "bad_origin", f"pages of {origin[:120]!r} may not call this node",
                "name the page's origin in api.origins",
            )  # fmt: skip

    def _is_own(self, origin: str, request: web.Request) -> bool:
        """A page of this node: its Host was checked, and nothing else can be of the same origin."""
        return bool(self._pages) and origin.lower() == f"http://{request.headers['Host'].lower()}"

    def _allow_origin(self, request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get("Origin")
        if origin in self._settings.origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Vary"] = "Origin"

    def _failed(self, request: web.Request, error: Exception) -> web.StreamResponse:
        known = _from_http(request, error) if isinstance(error, web.HTTPException) else as_api_error(error)
        if known is None:
            _log.error("request failed", exc_info=error, extra={"method": request.method, "path": request.path})
            known = ApiError("internal", "the node failed to answer; its log says why", "please report it")
        headers = {"WWW-Authenticate": "Bearer"} if known.status == 401 else {}
        return _json(known.document(), known.status, headers)

    def _handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        if route.name == "openapi":
            return self._openapi
        if route.name == "stream":
            return functools.partial(self._stream, route)
        if route.name == "own_token":
            return functools.partial(self._own_token, route)
        return functools.partial(self._serve, route)

    async def _serve(self, route: Route, request: web.Request) -> web.StreamResponse:
        token = self._authorize(route, request)
        assert route.handler is not None
        call = Call(
            context=self._context,
            token=token,
            path=request.match_info,
            query=request.query,
            body=await _body(route, request),
        )
        answer = await route.handler(call)
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/wasm")
        if isinstance(answer, str):
            return web.Response(body=answer.encode(), headers={"Content-Type": CONTENT_TYPE})
        return _json(answer)

    def _authorize(self, route: Route, request: web.Request) -> TokenRecord | None:
        if route.permission is None:
            return None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        record = self._tokens.find(token.strip()) if scheme.lower() == "bearer" else None
        if record is None:
            found = "an unknown token" if token else "no token"
            raise ApiError(
                "unauthorized", f"{found}; this path needs `Authorization: Bearer TOKEN`",
                "the operator's token is in api.token of the node's directory; `scapp keys token NAME` makes more",
            )  # fmt: skip
        require(record, route.permission, f"{route.method} {route.path}")
        assert self._connections is not None
        self._connections.trust(request)
        return record

    async def _own_token(self, route: Route, request: web.Request) -> web.StreamResponse:
        record = self._authorize(route, request)
        assert record is not None
        return _json(TokenView(name=record.name, permissions=list(record.permissions)))

    async def _openapi(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(
            openapi_document(self._context.version, self.url),
            dumps=lambda value: msgspec.json.encode(value).decode(),
        )

    async def _stream(self, route: Route, request: web.Request) -> web.StreamResponse:
        self._authorize(route, request)
        assert self._hub is not None
        wish = self._wish(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        self._allow_origin(request, response)
        await response.prepare(request)
        await response.write(b": connected\n\n")
        try:
            async for sent in self._hub.follow(wish):
                if sent is None:
                    await response.write(b": still here\n\n")
                    continue
                lines = f"id: {sent.resume}\n" if sent.resume else ""
                item = msgspec.structs.replace(sent.item, resume=sent.resume or None)
                data = msgspec.json.encode(item).decode()  # one line: JSON escapes line breaks
                await response.write(f"{lines}event: {sent.item.kind}\ndata: {data}\n\n".encode())
        except ConnectionError:
            _log.debug("a follower of the stream went away")
        except Exception as error:
            known = as_api_error(error)
            _log.warning("a stream ended", exc_info=None if known else error, extra={"reason": str(error)})
            document = (known or ApiError("internal", "the stream failed; the node's log says why")).document()
            await response.write(b"event: error\ndata: " + msgspec.json.encode(document) + b"\n\n")
        return response

    def _wish(self, request: web.Request) -> Wish:
        kinds = request.query.get("kinds")
        wanted = frozenset(kinds.split(",")) if kinds else frozenset(KINDS)
        if wanted - set(KINDS):
            raise ApiError("bad_request", f"kinds={kinds!r}; allowed are {', '.join(KINDS)}")
        texts = request.query.getall("from", [])
        last = request.headers.get("Last-Event-ID")
        try:
            parsed = parse_start([*texts, last] if last else texts)
        except ValueError as error:
            raise ApiError("bad_request", str(error)) from None
        channels = [find_channel(self._context, text).channel_id for text in request.query.getall("channel", [])]
        start: dict[ChannelId, tuple[int, int]] = {}
        for text, entries, derived in parsed:
            start[find_channel(self._context, text).channel_id] = (entries, derived)
        return Wish(channels=frozenset(channels), start=start, kinds=wanted)


async def _body(route: Route, request: web.Request) -> object:
    if route.request is None:
        return None
    if route.request is bytes:
        if request.content_type not in ("application/wasm", "application/octet-stream"):
            raise _media_type(request, "application/wasm")
        return await request.read()
    data = await request.read()
    if not data:
        data = b"{}"
    elif request.content_type != "application/json":
        # Also what keeps a foreign page's form from being taken for a request.
        raise _media_type(request, "application/json")
    assert issubclass(route.request, RequestDocument)
    return decode_body(data, route.request)


def decode_body(data: bytes, kind: type[RequestDocument]) -> RequestDocument:
    """The document of a request. Raises ApiError."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise ApiError("bad_request", f"the body does not fit {kind.__name__}: {error}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ApiError("bad_json", f"the body is not JSON: {error}") from None


def _media_type(request: web.Request, allowed: str) -> ApiError:
    return ApiError("unsupported_media_type", f"Content-Type is {request.content_type!r}; allowed is {allowed}")


def _from_http(request: web.Request, error: web.HTTPException) -> ApiError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return ApiError("method_not_allowed", f"{request.method} {request.path}: allowed is {allowed}")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return ApiError("too_large", "the body is larger than api.body_bytes_max allows")
    if error.status == 404:
        return ApiError("not_found", f"no path {request.path[:200]!r}", "GET /v1/openapi.json lists all paths")
    return ApiError("bad_request", error.reason or str(error.status))


def _json(document: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(document), status=status, content_type="application/json", headers=headers
    )
