"""From the books' own types to the documents of the API."""

from __future__ import annotations

from collections.abc import Sequence

from scapp.channels.books.income import Income
from scapp.channels.books.info import LedgerInfo, PaymentReceipt, VirtualInfo
from scapp.channels.nitro_json import write_voucher
from scapp.channels.payments.history import PaymentRow
from scapp.channels.payments.vouchers import Voucher
from scapp.channels.routing.paths import Route
from scapp.runtime.api.context import ApiContext
from scapp.runtime.api.views import hexed, on_chain_view
from scapp.runtime.ledger_documents import (
    IncomeRow,
    LedgerAssetView,
    LedgerView,
    PaymentHistory,
    PaymentRowView,
    PaymentView,
    RouteView,
    VirtualAssetView,
    VirtualView,
    VoucherView,
)


def ledger_view(info: LedgerInfo, context: ApiContext) -> LedgerView:
    return LedgerView(
        channel_id=hexed(info.channel_id),
        peer=hexed(info.peer),
        peer_name=_peer_name(info.peer, context),
        leads=info.leads,
        phase=info.phase,  # type: ignore[arg-type]  # the books' words are the document's
        waiting_for=waiting_text(info, context.chain.status().fault if context.chain is not None else ""),
        reason=info.reason,
        turn=info.turn,
        challenge_duration_s=info.challenge_duration_s,
        assets=[
            LedgerAssetView(
                asset=hexed(each.asset),
                mine=str(each.mine),
                theirs=str(each.theirs),
                locked=str(each.locked),
                announced=str(each.announced),
            )
            for each in info.assets
        ],
        channels=[hexed(channel) for channel in info.channels],
        queued=info.queued,
        chain=on_chain_view(info.channel_id, info.chain, context.chain),
    )


def _peer_name(address: bytes, context: ApiContext) -> str:
    """Empty for one that has none."""
    return next((peer.name for peer in context.peers.all() if peer.raw == address), "")


def waiting_text(info: LedgerInfo, fault: str) -> str:
    """What a ledger waits for, and that the chain does not answer, where it is for that."""
    on_chain = info.phase in ("funding", "closed", "disputed") or any(each.announced for each in info.assets)
    return f"{info.waiting_for}; the chain does not answer: {fault}" if fault and on_chain else info.waiting_for


def income_row(found: Income, context: ApiContext) -> IncomeRow:
    return IncomeRow(
        asset=hexed(found.asset),
        peer=hexed(found.peer),
        peer_name=_peer_name(found.peer, context),
        channels=found.channels,
        channel_fees=str(found.channel_fees),
        payments=found.payments,
        payment_fees=str(found.payment_fees),
        total=str(found.channel_fees + found.payment_fees),
    )


def virtual_view(info: VirtualInfo) -> VirtualView:
    return VirtualView(
        channel_id=hexed(info.channel_id),
        kind=info.kind,
        role=info.role,
        phase=info.phase,  # type: ignore[arg-type]  # the books' words are the document's
        waiting_for=info.waiting_for,
        reason=info.reason,
        participants=[hexed(participant) for participant in info.participants],
        my_index=info.my_index,
        challenge_duration_s=info.challenge_duration_s,
        assets=[
            VirtualAssetView(asset=hexed(each.asset), first=str(each.first), last=str(each.last))
            for each in info.assets
        ],
        fees=[str(fee) for fee in info.fees],
        paid=str(info.paid),
        locks=info.locks,
        locked=str(info.locked),
    )


def route_view(route: Route) -> RouteView:
    """Of one route."""
    return RouteView(
        hubs=[hexed(hub) for hub in route.hubs],
        fees=list(map(str, route.fees)),
        fee=str(route.fee),
        sure=route.sure,
        expires_ms=route.expires_ms if route.hubs else None,
    )


def payment_view(receipt: PaymentReceipt) -> PaymentView:
    return PaymentView(
        channel_id=hexed(receipt.channel_id),
        amount=str(receipt.amount),
        paid=str(receipt.paid),
        remaining=str(receipt.remaining),
        voucher=write_voucher(receipt.voucher),
        seen=receipt.seen,
    )


def voucher_view(info: VirtualInfo, voucher: Voucher | None, added: int = 0) -> VoucherView:
    return VoucherView(
        channel_id=hexed(info.channel_id),
        payer=hexed(info.participants[0]),
        asset=hexed(info.assets[0].asset),
        paid=str(min(voucher.amount, info.paid) if voucher is not None else 0),
        added=str(added),
        voucher=write_voucher(voucher) if voucher is not None else "",
    )


def history_view(rows: Sequence[PaymentRow], first: int) -> PaymentHistory:
    return PaymentHistory(
        rows=[
            PaymentRowView(
                version=row.version,
                at_ms=row.at_ms,
                kind=row.kind,
                amounts=list(map(str, row.amounts)),
                total=str(row.total) if row.total is not None else None,
            )
            for row in rows
        ],
        next=rows[-1].version + 1 if rows else first,
    )
