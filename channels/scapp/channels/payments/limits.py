"""How much this node pays and takes, by asset; its operator's choice, no part of what is signed."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from scapp.channels.types import Address


class PaymentLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts of one asset in its smallest unit; None for no limit.

    `payment_max`: the most that one payment may be. `payee_max`: the most that this node promises one payee, and
    `payer_max` the most that it takes from one payer, in all channels together that are not settled yet: until then
    it is a claim, not money."""

    payment_max: int | None = None
    payee_max: int | None = None
    payer_max: int | None = None


NO_LIMITS = PaymentLimits()
Limits = Mapping[Address, PaymentLimits]
"""By asset; an asset that is not named has no limits."""
