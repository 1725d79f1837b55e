"""The paths of the API about invoices, and payments under hash locks; part of the table in `routes.py`."""

from __future__ import annotations

from scapp.runtime.api import handlers_invoices
from scapp.runtime.api.route import Route
from scapp.runtime.invoice_documents import (
    InvoiceList,
    InvoiceRequest,
    InvoiceView,
    LockedPaymentList,
    LockedPaymentView,
    PayInvoiceRequest,
)

INVOICE_ROUTES: tuple[Route, ...] = (
    Route(
        method="POST", path="/v1/invoices", name="make_invoice", summary="Ask to be paid by whoever gets the invoice",
        permission="send", request=InvoiceRequest, response=InvoiceView, handler=handlers_invoices.make_invoice,
    ),
    Route(
        method="GET", path="/v1/invoices", name="list_invoices", summary="Invoices of this node",
        permission="send", response=InvoiceList, handler=handlers_invoices.invoices,
    ),
    Route(
        method="POST", path="/v1/locked-payments", name="pay_invoice", permission="funds",
        summary="Pay an invoice over channels that take hash locks", request=PayInvoiceRequest,
        response=LockedPaymentView, handler=handlers_invoices.pay_invoice,
    ),
    Route(
        method="GET", path="/v1/locked-payments", name="list_locked_payments", permission="send",
        summary="Payments under hash locks that this node pays, passes on or is paid", response=LockedPaymentList,
        handler=handlers_invoices.payments,
    ),
)  # fmt: skip
