"""What stands behind a virtual app channel, as its engine hears it from the node's ledgers."""

from __future__ import annotations

from typing import Literal

import msgspec

Stage = Literal["none", "guaranteed", "complete", "releasing", "released", "failed", "disputed"]


class Backing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`guaranteed`: this node's own ledger holds the guarantee. `complete`: everybody, hubs included, has signed the
    postfund state. `releasing`: the final state goes round. `released`: the guarantee is gone again, settled in the
    ledgers. `failed`: it will never be funded; `detail` says why. `disputed`: it is being settled on chain.

    `signatures` holds (turn, one signature per participant of the fixed part, empty where unknown) of the prefund,
    postfund and final state."""

    stage: Stage
    detail: str = ""
    signatures: tuple[tuple[int, tuple[bytes, ...]], ...] = ()
