"""Handlers about invoices, and payments under hash locks."""

from __future__ import annotations

from scapp.channels.books import info
from scapp.channels.books.info import InvoiceInfo, LockedInfo, LockedPort
from scapp.runtime.api.call import Call, address_of, find_peer
from scapp.runtime.api.handlers_ledgers import amount_of, books_of
from scapp.runtime.api.views import hexed
from scapp.runtime.invoice_documents import (
    InvoiceList,
    InvoiceRequest,
    InvoiceView,
    LockedPaymentList,
    LockedPaymentView,
    PayInvoiceRequest,
)


def _locked(call: Call) -> LockedPort:
    return books_of(call).locked


async def make_invoice(call: Call) -> InvoiceView:
    request = call.document(InvoiceRequest)
    wish = info.InvoiceRequest(
        asset=address_of(request.asset, "asset"),
        amount=amount_of(request.amount),
        expires_in_s=request.expires_in_s,
        memo=request.memo,
    )
    return _invoice_view(await _locked(call).invoice(wish))


async def invoices(call: Call) -> InvoiceList:
    return InvoiceList(invoices=list(map(_invoice_view, _locked(call).invoices())))


async def pay_invoice(call: Call) -> LockedPaymentView:
    request = call.document(PayInvoiceRequest)
    wish = info.PayInvoiceRequest(
        invoice=request.invoice,
        via=tuple(find_peer(call.context, text) for text in request.via),
        fees=tuple(map(amount_of, request.fees)),
        routed=request.routed,
        fee_max=max(amount_of(request.fee_max), sum(map(amount_of, request.fees))),
        wait_s=request.wait_s,
    )
    return _payment_view(await _locked(call).pay(wish))


async def payments(call: Call) -> LockedPaymentList:
    return LockedPaymentList(payments=list(map(_payment_view, _locked(call).payments())))


def _invoice_view(found: InvoiceInfo) -> InvoiceView:
    return InvoiceView(
        invoice=found.invoice,
        hash=hexed(found.hash),
        asset=hexed(found.asset),
        amount=str(found.amount),
        expires_s=found.expires_s,
        memo=found.memo,
        paid=found.paid,
    )


def _payment_view(found: LockedInfo) -> LockedPaymentView:
    return LockedPaymentView(
        hash=hexed(found.hash),
        role=found.role,
        status=found.status,
        asset=hexed(found.asset),
        amount=str(found.amount),
        fee=str(found.fee),
        payee=hexed(found.payee) if found.payee is not None else None,
        incoming=hexed(found.incoming) if found.incoming is not None else None,
        outgoing=hexed(found.outgoing) if found.outgoing is not None else None,
        expiry_s=found.expiry_s,
        preimage=hexed(found.preimage),
        reason=found.reason,
        begun_ms=found.begun_ms,
    )
