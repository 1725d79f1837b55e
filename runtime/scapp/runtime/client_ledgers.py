"""The part of the Python client that is about ledgers, and the channels that they fund; `client.Client` has it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scapp.runtime.client_calls import Calls, quoted
from scapp.runtime.ledger_documents import (
    IncomeView,
    LedgerList,
    LedgerView,
    PaymentHistory,
    PaymentView,
    RouteList,
    RouteView,
    VirtualList,
    VirtualView,
    VoucherView,
)


class LedgerCalls(Calls):
    """Methods over the calls. Amounts are in the asset's smallest unit."""

    def ledgers(self) -> list[LedgerView]:
        return self._get("/v1/ledgers", LedgerList).ledgers

    def ledger(self, ledger: str) -> LedgerView:
        return self._get(_ledger(ledger), LedgerView)

    def open_ledger(
        self,
        peer: str,
        mine: Mapping[str, int],
        theirs: Mapping[str, int] | None = None,
        *,
        pay_to: str | None = None,
        challenge_duration_s: int = 86_400,
        wait_s: float = 0.0,
    ) -> LedgerView:
        """Propose a ledger: `mine` and `theirs` are what each deposits, by asset. Waits up to `wait_s` for it to
        run."""
        theirs = theirs or {}
        assets = dict.fromkeys((*mine, *theirs))
        body = {
            "peer": peer,
            "funds": [
                {"asset": asset, "mine": str(mine.get(asset, 0)), "theirs": str(theirs.get(asset, 0))}
                for asset in assets
            ],
            "pay_to": pay_to,
            "challenge_duration_s": challenge_duration_s,
            "wait_s": wait_s,
        }
        return self._post("/v1/ledgers", LedgerView, body, wait_s)

    def accept_ledger(self, ledger: str, wait_s: float = 0.0) -> LedgerView:
        return self._post(f"{_ledger(ledger)}/accept", LedgerView, {"wait_s": wait_s}, wait_s)

    def reject_ledger(self, ledger: str, reason: str = "rejected by the operator") -> LedgerView:
        return self._post(f"{_ledger(ledger)}/reject", LedgerView, {"reason": reason})

    def top_up_ledger(self, ledger: str, asset: str, amount: int, wait_s: float = 0.0) -> LedgerView:
        """Deposit more, while the ledger goes on."""
        return self._post(f"{_ledger(ledger)}/top-up", LedgerView, _amount(asset, amount, wait_s), wait_s)

    def cancel_top_up_ledger(self, ledger: str, asset: str, wait_s: float = 0.0) -> LedgerView:
        """Take a top-up back that was not sent to the chain yet; waits up to `wait_s` for the peer to sign that."""
        return self._post(f"{_ledger(ledger)}/cancel-top-up", LedgerView, {"asset": asset, "wait_s": wait_s}, wait_s)

    def transfer(self, ledger: str, asset: str, amount: int, wait_s: float = 0.0) -> LedgerView:
        """Give the peer a part of what this node has, for nothing."""
        return self._post(f"{_ledger(ledger)}/transfer", LedgerView, _amount(asset, amount, wait_s), wait_s)

    def close_ledger(self, ledger: str, wait_s: float = 0.0) -> LedgerView:
        return self._post(f"{_ledger(ledger)}/close", LedgerView, {"wait_s": wait_s}, wait_s)

    def challenge_ledger(self, ledger: str, wait_s: float = 0.0) -> LedgerView:
        """Leave it without the peer."""
        return self._post(f"{_ledger(ledger)}/challenge", LedgerView, {"wait_s": wait_s}, wait_s)

    def withdraw_ledger(self, ledger: str, wait_s: float = 0.0) -> LedgerView:
        return self._post(f"{_ledger(ledger)}/withdraw", LedgerView, {"wait_s": wait_s}, wait_s)

    def recover_ledger(self, ledger: str) -> LedgerView:
        """End a restored ledger's recovery without the peer's answer: it may contradict what was signed."""
        return self._post(f"{_ledger(ledger)}/recover", LedgerView, {"override": True})

    def virtuals(self, kind: str | None = None) -> list[VirtualView]:
        """Channels that ledgers fund, this node's own and those it forwards; `kind` is payment or app."""
        return self._get("/v1/virtual" + (f"?kind={kind}" if kind else ""), VirtualList).channels

    def virtual(self, channel: str) -> VirtualView:
        return self._get(_virtual(channel), VirtualView)

    def routes(
        self,
        to: str,
        funds: Mapping[str, tuple[int, int]],
        *,
        fee_max: int | None = None,
        hubs_max: int | None = None,
        challenge_duration_s: int = 86_400,
    ) -> list[RouteView]:
        """Ways to a node, the best first, for a channel with these amounts: by asset this node's and the other's."""
        body = {
            "to": to,
            "funds": [{"asset": a, "mine": str(mine), "theirs": str(theirs)} for a, (mine, theirs) in funds.items()],
            "challenge_duration_s": challenge_duration_s,
            "fee_max": None if fee_max is None else str(fee_max),
            "hubs_max": hubs_max,
        }
        return self._post("/v1/routes", RouteList, body).routes

    def open_payments(
        self,
        payee: str,
        asset: str,
        amount: int,
        *,
        via: Sequence[str] = (),
        fees: Sequence[int] = (),
        routed: bool = False,
        fee_max: int | None = None,
        challenge_duration_s: int = 86_400,
        locks: bool = False,
        wait_s: float = 0.0,
    ) -> VirtualView:
        """A payment channel over the hubs `via`, each of which gets its fee; waits up to `wait_s` for it to run. With
        `routed` the node finds the hubs, and other ones while it waits and a way fails; with `locks` it pays
        invoices."""
        body = {
            "payee": payee,
            "asset": asset,
            "amount": str(amount),
            "via": list(via),
            "fees": [str(fee) for fee in fees],
            "routed": routed,
            "fee_max": None if fee_max is None else str(fee_max),
            "challenge_duration_s": challenge_duration_s,
            "locks": locks,
            "wait_s": wait_s,
        }
        return self._post("/v1/virtual", VirtualView, body, wait_s)

    def pay(self, channel: str, amount: int, wait_s: float = 0.0) -> PaymentView:
        """Pay in a payment channel; durable when it returns. Waits up to `wait_s` for the payee to hold it too."""
        return self._post(f"{_virtual(channel)}/pay", PaymentView, {"amount": str(amount), "wait_s": wait_s}, wait_s)

    def voucher(self, channel: str) -> VoucherView:
        """The largest voucher of a payment channel."""
        return self._get(f"{_virtual(channel)}/voucher", VoucherView)

    def take_voucher(self, voucher: str) -> VoucherView:
        """Take a voucher, in go-nitro's JSON, that came in another way than from the payer's node."""
        return self._post("/v1/vouchers", VoucherView, {"voucher": voucher})

    def recover_payments(self, channel: str) -> VirtualView:
        """End a restored payment channel's recovery without the other's answer: it may promise twice."""
        return self._post(f"{_virtual(channel)}/recover", VirtualView, {"override": True})

    def payments(self, channel: str, first: int = 0, limit: int = 1_000) -> PaymentHistory:
        """What was paid in a channel, oldest first, from a version on."""
        return self._get(f"{_virtual(channel)}/payments?from={first}&limit={limit}", PaymentHistory)

    def income(self, since_ms: int = 0, until_ms: int | None = None) -> IncomeView:
        """What this node has earned as a hub from `since_ms` on, up to now or before `until_ms`. Reads its whole log:
        that may take minutes."""
        until = "" if until_ms is None else f"&until={until_ms}"
        return self._get(f"/v1/income?since={since_ms}{until}", IncomeView)

    def challenge_virtual(self, channel: str, wait_s: float = 0.0) -> VirtualView:
        """Settle a channel on chain without the others; a voucher is redeemed so."""
        return self._post(f"{_virtual(channel)}/challenge", VirtualView, {"wait_s": wait_s}, wait_s)

    def close_virtual(self, channel: str, wait_s: float = 0.0) -> VirtualView:
        """End a payment channel; what was paid moves in the ledgers."""
        return self._post(f"{_virtual(channel)}/close", VirtualView, {"wait_s": wait_s}, wait_s)


def _ledger(ledger: str) -> str:
    return "/v1/ledgers/" + quoted(ledger)


def _virtual(channel: str) -> str:
    return "/v1/virtual/" + quoted(channel)


def _amount(asset: str, amount: int, wait_s: float) -> dict[str, Any]:
    return {"asset": asset, "amount": str(amount), "wait_s": wait_s}
