"""One request as a handler sees it: path, query and body, checked; `server.py` makes it from HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from scapp.channels.errors import LocalError
from scapp.channels.service import ChannelInfo
from scapp.channels.types import Address, ChannelId
from scapp.runtime.api.auth import TokenRecord
from scapp.runtime.api.context import ApiContext
from scapp.runtime.api.errors import ApiError
from scapp.runtime.config import read_address
from scapp.runtime.deployments import App, UnknownApp
from scapp.runtime.document_types import Permission

CHANNEL_PREFIX_DIGITS_MIN = 4
CANDIDATES_SHOWN_MAX = 8
T = TypeVar("T")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """`body` is the decoded request document, the raw bytes of an upload, or None."""

    context: ApiContext
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any = None
    token: TokenRecord | None = None  # None where no token is needed

    def document(self, kind: type[T]) -> T:
        """The body, which `server.py` decoded as the route's request type."""
        assert isinstance(self.body, kind)
        return self.body

    def require(self, permission: Permission, what: str) -> None:
        """For what only some requests to a path need. Raises ApiError."""
        assert self.token is not None
        require(self.token, permission, what)

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A number from the query string."""
        text = self.query.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ApiError("bad_request", f"{name}={text!r} is not allowed; allowed are {low} to {high}")
        return int(text)

    def channel(self) -> ChannelInfo:
        """The channel the path names, by id or by a unique beginning of it."""
        return find_channel(self.context, self.path["channel"])


def require(token: TokenRecord, permission: Permission, what: str) -> None:
    """Does the token permit that? Raises ApiError, which names `what` needs it."""
    if not token.permits(permission):
        raise ApiError(
            "forbidden", f"token {token.name!r} permits {', '.join(token.permissions)}; {what} needs {permission}",
            f"make one with `scapp keys token NAME -p {permission}`",
        )  # fmt: skip


def find_channel(context: ApiContext, text: str) -> ChannelInfo:
    """By id or unique prefix of at least 4 digits. Raises ApiError, or CorruptionError for one that is unreadable."""
    digits = text.lower().removeprefix("0x")
    if len(digits) == 64:
        try:
            return context.service.channel(ChannelId(bytes.fromhex(digits)))
        except (LocalError, ValueError):
            raise _unknown_channel(text) from None
    service = context.service
    known = {*(info.channel_id for info in service.channels()), *service.archived(), *service.corrupt()}
    return service.channel(find_by_prefix(text, known, "channel"))


def find_by_prefix(
    text: str, known: Iterable[ChannelId], what: str, shown: Callable[[ChannelId], str] | None = None
) -> ChannelId:
    """The one of `known` that begins so, of at least 4 digits. Raises ApiError, where `shown` tells several apart."""
    digits = text.lower().removeprefix("0x")
    if len(digits) < CHANNEL_PREFIX_DIGITS_MIN or set(digits) - set("0123456789abcdef"):
        raise ApiError(
            "bad_request",
            f"{text[:80]!r} is not a {what} id; allowed are 64 hex digits or the first {CHANNEL_PREFIX_DIGITS_MIN} "
            "and more of one",
            _shows(what),
        )
    found = [channel_id for channel_id in known if channel_id.hex().startswith(digits)]
    if len(found) > 1:
        listed = f": {listing([shown(each) for each in found])}" if shown is not None else ""
        raise ApiError("ambiguous", f"{text} is the beginning of {len(found)} {what} ids{listed}", "give more digits")
    if not found:
        raise _unknown_channel(text, what)
    return found[0]


def listing(candidates: Sequence[str]) -> str:
    """Those among which a caller has to choose, the first of them if they are many."""
    return "; ".join(candidates[:CANDIDATES_SHOWN_MAX]) + ("; …" if len(candidates) > CANDIDATES_SHOWN_MAX else "")


def _unknown_channel(text: str, what: str = "channel") -> ApiError:
    return ApiError("unknown_channel", f"no {what} {text[:80]} at this node", _shows(what))


def _shows(what: str) -> str:
    command = {"ledger": "ledger list", "virtual channel": "payments list"}.get(what, "channel list")
    return f"`scapp {command}` shows them all"


def find_app(context: ApiContext, text: str) -> App:
    """By name or id prefix. Raises ApiError."""
    try:
        return context.apps.resolve(text)
    except UnknownApp as error:
        raise ApiError("unknown_app", str(error), "`scapp deploy MODULE.wasm` makes an app known") from None
    except LocalError as error:
        raise ApiError("ambiguous", str(error)) from None


def address_of(text: str, field: str) -> Address:
    """An address in a document. Raises ApiError, also for a wrong checksum."""
    try:
        return read_address(text, field)
    except LocalError as error:
        raise ApiError("bad_request", str(error)) from None


def find_peer(context: ApiContext, text: str, hint: str = "`scapp peers add ADDRESS HOST:PORT --name NAME`") -> Address:
    """By address or name. Raises ApiError with the hint."""
    try:
        return context.peers.resolve(text)
    except LocalError as error:
        raise ApiError("unknown_peer", str(error), hint) from None
