"""The part of the Python client that is about invoices and payments under hash locks; `client.Client` has it all."""

from __future__ import annotations

from collections.abc import Sequence

from scapp.runtime.client_calls import Calls
from scapp.runtime.invoice_documents import (
    InvoiceList,
    InvoiceView,
    LockedPaymentList,
    LockedPaymentView,
)


class InvoiceCalls(Calls):
    """Methods over the calls. Amounts are in the asset's smallest unit."""

    def make_invoice(self, asset: str, amount: int, *, expires_in_s: int = 3_600, memo: str = "") -> InvoiceView:
        """Ask to be paid by whoever gets the invoice's text."""
        body = {"asset": asset, "amount": str(amount), "expires_in_s": expires_in_s, "memo": memo}
        return self._post("/v1/invoices", InvoiceView, body)

    def invoices(self) -> list[InvoiceView]:
        """Those of this node, oldest first."""
        return self._get("/v1/invoices", InvoiceList).invoices

    def pay_invoice(
        self,
        invoice: str,
        *,
        via: Sequence[str] = (),
        fees: Sequence[int] = (),
        routed: bool = False,
        fee_max: int = 0,
        wait_s: float = 30.0,
    ) -> LockedPaymentView:
        """Pay over the hubs `via`, or `routed`; hubs that ask for more than their fee get it, up to `fee_max`. Waits up
        to `wait_s` for the end; the same invoice again is the same payment."""
        body = {
            "invoice": invoice,
            "via": list(via),
            "fees": [str(fee) for fee in fees],
            "routed": routed,
            "fee_max": str(fee_max),
            "wait_s": wait_s,
        }
        return self._post("/v1/locked-payments", LockedPaymentView, body, wait_s + 30.0)  # ways are asked before

    def locked_payments(self) -> list[LockedPaymentView]:
        """Those that this node pays, passes on or is paid, oldest first."""
        return self._get("/v1/locked-payments", LockedPaymentList).payments
