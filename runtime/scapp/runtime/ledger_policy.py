"""Which ledgers and virtual channels this node joins without asking, by settings; the node's books ask for each.

A ledger that is not accepted waits for `scapp ledger accept` or `reject`. A virtual channel is joined or refused at
once: its proposer waits, and may try another way.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from scapp.channels.books.policy import Decision, LedgerOffer
from scapp.channels.payments.limits import PaymentLimits
from scapp.channels.payments.locked.terms import LockSettings
from scapp.channels.routing.fees import Schedule, Stake, quote
from scapp.channels.routing.own import HubTerms
from scapp.channels.routing.statements import ASSETS_MAX
from scapp.channels.types import Address, money
from scapp.channels.virtual.opening import HubRequest
from scapp.runtime.config import ConfigError, DisputeSettings, FundingSettings, read_address
from scapp.runtime.ledger_settings import HubSettings, LedgerSettings, PaymentSettings
from scapp.runtime.policy import read_amounts


class LedgerPolicy:
    """Implements `books.policy.BooksPolicy`. `peers` is the peers list, which may grow meanwhile."""

    def __init__(
        self,
        ledgers: LedgerSettings,
        payments: PaymentSettings,
        hub: HubSettings,
        *,
        funding: FundingSettings,
        disputes: DisputeSettings,
        peers: Container[Address],
        own_accounts: Iterable[bytes],
    ) -> None:
        """Raises ConfigError for an asset, amount or account that cannot be read."""
        self._ledgers = ledgers
        self._payments = payments
        self._hub = hub
        self._disputes = disputes
        self._peers = peers
        self._accounts = {*own_accounts, *(read_address(text, "funding.pay_to") for text in funding.pay_to)}
        self._deposit_max = read_amounts(ledgers.deposit_max, "ledgers.deposit_max")
        self._payment_max = read_amounts(payments.payment_max, "payments.payment_max")
        self._payee_max = read_amounts(payments.payee_max, "payments.payee_max")
        self._payer_max = read_amounts(payments.payer_max, "payments.payer_max")
        self._locked_max = read_amounts(payments.locked_max, "payments.locked_max")
        self._schedules = _schedules(hub) if hub.forward else ()

    def ledger(self, offer: LedgerOffer) -> Decision:
        """See `BooksPolicy`; so for the next."""
        fault = self._duration_fault(offer.challenge_duration_s, self._disputes.challenge_duration_max_s)
        if fault:
            return "reject", fault
        if self._ledgers.accept == "ask":
            return "ask", "ledgers.accept is ask: every ledger waits for the operator"
        if self._ledgers.peers == "known" and offer.peer not in self._peers:
            return "ask", f"0x{offer.peer.hex()} is not in the peers list; `scapp peers add` it or accept by hand"
        if offer.pays_to[:12] != bytes(12) or offer.pays_to[12:] not in self._accounts:
            return "ask", f"our part would be paid to 0x{offer.pays_to.hex()}, which is not in funding.pay_to"
        for asset, _, own in offer.funds:
            allowed = self._deposit_max.get(asset, 0)
            if own > allowed:
                most = money(allowed, asset, named=True)
                return "ask", f"a deposit of {money(own, asset)}; ledgers.deposit_max allows {most}"
        return "accept", ""

    def virtual(self, request: HubRequest, forwarded: int) -> Decision:
        fault = self._hub_fault(request, forwarded) if request.role == "hub" else self._payee_fault(request)
        return ("reject", fault) if fault else ("accept", "")

    def payment_limits(self) -> dict[Address, PaymentLimits]:
        """By asset, for the payments themselves."""
        return {
            asset: PaymentLimits(
                payment_max=self._payment_max.get(asset),
                payee_max=self._payee_max.get(asset),
                payer_max=self._payer_max.get(asset),
            )
            for asset in {*self._payment_max, *self._payee_max, *self._payer_max}
        }

    def lock_settings(self) -> LockSettings:
        """What this node asks of payments under hash locks; it passes on what it forwards as a hub."""
        return LockSettings(
            margin_s=self._payments.lock_margin_s,
            locks_max=self._payments.locks_max,
            locked_max=self._locked_max,
            schedules=self._schedules,
            least_percent=self._hub.locked_min_percent,
            least_named=frozenset(read_amounts(self._hub.amount_min, "hub.amount_min")),
        )

    def hub_terms(self) -> HubTerms:
        """What this node announces of itself."""
        longest = self._disputes.challenge_duration_max_s
        return HubTerms(
            announce=self._hub.announce,
            schedules=self._schedules,
            duration_min_s=self._disputes.challenge_duration_min_s,
            duration_max_s=min(longest, self._hub.challenge_duration_max_s) if self._hub.forward else longest,
        )

    def _hub_fault(self, request: HubRequest, forwarded: int) -> str:
        if not self._hub.forward:
            return "this node forwards for nobody"
        if forwarded >= self._hub.channels_max:
            return f"this hub stands in {forwarded} channels already"
        stakes = [Stake(asset, first, last) for asset, first, last in request.amounts]
        terms = {schedule.asset: schedule for schedule in self._schedules}
        for stake in stakes:
            known = terms.get(stake.asset, Schedule(stake.asset, 0, 0, 0, 0))
            if not known.takes(stake.total):
                least, most = (money(each, stake.asset, named=True) for each in (known.least, known.most))
                return f"{money(stake.total, stake.asset)}; this hub forwards {least} to {most}"
        asked = quote(self._schedules, stakes)
        if asked is None:
            return "several assets; this hub forwards them only if all but the first cost nothing"
        if request.fee < asked:
            asset = stakes[0].asset
            return f"a fee of {money(request.fee, asset, named=True)}; this hub asks {money(asked, asset)}"
        longest = min(self._hub.challenge_duration_max_s, self._disputes.challenge_duration_max_s)
        return self._duration_fault(request.challenge_duration_s, longest)

    def _payee_fault(self, request: HubRequest) -> str:
        if self._payments.accept == "nobody":
            return "this node takes no payments"
        if self._payments.accept == "known" and request.proposer not in self._peers:
            return "this node takes payments from its peers only"
        return self._duration_fault(request.challenge_duration_s, self._disputes.challenge_duration_max_s)

    def _duration_fault(self, seconds: int, longest: int) -> str:
        least = self._disputes.challenge_duration_min_s
        if not least <= seconds <= longest:
            return f"challenge duration {seconds} s; this node takes {least} to {longest} s"
        return ""


def _schedules(hub: HubSettings) -> tuple[Schedule, ...]:
    """A schedule for each asset that is forwarded. Raises ConfigError."""
    base, least, most = (
        read_amounts(getattr(hub, name), f"hub.{name}") for name in ("fee_base", "amount_min", "amount_max")
    )
    if len(most) > ASSETS_MAX:
        raise ConfigError(f"hub.amount_max names {len(most)} assets; allowed are {ASSETS_MAX}")
    return tuple(
        Schedule(asset, base.get(asset, 0), hub.fee_ppm, least.get(asset, 0), amount) for asset, amount in most.items()
    )
