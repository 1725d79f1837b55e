"""How a node stands to its chain: what an operator configures."""

from __future__ import annotations

import msgspec

from scapp.channels.chain.support import App
from scapp.channels.types import ZERO_ADDRESS, Address

GWEI = 10**9


class ChainSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`endpoints` are http(s) or ws(s) addresses of JSON-RPC nodes, in order of preference.

    A block counts as confirmed when `confirmations` blocks follow it (ADR 0012); 0 trusts the newest. The fee ceiling
    is in wei for one unit of gas. `start_block` is where the contracts were created, or later: nothing before it is
    looked at. `stuck_blocks`: after how many blocks a pending transaction is sent with a higher fee. The apps of
    virtual channels are zero where there are none."""

    endpoints: tuple[str, ...]
    chain_id: int
    adjudicator: Address
    consensus_app: Address
    confirmations: int
    poll_seconds: float = 4.0
    fee_ceiling: int = 500 * GWEI
    start_block: int = 0
    stuck_blocks: int = 5
    log_range_blocks: int = 10_000  # of one question for logs; it is halved where a node refuses it
    virtual_payment_app: Address = ZERO_ADDRESS
    two_party_app: Address = ZERO_ADDRESS
    hash_lock_app: Address = ZERO_ADDRESS

    @property
    def apps(self) -> dict[bytes, App]:
        """What the apps at these addresses are."""
        found: dict[bytes, App] = {
            self.virtual_payment_app: "payment",
            self.two_party_app: "two-party",
            self.hash_lock_app: "hash-lock",
        }
        found.pop(ZERO_ADDRESS, None)
        found[self.consensus_app] = "consensus"
        return found
