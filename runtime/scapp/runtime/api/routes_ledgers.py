"""The paths of the API about ledgers, and the channels that they fund; part of the table in `routes.py`."""

from __future__ import annotations

from scapp.runtime.api import handlers_ledgers
from scapp.runtime.api.route import Query, Route
from scapp.runtime.documents import RejectRequest, WaitRequest
from scapp.runtime.ledger_documents import (
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

_LEDGER = "/v1/ledgers/{ledger}"
_VIRTUAL = "/v1/virtual/{channel}"
LEDGER_ROUTES: tuple[Route, ...] = (
    Route(
        method="GET", path="/v1/ledgers", name="list_ledgers", summary="Ledgers of this node",
        response=LedgerList, handler=handlers_ledgers.ledgers,
    ),
    Route(
        method="POST", path="/v1/ledgers", name="open_ledger", summary="Propose a ledger to a peer",
        permission="admin", request=OpenLedgerRequest, response=LedgerView, handler=handlers_ledgers.open_ledger,
    ),
    Route(
        method="GET", path="/v1/income", name="list_income", summary="What this node has earned as a hub",
        response=IncomeView, handler=handlers_ledgers.income,
        query=(
            Query("since", "milliseconds since 1970, 0 if not given", "integer"),
            Query("until", "and before that time, now if not given", "integer"),
        ),
    ),
    Route(
        method="GET", path=_LEDGER, name="get_ledger", summary="One ledger",
        response=LedgerView, handler=handlers_ledgers.ledger,
    ),
    Route(
        method="POST", path=_LEDGER + "/accept", name="accept_ledger", summary="Accept a proposed ledger",
        permission="admin", request=WaitRequest, response=LedgerView, handler=handlers_ledgers.accept,
    ),
    Route(
        method="POST", path=_LEDGER + "/reject", name="reject_ledger", summary="Reject a proposed ledger",
        permission="admin", request=RejectRequest, response=LedgerView, handler=handlers_ledgers.reject,
    ),
    Route(
        method="POST", path=_LEDGER + "/top-up", name="top_up_ledger", summary="Deposit more while the ledger goes on",
        permission="admin", request=LedgerAmountRequest, response=LedgerView, handler=handlers_ledgers.top_up,
    ),
    Route(
        method="POST", path=_LEDGER + "/cancel-top-up", name="cancel_top_up_ledger",
        summary="Take a top-up back that was not sent to the chain yet", permission="admin",
        request=LedgerAssetRequest, response=LedgerView, handler=handlers_ledgers.cancel_top_up,
    ),
    Route(
        method="POST", path=_LEDGER + "/transfer", name="transfer_in_ledger",
        summary="Give the peer a part of what this node has in a ledger",
        permission="admin", request=LedgerAmountRequest, response=LedgerView, handler=handlers_ledgers.transfer,
    ),
    Route(
        method="POST", path=_LEDGER + "/close", name="close_ledger",
        summary="End a ledger that funds nothing; both are paid out", permission="admin",
        request=WaitRequest, response=LedgerView, handler=handlers_ledgers.close,
    ),
    Route(
        method="POST", path=_LEDGER + "/challenge", name="challenge_ledger",
        summary="Leave a ledger without the peer, by a challenge", permission="admin",
        request=WaitRequest, response=LedgerView, handler=handlers_ledgers.challenge,
    ),
    Route(
        method="POST", path=_LEDGER + "/withdraw", name="withdraw_ledger",
        summary="Have a closed or finalized ledger paid out now", permission="admin",
        request=WaitRequest, response=LedgerView, handler=handlers_ledgers.withdraw,
    ),
    Route(
        method="POST", path=_LEDGER + "/recover", name="recover_ledger",
        summary="End the recovery of a restored ledger without the peer's answer", permission="admin",
        request=RecoverRequest, response=LedgerView, handler=handlers_ledgers.recover,
    ),
    Route(
        method="GET", path="/v1/virtual", name="list_virtual", summary="Channels that ledgers fund, at all their nodes",
        response=VirtualList, query=(Query("kind", "payment or app"),), handler=handlers_ledgers.virtuals,
    ),
    Route(
        method="POST", path="/v1/virtual", name="open_payments", summary="Open a payment channel over hubs",
        permission="funds", request=OpenPaymentsRequest, response=VirtualView,
        handler=handlers_ledgers.open_payments,
    ),
    Route(
        method="POST", path="/v1/routes", name="find_routes", summary="Ways to a node over announced hubs",
        request=RoutesRequest, response=RouteList, handler=handlers_ledgers.routes,
    ),
    Route(
        method="GET", path=_VIRTUAL, name="get_virtual", summary="One channel that ledgers fund",
        response=VirtualView, handler=handlers_ledgers.virtual,
    ),
    Route(
        method="POST", path=_VIRTUAL + "/pay", name="pay", summary="Pay in a payment channel", permission="funds",
        request=PayRequest, response=PaymentView, handler=handlers_ledgers.pay,
    ),
    Route(
        method="GET", path=_VIRTUAL + "/voucher", name="get_voucher", permission="send",
        summary="The largest voucher of a payment channel", response=VoucherView, handler=handlers_ledgers.voucher,
    ),
    Route(
        method="GET", path=_VIRTUAL + "/payments", name="list_payments", summary="What was paid in a payment channel",
        response=PaymentHistory, handler=handlers_ledgers.payment_history,
        query=(
            Query("from", "the version to begin at", "integer"),
            Query("limit", "rows at most, 1000 if not given", "integer"),
        ),
    ),
    Route(
        method="POST", path=_VIRTUAL + "/recover", name="recover_payments", permission="admin",
        summary="End the recovery of a restored payment channel without the other's answer",
        request=RecoverRequest, response=VirtualView, handler=handlers_ledgers.recover_payments,
    ),
    Route(
        method="POST", path="/v1/vouchers", name="take_voucher", summary="Take a voucher for this node",
        permission="send", request=VoucherRequest, response=VoucherView, handler=handlers_ledgers.take_voucher,
    ),
    Route(
        method="POST", path=_VIRTUAL + "/challenge", name="challenge_virtual",
        summary="Settle a channel on chain without the others; a voucher is redeemed so", permission="admin",
        request=WaitRequest, response=VirtualView, handler=handlers_ledgers.challenge_virtual,
    ),
    Route(
        method="POST", path=_VIRTUAL + "/close", name="close_virtual",
        summary="End a payment channel; what was paid moves in the ledgers", permission="channels",
        request=WaitRequest, response=VirtualView, handler=handlers_ledgers.close_virtual,
    ),
)  # fmt: skip
