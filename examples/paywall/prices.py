"""What things cost. Pure."""

from __future__ import annotations

import msgspec

from scapp.channels.payments.streaming import Tariff
from scapp.channels.types import Address

FREE_OF_CHARGE = Tariff(0)


class Price(msgspec.Struct, frozen=True):
    """`request`: for each request that the service answers. `body`: for each byte of the answer's body, as it is
    transferred."""

    request: int = 0
    body: Tariff = FREE_OF_CHARGE

    @property
    def is_free(self) -> bool:
        return not self.request and not self.body.price


class PriceList(msgspec.Struct, frozen=True):
    """All prices are of one asset. Of the prefixes that are the path or a folder of it the longest counts."""

    asset: Address
    usual: Price
    by_prefix: dict[str, Price] = {}

    def of(self, path: str) -> Price:
        fitting = [prefix for prefix in self.by_prefix if f"{path}/".startswith(f"{prefix.rstrip('/')}/")]
        return self.by_prefix[max(fitting, key=len)] if fitting else self.usual
