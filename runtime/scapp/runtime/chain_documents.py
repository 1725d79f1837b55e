"""The documents of the local API about money on chain; `documents.py` has the others."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from scapp.runtime.document_types import AddressText, AmountText, Document, RequestDocument


class StakeView(RequestDocument, frozen=True, kw_only=True):
    """What every participant deposits of one asset, and how much all together may add while the channel runs."""

    asset: AddressText
    amount: AmountText
    headroom: AmountText = "0"


class TopUpRequest(RequestDocument, frozen=True, kw_only=True):
    """How much more of the asset this node deposits, once everybody has signed that it does."""

    asset: AddressText
    amount: AmountText


class WithdrawnView(RequestDocument, frozen=True, kw_only=True):
    """So much of an asset."""

    asset: AddressText
    amount: AmountText


class ResizeRequest(RequestDocument, frozen=True, kw_only=True):
    """What this node takes out of a running channel. Participant 0's node proposes a successor, which begins with
    `params` or, where they are null, with the channel's own, and the answer is the successor; any other node asks it
    to, and the answer is the channel itself. `wait_s`: how long to wait for the successor to run."""

    withdraw: Annotated[list[WithdrawnView], Meta(max_length=16)] = []
    params: Any = None
    wait_s: Annotated[float, Meta(ge=0, le=300)] = 0.0


class TransactionView(Document, frozen=True, kw_only=True):
    """What became of something the channel wants done on chain; docs/reference/chain.md has the words of `status`."""

    kind: str
    status: str
    transaction: str = ""
    block: int | None = None
    gas_used: int | None = None
    detail: str = ""


class AssetOnChainView(Document, frozen=True, kw_only=True):
    """One asset of a funded channel: what all deposit, what this node does, and what the adjudicator holds."""

    asset: AddressText
    needed: AmountText
    own: AmountText
    held: AmountText
    confirmed: AmountText


class ChannelOnChainView(Document, frozen=True, kw_only=True):
    """A funded channel on chain. `mode`: unknown, open, challenge or finalized; `finalizes_at_s`: the block timestamp
    from which a challenge is final, 0 while none runs; `challenge_duration_s`: how long one runs; `exit_reason`: why
    this node leaves by a challenge."""

    mode: Literal["unknown", "open", "challenge", "finalized"]
    turn_record: int
    finalizes_at_s: int
    challenge_duration_s: int
    exit_reason: str
    settled: bool
    assets: list[AssetOnChainView]
    transactions: list[TransactionView]


class ChainStatusView(Document, frozen=True, kw_only=True):
    """How the node stands to its chain; `connected` false, and nothing else said, for a node without one.

    `balance` in wei, of `account`; `lag_blocks`: blocks seen and not processed yet; `fault`: why the chain does not
    answer, empty while it does; endpoints without what may be secret in them. `unprotected`: why its contracts do not
    protect what ledgers guarantee, by kind of virtual channel (`payment`, `app`, `locks`), without those they do.
    `behind_s`: how much older than the node's clock the newest block is."""

    connected: bool
    chain_id: int = 0
    adjudicator: str = ""
    consensus_app: str = ""
    account: str = ""
    balance: str | None = None
    head: int | None = None
    head_time_s: int | None = None
    processed: int | None = None
    confirmations: int = 0
    lag_blocks: int = 0
    endpoints: list[str] = []
    endpoint: str = ""
    watched: int = 0
    pending: int = 0
    fault: str = ""
    unprotected: dict[str, str] = {}
    behind_s: int | None = None
