"""One request of one account: what it holds, what it is charged, and when. The charges are stored before what they pay
for is sent."""

from __future__ import annotations

from collections.abc import Callable

from examples.paywall.credit import Account, Visit
from examples.paywall.prices import Price


class Unpaid(Exception):
    """Nothing more is sent before `missing` more is paid."""

    def __init__(self, reason: str, missing: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.missing = missing


class Sale:
    """`save` stores account and visit. `position` is where in the whole resource the next byte stands."""

    def __init__(self, account: Account, price: Price, visit: Visit, save: Callable[[], None]) -> None:
        self.account = account
        self.position = 0
        self.price = price
        self._visit = visit
        self._save = save
        self._held = 0
        self._bought = 0  # bytes of the body that were not delivered before
        self._charged = 0  # for these

    def begin(self) -> None:
        """Hold the price of the request until the service has answered. Raises Unpaid."""
        entry = 0 if self._visit.charged else self.price.request
        if not self.account.hold(entry):
            raise Unpaid("the credit does not cover the request", entry - self.account.credit)
        self._held = entry

    def give_back(self) -> None:
        """Of what is held, what was not charged."""
        self.account.release(self._held)
        self._held = 0

    def check_body(self, size: int) -> None:
        """Is a body of known size covered? Raises Unpaid."""
        new = self._visit.new_bytes(self.position, self.position + size)
        needed = self.price.body.cost(new)
        if needed > self.account.credit:
            raise Unpaid(f"the credit does not cover a body of {size} bytes", needed - self.account.credit)

    def charge_request(self) -> None:
        """The service has answered."""
        self.account.spend(self._held)
        self._held = 0
        self._visit.charged = True
        self._visit.attempts += 1
        self._save()

    def charge_body(self, size: int) -> int:
        """How many of the next `size` bytes may be sent, charged and stored."""
        visit, tariff = self._visit, self.price.body
        new = visit.new_bytes(self.position, self.position + size)
        affordable = tariff.covers(self._charged + self.account.credit) - self._bought
        if affordable < new:
            known = size - new if visit.low <= self.position else 0  # at the front: delivered before
            size, new = known + affordable, affordable
        if size == 0:
            return 0
        due = tariff.cost(self._bought + new) - self._charged
        self.account.hold(due)
        self.account.spend(due)
        self._bought += new
        self._charged += due
        visit.delivered(self.position, self.position + size)
        self.position += size
        if tariff.price:
            self._save()
        return size
