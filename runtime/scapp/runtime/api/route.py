"""What one path of the API is; `routes.py` and `routes_ledgers.py` list them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from scapp.runtime.api.call import Call
from scapp.runtime.documents import Document, Permission, RequestDocument

Handler = Callable[[Call], Awaitable[Document | bytes | str]]


class Query(msgspec.Struct, frozen=True):
    """One parameter of the query string."""

    name: str
    description: str
    kind: Literal["string", "integer"] = "string"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """`permission` None: no token needed. `request`: the body's document, or bytes for an upload. `handler` None:
    the server answers itself (the stream, the OpenAPI document, the token). `response` bytes: a module, str: text."""

    method: Literal["GET", "POST"]
    path: str
    name: str
    summary: str
    permission: Permission | None = "read"
    response: type[Document] | type[bytes] | type[str] | None = None
    request: type[RequestDocument] | type[bytes] | None = None
    query: tuple[Query, ...] = ()
    handler: Handler | None = None
