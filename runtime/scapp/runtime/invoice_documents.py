"""Documents of the local API: invoices, payments under hash locks; `ledger_documents.py` has their channels."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from scapp.runtime.document_types import AddressText, AmountText, Document, HashText, HexText, RequestDocument
from scapp.runtime.ledger_documents import Wait

InvoiceText = Annotated[str, Meta(max_length=1_024, description="begins with scapp1")]


class InvoiceRequest(RequestDocument, frozen=True, kw_only=True):
    """Ask for `amount` of `asset` within `expires_in_s` seconds; `memo` (128 bytes) is for whoever pays."""

    asset: AddressText
    amount: AmountText
    expires_in_s: Annotated[int, Meta(ge=1, lt=2**32)] = 3_600
    memo: Annotated[str, Meta(max_length=128)] = ""


class InvoiceView(Document, frozen=True, kw_only=True):
    """An invoice of this node; `invoice` is what the payer gets."""

    invoice: str
    hash: HashText
    asset: AddressText
    amount: AmountText
    expires_s: int
    memo: str
    paid: bool


class InvoiceList(Document, frozen=True, kw_only=True):
    """The newest thousand, oldest first."""

    invoices: list[InvoiceView]


class PayInvoiceRequest(RequestDocument, frozen=True, kw_only=True):
    """Pay `invoice` over the hubs `via` (addresses or names; none: over a channel with the payee), each of which gets
    its item of `fees`; or `routed`, over whichever. Hubs that ask for more get it, up to `fee_max` for all together.
    The answer waits up to `wait_s` for the end of the payment; the same invoice again is the same payment."""

    invoice: InvoiceText
    via: Annotated[list[str], Meta(max_length=7)] = []
    fees: Annotated[list[AmountText], Meta(max_length=7)] = []
    routed: bool = False
    fee_max: AmountText = "0"
    wait_s: Wait = 30.0


class LockedPaymentView(Document, frozen=True, kw_only=True):
    """A payment under a hash lock. `role`: what this node is in it. `status`: locked; paid; failing (it will not be
    paid, for `reason`, but what is locked comes back at `expiry_s` only); failed (it has come back). `amount` is the
    invoice's where this node pays it, else what this node is paid; `fee`: of all hubs, at a hub its own. `preimage`,
    the payer's receipt, is 0x while unknown; `payee` and channels are null where there are none."""

    hash: HashText
    role: Literal["payer", "hub", "payee"]
    status: Literal["locked", "paid", "failing", "failed"]
    asset: AddressText
    amount: AmountText
    fee: AmountText
    payee: AddressText | None
    incoming: HashText | None
    outgoing: HashText | None
    expiry_s: int
    preimage: HexText
    reason: str
    begun_ms: int


class LockedPaymentList(Document, frozen=True, kw_only=True):
    """The newest thousand, oldest first."""

    payments: list[LockedPaymentView]
