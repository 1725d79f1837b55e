"""From the books' own types to the documents of the API."""

from __future__ import annotations

from scapp.channels.books.info import LedgerInfo, PaymentReceipt, VirtualInfo
from scapp.channels.routing.paths import Route
from scapp.runtime.api.context import ApiContext
from scapp.runtime.api.views import hexed, on_chain_view
from scapp.runtime.ledger_documents import (
    LedgerAssetView,
    LedgerView,
    PaymentView,
    RouteView,
    VirtualAssetView,
    VirtualView,
)


def ledger_view(info: LedgerInfo, context: ApiContext) -> LedgerView:
    return LedgerView(
        channel_id=hexed(info.channel_id),
        peer=hexed(info.peer),
        peer_name=next((peer.name for peer in context.peers.all() if peer.raw == info.peer), ""),
        leads=info.leads,
        phase=info.phase,  # type: ignore[arg-type]  # the books' words are the document's
        waiting_for=info.waiting_for,
        reason=info.reason,
        turn=info.turn,
        challenge_duration_s=info.challenge_duration_s,
        assets=[
            LedgerAssetView(
                asset=hexed(each.asset), mine=str(each.mine), theirs=str(each.theirs), locked=str(each.locked)
            )
            for each in info.assets
        ],
        channels=[hexed(channel) for channel in info.channels],
        queued=info.queued,
        chain=on_chain_view(info.channel_id, info.chain, context.chain),
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
    )
