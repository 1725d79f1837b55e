"""What a node's answers mean to its client: documents, errors by class, server-sent events; `client.py` asks."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from scapp.channels.errors import ScappError
from scapp.runtime.documents import ErrorDocument

T = TypeVar("T")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_making = threading.Lock()


class ClientError(ScappError):
    """Base of what a call can raise; `code` is the API's error code, `hint` says what to do."""

    def __init__(self, message: str, *, code: str = "", hint: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.status = status


class NodeUnreachable(ClientError):
    """Nobody answers at the address; nothing is known about what was asked."""


class NotAllowed(ClientError):
    """The token is unknown or does not permit this."""


class Refused(ClientError):
    """The node refused what was asked; nothing changed."""


class NodeTimeout(ClientError):
    """Not done in time; it may still happen."""


class NodeFailed(ClientError):
    """The node could not do it now: the database is down, a channel is corrupt, or a bug."""


def decoded(data: bytes, kind: type[T]) -> T:
    """An answer of this kind. Raises msgspec.MsgspecError for another.

    msgspec completes a type when it is first used, and a thread that uses it meanwhile takes the process down: programs
    have clients in several threads, so decoders are made one at a time."""
    decoder = _decoders.get(kind)
    if decoder is None:
        with _making:
            decoder = _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    found: T = decoder.decode(data)
    return found


def sse(response: http.client.HTTPResponse) -> Iterator[tuple[str, bytes]]:
    """(event name, data) of each server-sent event; comments are skipped."""
    name, data = "message", b""
    while True:
        line = response.readline()
        if not line:
            return
        line = line.rstrip(b"\r\n")
        if not line:
            if data:
                yield name, data
            name, data = "message", b""
        elif line.startswith(b"event:"):
            name = line[6:].strip().decode()
        elif line.startswith(b"data:"):
            data += line[5:].strip()


def error_of(status: int, data: bytes) -> ClientError:
    """The error an answer other than 200 stands for."""
    try:
        body = decoded(data, ErrorDocument).error
    except msgspec.MsgspecError:
        return NodeFailed(f"HTTP {status}, and not from a scapp node: {data[:200]!r}", status=status)
    if body.code == "timeout":
        kind: type[ClientError] = NodeTimeout
    elif status in (401, 403):
        kind = NotAllowed
    elif status >= 500:
        kind = NodeFailed
    else:
        kind = Refused
    return kind(body.message, code=body.code, hint=body.hint, status=status)
