"""Handlers about ledgers, and the channels that they fund: open, change, pay, close."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from scapp.channels.abi import InvalidValue
from scapp.channels.books.info import (
    BooksPort,
    LedgerAsset,
    LedgerInfo,
    LedgerRequest,
    PaymentChannelRequest,
    RouteRequest,
    VirtualInfo,
)
from scapp.channels.errors import LocalError
from scapp.channels.nitro_json import read_voucher
from scapp.channels.payments.vouchers import VoucherRefused
from scapp.channels.routing.paths import HUBS_USUAL
from scapp.channels.types import U256_MAX, Address, ChannelId
from scapp.runtime.api.call import Call, address_of, find_peer
from scapp.runtime.api.errors import ApiError
from scapp.runtime.api.finding import LEDGER_OVER, VIRTUAL_OVER, find_ledger, find_virtual
from scapp.runtime.api.ledger_views import (
    history_view,
    income_row,
    ledger_view,
    payment_view,
    route_view,
    virtual_view,
    voucher_view,
)
from scapp.runtime.documents import RejectRequest, WaitRequest
from scapp.runtime.ledger_documents import (
    FundsView,
    IncomeView,
    LedgerAmountRequest,
    LedgerAssetRequest,
    LedgerList,
    LedgerView,
    OpenLedgerRequest,
    OpenPaymentsRequest,
    PaymentHistory,
    PaymentView,
    PayRequest,
    RouteList,
    RoutesRequest,
    VirtualList,
    VirtualView,
    VoucherRequest,
    VoucherView,
)
from scapp.runtime.recovery_documents import RecoverRequest

HISTORY_ROWS_MAX = 1_000
MS_MAX = 2**53 - 1


def books_of(call: Call) -> BooksPort:
    """The node's ledgers. Raises ApiError for a node that has none."""
    books = call.context.books
    if books is None:
        raise ApiError("refused", "this node has no chain, and so no ledgers", "docs/howto/fund-a-channel.md")
    return books


def _ledger(call: Call) -> LedgerInfo:
    return find_ledger(call, books_of(call))


def _virtual(call: Call) -> VirtualInfo:
    return find_virtual(call, books_of(call))


def _paid_in(call: Call) -> VirtualInfo:
    """A channel whose payments this node knows. Raises ApiError."""
    info = _virtual(call)
    if info.role == "hub":
        raise ApiError("refused", "this node is a hub of that channel: only its payer and its payee see what is paid")
    return info


async def _ledger_then(call: Call, channel: ChannelId, wait_s: float, done: Callable[[LedgerInfo], bool]) -> LedgerView:
    """The ledger as it stands when it is done or the wait ends: what was asked is durable either way."""
    books = books_of(call)
    info = books.ledger(channel)
    if wait_s > 0:
        try:
            info = await books.wait_ledger(channel, lambda now: done(now) or now.phase in LEDGER_OVER, wait_s)
        except TimeoutError:
            info = books.ledger(channel)
    return ledger_view(info, call.context)


async def _virtual_then(call: Call, channel: ChannelId, wait_s: float, phase: str) -> VirtualView:
    books = books_of(call)
    info = books.virtual(channel)
    if wait_s > 0:
        try:
            info = await books.wait_virtual(
                channel, lambda now: now.phase == phase or now.phase in VIRTUAL_OVER, wait_s
            )
        except TimeoutError:
            info = books.virtual(channel)
    return virtual_view(info)


async def ledgers(call: Call) -> LedgerList:
    return LedgerList(ledgers=[ledger_view(info, call.context) for info in books_of(call).ledgers()])


async def ledger(call: Call) -> LedgerView:
    return ledger_view(_ledger(call), call.context)


async def open_ledger(call: Call) -> LedgerView:
    request = call.document(OpenLedgerRequest)
    channel = await books_of(call).open_ledger(
        LedgerRequest(
            peer=find_peer(call.context, request.peer),
            funds=_funds(request.funds),
            challenge_duration_s=request.challenge_duration_s,
            pay_to=address_of(request.pay_to, "pay_to") if request.pay_to else None,
        )
    )
    return await _ledger_then(call, channel, request.wait_s, _runs)


async def accept(call: Call) -> LedgerView:
    info = _ledger(call)
    await books_of(call).accept_ledger(info.channel_id)
    return await _ledger_then(call, info.channel_id, call.document(WaitRequest).wait_s, _runs)


async def reject(call: Call) -> LedgerView:
    info = _ledger(call)
    await books_of(call).reject_ledger(info.channel_id, call.document(RejectRequest).reason)
    return ledger_view(books_of(call).ledger(info.channel_id), call.context)


async def top_up(call: Call) -> LedgerView:
    info, request = _ledger(call), call.document(LedgerAmountRequest)
    asset, amount = address_of(request.asset, "asset"), amount_of(request.amount)
    mine = _mine(info, asset)
    await books_of(call).top_up(info.channel_id, asset, amount)
    return await _ledger_then(call, info.channel_id, request.wait_s, lambda now: _mine(now, asset) > mine)


async def cancel_top_up(call: Call) -> LedgerView:
    info, request = _ledger(call), call.document(LedgerAssetRequest)
    asset = address_of(request.asset, "asset")
    await books_of(call).cancel_top_up(info.channel_id, asset)
    return await _ledger_then(call, info.channel_id, request.wait_s, lambda now: not _of(now, asset).announced)


async def transfer(call: Call) -> LedgerView:
    info, request = _ledger(call), call.document(LedgerAmountRequest)
    asset, amount = address_of(request.asset, "asset"), amount_of(request.amount)
    mine = _mine(info, asset)
    await books_of(call).transfer(info.channel_id, asset, amount)
    return await _ledger_then(call, info.channel_id, request.wait_s, lambda now: _mine(now, asset) < mine)


async def close(call: Call) -> LedgerView:
    info = _ledger(call)
    await books_of(call).close_ledger(info.channel_id)
    return await _ledger_then(call, info.channel_id, call.document(WaitRequest).wait_s, lambda now: False)


async def challenge(call: Call) -> LedgerView:
    info = _ledger(call)
    await books_of(call).challenge_ledger(info.channel_id)
    return await _ledger_then(call, info.channel_id, call.document(WaitRequest).wait_s, lambda now: False)


async def withdraw(call: Call) -> LedgerView:
    info = _ledger(call)
    await books_of(call).withdraw_ledger(info.channel_id)
    return await _ledger_then(call, info.channel_id, call.document(WaitRequest).wait_s, lambda now: False)


async def recover(call: Call) -> LedgerView:
    info = _ledger(call)
    if not call.document(RecoverRequest).override:
        raise ApiError(
            "bad_request",
            "a restored ledger recovers by itself once the peer has told its highest signed state",
            "with `override`: true it goes on without that, and may contradict what this node has signed before",
        )
    await books_of(call).recover_ledger(info.channel_id)
    return ledger_view(books_of(call).ledger(info.channel_id), call.context)


async def virtuals(call: Call) -> VirtualList:
    kind = call.query.get("kind")
    return VirtualList(channels=[virtual_view(info) for info in books_of(call).virtuals() if kind in (None, info.kind)])


async def virtual(call: Call) -> VirtualView:
    return virtual_view(_virtual(call))


async def routes(call: Call) -> RouteList:
    request = call.document(RoutesRequest)
    found = books_of(call).routes(
        RouteRequest(
            to=find_peer(call.context, request.to),
            amounts=_funds(request.funds),
            challenge_duration_s=request.challenge_duration_s,
            fee_max=_fee_max(request.fee_max),
            hubs_max=HUBS_USUAL if request.hubs_max is None else request.hubs_max,
        )
    )
    return RouteList(routes=list(map(route_view, found)))


async def open_payments(call: Call) -> VirtualView:
    request, books = call.document(OpenPaymentsRequest), books_of(call)
    wish = PaymentChannelRequest(
        payee=find_peer(call.context, request.payee),
        asset=address_of(request.asset, "asset"),
        amount=amount_of(request.amount),
        via=tuple(find_peer(call.context, text) for text in request.via),
        fees=tuple(map(amount_of, request.fees)) or (0,) * len(request.via),
        challenge_duration_s=request.challenge_duration_s,
        locks=request.locks,
    )
    if not request.routed:
        return await _virtual_then(call, await books.open_payments(wish), request.wait_s, "running")
    if request.via:
        raise ApiError("bad_request", "a channel either names its hubs in `via` or is `routed`")
    channel = await books.open_payments_routed(wish, _fee_max(request.fee_max), request.wait_s)
    return virtual_view(books.virtual(channel))


async def pay(call: Call) -> PaymentView:
    info, request = _virtual(call), call.document(PayRequest)
    return payment_view(await books_of(call).pay(info.channel_id, amount_of(request.amount), request.wait_s))


async def voucher(call: Call) -> VoucherView:
    info = _paid_in(call)
    return voucher_view(info, books_of(call).voucher(info.channel_id))


async def take_voucher(call: Call) -> VoucherView:
    books = books_of(call)
    try:
        brought = read_voucher(call.document(VoucherRequest).voucher)
    except InvalidValue as error:
        raise ApiError("bad_request", f"the voucher cannot be read: {error}") from None
    try:
        added = await books.take_voucher(brought)
    except VoucherRefused as error:
        raise ApiError("refused", str(error)) from None
    return voucher_view(books.virtual(brought.channel), books.voucher(brought.channel), added)


async def recover_payments(call: Call) -> VirtualView:
    info = _virtual(call)
    if not call.document(RecoverRequest).override:
        raise ApiError(
            "bad_request",
            "a restored payment channel recovers by itself once the other end has told its largest voucher",
            "with `override`: true it goes on without that, and may promise again what was promised before",
        )
    await books_of(call).recover_payments(info.channel_id)
    return virtual_view(books_of(call).virtual(info.channel_id))


async def payment_history(call: Call) -> PaymentHistory:
    """Of a channel that the books have forgotten too, by its whole id: what was paid stays in the log."""
    first = call.integer("from", 0, 0, 2**63 - 1)
    limit = call.integer("limit", HISTORY_ROWS_MAX, 1, HISTORY_ROWS_MAX)
    try:
        channel = _paid_in(call).channel_id
    except ApiError as unknown:
        whole = re.fullmatch("0x([0-9a-f]{64})", call.path["channel"])
        if unknown.code != "unknown_channel" or whole is None:
            raise
        channel = ChannelId(bytes.fromhex(whole[1]))
        try:
            rows = await books_of(call).payment_history(channel, first, limit)
        except LocalError:  # the log has none either
            raise unknown from None
    else:
        rows = await books_of(call).payment_history(channel, first, limit)
    return history_view(rows, first)


async def income(call: Call) -> IncomeView:
    """From the whole log, on a thread: of a hub with a million channels that takes minutes."""
    now_ms = time.time_ns() // 1_000_000
    since_ms = call.integer("since", 0, 0, MS_MAX)
    until_ms = call.integer("until", max(now_ms, since_ms + 1), 0, MS_MAX)
    if since_ms >= until_ms:
        raise ApiError("bad_request", f"since={since_ms} and until={until_ms}: nothing lies between them")
    found = await books_of(call).income(since_ms, until_ms)
    rows = [income_row(each, call.context) for each in found]
    return IncomeView(since_ms=since_ms, until_ms=until_ms, rows=rows)


async def challenge_virtual(call: Call) -> VirtualView:
    info = _virtual(call)
    await books_of(call).challenge_virtual(info.channel_id)
    return await _virtual_then(call, info.channel_id, call.document(WaitRequest).wait_s, "released")


async def close_virtual(call: Call) -> VirtualView:
    info = _virtual(call)
    await books_of(call).close_virtual(info.channel_id)
    return await _virtual_then(call, info.channel_id, call.document(WaitRequest).wait_s, "released")


def _runs(info: LedgerInfo) -> bool:
    return info.phase in ("running", "disputed", "closing", "closed")


def _mine(info: LedgerInfo, asset: bytes) -> int:
    return _of(info, asset).mine


def _of(info: LedgerInfo, asset: bytes) -> LedgerAsset:
    for each in info.assets:
        if each.asset == asset:
            return each
    raise LocalError(f"the ledger holds no asset 0x{asset.hex()}")


def _funds(funds: Sequence[FundsView]) -> tuple[tuple[Address, int, int], ...]:
    return tuple((address_of(each.asset, "asset"), amount_of(each.mine), amount_of(each.theirs)) for each in funds)


def _fee_max(text: str | None) -> int:
    return U256_MAX if text is None else amount_of(text)


def amount_of(text: str) -> int:
    """An amount out of a document. Raises ApiError for one beyond 256 bits."""
    amount = int(text)
    if amount >= 2**256:
        raise ApiError("bad_request", f"amount {text} does not fit 256 bits")
    return amount
