"""Which ledger or channel over ledgers a caller means: by its id, the beginning of it, or who is at its other end."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from scapp.channels.books.info import BooksPort, LedgerInfo, VirtualInfo
from scapp.channels.errors import LocalError
from scapp.channels.types import Address, ChannelId
from scapp.runtime.api.call import Call, find_by_prefix, listing
from scapp.runtime.api.errors import ApiError

LEDGER_OVER = ("settled", "rejected")
VIRTUAL_OVER = ("released", "rejected", "failed")
T = TypeVar("T", LedgerInfo, VirtualInfo)


def find_ledger(call: Call, books: BooksPort) -> LedgerInfo:
    """The one that the path names; a peer stands for the ledger with it that is not over, else for the only one.
    Raises ApiError."""
    text = call.path["ledger"]
    known, peer = books.ledgers(), _peer(call, text)
    found = [each for each in known if each.peer == peer]

    def shown(each: LedgerInfo) -> str:
        return f"0x{each.channel_id.hex()[:12]}, {each.phase}, with {_name(call, each.peer)}"

    if found or _is_name(text, peer):
        return _only(text, found, LEDGER_OVER, "ledger", shown)
    by_id = {each.channel_id: each for each in known}
    return by_id[find_by_prefix(text, by_id, "ledger", lambda channel: shown(by_id[channel]))]


def find_virtual(call: Call, books: BooksPort) -> VirtualInfo:
    """The same for channels over ledgers; a peer stands for the payment channel of which it is payer or payee."""
    text = call.path["channel"]
    if re.fullmatch("0x[0-9a-f]{64}", text):  # as programs say it, who pay often: nothing is looked through
        with contextlib.suppress(LocalError):
            return books.virtual(ChannelId(bytes.fromhex(text[2:])))
    known, peer = books.virtuals(), _peer(call, text)
    found = [each for each in known if each.kind == "payment" and peer in (each.participants[0], each.participants[-1])]

    def shown(each: VirtualInfo) -> str:
        ends = " to ".join(_name(call, end) for end in (each.participants[0], each.participants[-1]))
        return f"0x{each.channel_id.hex()[:12]}, {each.phase}, {ends}"

    if found or _is_name(text, peer):
        return _only(text, found, VIRTUAL_OVER, "payment channel", shown)
    by_id = {each.channel_id: each for each in known}
    return by_id[find_by_prefix(text, by_id, "virtual channel", lambda channel: shown(by_id[channel]))]


def _peer(call: Call, text: str) -> Address | None:
    """The peer with that name or address; None for what can only be an id."""
    try:
        return call.context.peers.resolve(text)
    except LocalError:
        return None


def _is_name(text: str, peer: Address | None) -> bool:
    """And no beginning of an id: that may have as many digits as an address."""
    return peer is not None and bool(set(text.lower().removeprefix("0x")) - set("0123456789abcdef"))


def _only(text: str, found: list[T], over: Sequence[str], what: str, shown: Callable[[T], str]) -> T:
    """Raises ApiError, which names those among which the caller has to choose."""
    live = [each for each in found if each.phase not in over] or found
    if len(live) == 1:
        return live[0]
    if not live:
        raise ApiError("unknown_channel", f"there is no {what} with {text}", _command(what))
    listed = listing([shown(each) for each in live])
    raise ApiError("ambiguous", f"{text} may be {len(live)} {what}s: {listed}", "give its id, or the beginning of it")


def _command(what: str) -> str:
    return f"`scapp {'ledger' if what == 'ledger' else 'payments'} list` shows them all"


def _name(call: Call, address: Address) -> str:
    known = (peer.name for peer in call.context.peers.all() if peer.raw == address)
    return next(known, "") or f"0x{address.hex()}"
