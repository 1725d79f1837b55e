"""The OpenAPI 3.1 document of the API, made from `routes.py` and the types of `scapp.runtime.documents`."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from scapp.runtime.api.routes import ROUTES, Route
from scapp.runtime.documents import ErrorDocument

_REF = "#/components/schemas/{name}"
_BINARY = {"application/wasm": {"schema": {"type": "string", "format": "binary"}}}
_PATH_PARAMETERS = {
    "channel": "channel id, or a unique beginning of it (at least 4 hex digits)",
    "ledger": "ledger id, or a unique beginning of it (at least 4 hex digits)",
    "peer": "address of a peer, or its name",
    "projection": "name of a projection",
    "app": "app name (the latest deployed of that name) or the beginning of its deployment id (8 hex digits)",
}


def openapi_document(version: str, server: str) -> dict[str, Any]:
    """The document; `server` is the base URL this node answers at."""
    kinds: list[Any] = [ErrorDocument]
    for route in ROUTES:
        kinds += [kind for kind in (route.request, route.response) if kind not in (None, bytes, str, *kinds)]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "scapp node API",
            "version": version,
            "description": "The local API of one scapp node. See docs/reference/http-api.md.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "security": [{"bearer": []}] if route.permission else [],
        "parameters": _parameters(route),
        "responses": {"200": _success(route), "default": _json("An error", ErrorDocument)},
    }
    if route.permission:
        operation["description"] = f"Needs a token with permission `{route.permission}`."
    if route.request is not None:
        operation["requestBody"] = {"required": route.request is bytes, "content": _request(route)}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    in_path: list[dict[str, Any]] = [
        {"name": n, "in": "path", "required": True, "description": _PATH_PARAMETERS[n], "schema": {"type": "string"}}
        for n in re.findall(r"{(\w+)}", route.path)
    ]
    in_query = [
        {"name": q.name, "in": "query", "description": q.description, "schema": {"type": q.kind}} for q in route.query
    ]
    return in_path + in_query


def _request(route: Route) -> dict[str, Any]:
    if route.request is bytes:
        return _BINARY
    return {"application/json": {"schema": {"$ref": _reference(route.request)}}}


def _success(route: Route) -> dict[str, Any]:
    if route.name == "stream":
        text = "Server-sent events; `data` of each is a StreamItem in JSON, `id` is CHANNEL:ENTRIES:DERIVED"
        return {"description": text, "content": {"text/event-stream": {"schema": {"$ref": _reference(route.response)}}}}
    if route.response is bytes:
        return {"description": route.summary, "content": _BINARY}
    if route.response is str:
        return {"description": route.summary, "content": {"text/plain": {"schema": {"type": "string"}}}}
    if route.response is None:
        return {"description": route.summary, "content": {"application/json": {"schema": {"type": "object"}}}}
    return _json("Done", route.response)


def _json(description: str, kind: type) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": {"$ref": _reference(kind)}}}}


def _reference(kind: Any) -> str:
    return _REF.format(name=kind.__name__)
