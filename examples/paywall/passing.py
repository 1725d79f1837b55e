"""What goes through the paywall as it is: headers, addresses, places in a body. Pure but for aiohttp's types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from aiohttp import ClientResponse, hdrs
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from examples.paywall.offers import STREAM_HEADER, VOUCHER_HEADER

# What concerns one connection only (RFC 9110 section 7.6.1), and what is meant for the paywall.
NOT_PASSED_ON = frozenset(
    name.lower()
    for name in (
        hdrs.CONNECTION,
        hdrs.EXPECT,
        hdrs.HOST,
        hdrs.KEEP_ALIVE,
        hdrs.PROXY_AUTHENTICATE,
        hdrs.PROXY_AUTHORIZATION,
        hdrs.TE,
        hdrs.TRAILER,
        hdrs.TRANSFER_ENCODING,
        hdrs.UPGRADE,
        "Proxy-Connection",
        VOUCHER_HEADER,
        STREAM_HEADER,
    )
)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/")


def passed_on(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Headers of a request or an answer without those of its connection."""
    named = {name.strip().lower() for value in headers.getall(hdrs.CONNECTION, ()) for name in value.split(",")}
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in NOT_PASSED_ON | named)


def address_at(service: URL, target: URL) -> URL:
    """A request's target at the service, byte for byte."""
    return URL(f"{service.origin()}{service.raw_path.rstrip('/')}{target.raw_path_qs}", encoded=True)


def is_plain(target: URL) -> bool:
    """Does the path name what it seems to? With dot segments it may be another one to the service, at another price."""
    segments = re.split(r"[/\\]", unquote(unquote(target.raw_path)))
    return not {".", ".."} & {segment.partition(";")[0] for segment in segments}


def first_byte(status: int, headers: Mapping[str, str]) -> int:
    """Where in the whole resource an answer's body begins."""
    found = _CONTENT_RANGE.match(headers.get(hdrs.CONTENT_RANGE, "")) if status == 206 else None
    return int(found[1]) if found else 0


def body_bytes(method: str, answer: ClientResponse) -> int | None:
    """How long the answer's body is; None when only its end will tell."""
    if method == hdrs.METH_HEAD or answer.status in (204, 304):
        return 0
    return answer.content_length
