"""Whether contracts protect what ledgers guarantee to virtual channels, told by their code (ADR 0063).

The published adjudicator pays virtual channels out, so both ends of one can make the intermediary pay twice; ours looks
for the app's `isVirtual` and does not. No call tells that before it is too late, but the deployed code is known byte
for byte: it holds no immutable values, and `make check-artifacts` proves where it comes from. With what storage a
contract began, which is its creator's choice, no code tells.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from scapp.channels.chain import contracts
from scapp.channels.onchain import Protection
from scapp.channels.types import ZERO_ADDRESS, Address

ADJUDICATORS = ("NitroAdjudicator",)
PAYMENT_APPS = ("VirtualPaymentApp", "HashLockPaymentApp")
TWO_PARTY_APPS = ("TwoPartyApp",)
HASH_LOCK_APPS = ("HashLockPaymentApp",)


Found = tuple[Address, bytes]
"""An address, and the code there."""


def protection(adjudicator: Found, payment_app: Found, two_party_app: Found, hash_lock_app: Found) -> Protection:
    """What the code at the configured addresses comes to; apps that are not configured have the zero address."""
    holder = _fault(adjudicator, ADJUDICATORS, "chain.adjudicator")
    return Protection(
        payment=holder or _fault(payment_app, PAYMENT_APPS, "chain.virtual_payment_app"),
        app=holder or _fault(two_party_app, TWO_PARTY_APPS, "chain.two_party_app"),
        locks=holder or _fault(hash_lock_app, HASH_LOCK_APPS, "chain.hash_lock_app"),
    )


def _fault(found: Found, names: Sequence[str], setting: str) -> str:
    address, code = found
    if address == ZERO_ADDRESS or code in map(_code, names):  # without an app there are no channels to guarantee
        return ""
    what = f"is not scapp's {' or '.join(names)}" if code else "has no contract"
    return f"0x{address.hex()} ({setting}) {what}: what ledgers guarantee could be taken or locked there for ever"


@functools.cache
def _code(name: str) -> bytes:
    return contracts.load(name).deployed_bytecode
