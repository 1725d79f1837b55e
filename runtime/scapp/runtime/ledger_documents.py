"""The documents of the local API about ledgers, virtual channels and payments; `documents.py` has the others."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from scapp.runtime.chain_documents import ChannelOnChainView
from scapp.runtime.document_types import AddressText, AmountText, Document, HashText, RequestDocument, Sequence

Wait = Annotated[float, Meta(ge=0, le=300)]
Duration = Annotated[int, Meta(ge=1, lt=2**32)]

LedgerPhase = Literal[
    "proposed", "opening", "funding", "running", "disputed", "closing", "closed", "settled", "rejected", "recovering",
]  # fmt: skip
VirtualPhase = Literal[
    "proposed", "opening", "funding", "running", "closing", "released", "rejected", "failed", "disputed", "recovering",
]  # fmt: skip


class LedgerAssetView(Document, frozen=True, kw_only=True):
    """One asset of a ledger: what this node and the peer have free, and what is locked in channels. `announced`: this
    node's top-up that is not confirmed yet."""

    asset: AddressText
    mine: AmountText
    theirs: AmountText
    locked: AmountText
    announced: AmountText = "0"


class LedgerView(Document, frozen=True, kw_only=True):
    """`waiting_for` says in words what the ledger waits for; `channels`: those that it funds; `queued`: updates without
    both signatures yet; `leads`: this node proposes the updates."""

    channel_id: HashText
    peer: AddressText
    peer_name: str
    leads: bool
    phase: LedgerPhase
    waiting_for: str
    reason: str
    turn: int | None
    challenge_duration_s: int
    assets: list[LedgerAssetView]
    channels: list[HashText]
    queued: int
    chain: ChannelOnChainView | None = None


class LedgerList(Document, frozen=True, kw_only=True):
    ledgers: list[LedgerView]


class FundsView(RequestDocument, frozen=True, kw_only=True):
    """One asset of a new ledger: what this node deposits, and what the peer does."""

    asset: AddressText
    mine: AmountText
    theirs: AmountText = "0"


class OpenLedgerRequest(RequestDocument, frozen=True, kw_only=True):
    """`peer` by address or name; `pay_to`: the account that this node's part is paid out to, its channel address by
    default; `wait_s`: how long to wait for the ledger to run."""

    peer: str
    funds: Annotated[list[FundsView], Meta(min_length=1, max_length=16)]
    challenge_duration_s: Duration = 86_400
    pay_to: AddressText | None = None
    wait_s: Wait = 0.0


class LedgerAssetRequest(RequestDocument, frozen=True, kw_only=True):
    """In which asset a top-up is taken back."""

    asset: AddressText
    wait_s: Wait = 0.0


class LedgerAmountRequest(RequestDocument, frozen=True, kw_only=True):
    """What to top up or to transfer."""

    asset: AddressText
    amount: AmountText
    wait_s: Wait = 0.0


class VirtualAssetView(Document, frozen=True, kw_only=True):
    """What the first and the last participant have of one asset."""

    asset: AddressText
    first: AmountText
    last: AmountText


class VirtualView(Document, frozen=True, kw_only=True):
    """A channel that ledgers fund. `role`: what this node is in it; `fees`: what each hub between the first and the
    last participant gets, in the first asset; `paid`: by vouchers, as this node knows. `locks`: it takes
    hash locks, under which `locked` stands for now."""

    channel_id: HashText
    kind: Literal["payment", "app"]
    role: Literal["payer", "hub", "payee", "party"]
    phase: VirtualPhase
    waiting_for: str
    reason: str
    participants: list[AddressText]
    my_index: int
    challenge_duration_s: int
    assets: list[VirtualAssetView]
    fees: list[AmountText]
    paid: AmountText
    locks: bool
    locked: AmountText


class BackingView(Document, frozen=True, kw_only=True):
    """What stands behind an app channel over ledgers: hubs and what each gets, in the first asset; `stage`: none,
    guaranteed, complete, releasing, released, failed or disputed; `exit_reason`: why this node leaves it."""

    hubs: list[AddressText]
    fees: list[AmountText]
    stage: str
    detail: str
    exit_reason: str


class VirtualList(Document, frozen=True, kw_only=True):
    channels: list[VirtualView]


class RoutesRequest(RequestDocument, frozen=True, kw_only=True):
    """Routes to `to` (address or name) for a channel that holds `funds`. Fees are in the first asset, `fee_max` at most
    together; without it there is no limit. Over `hubs_max` hubs at most, three if it is not said."""

    to: str
    funds: Annotated[list[FundsView], Meta(min_length=1, max_length=16)]
    challenge_duration_s: Duration = 86_400
    fee_max: AmountText | None = None
    hubs_max: Annotated[int, Meta(ge=0, le=16)] | None = None


class RouteView(Document, frozen=True, kw_only=True):
    """Hubs in order from this node, what each asks, and the sum. `sure`: all announce that they have enough; else they
    may have. `expires_ms`: when the oldest announcement on the way ends, None where there is none."""

    hubs: list[AddressText]
    fees: list[AmountText]
    fee: AmountText
    sure: bool
    expires_ms: int | None


class RouteList(Document, frozen=True, kw_only=True):
    """The best one first; empty if no way is known."""

    routes: list[RouteView]


class OpenPaymentsRequest(RequestDocument, frozen=True, kw_only=True):
    """A payment channel to `payee` (address or name) over the hubs `via`, each of which gets its item of `fees`, paid
    by this node on top of `amount`, the most that can be paid in the channel. With `routed` the node finds the hubs,
    for `fee_max` at most together, and within `wait_s` tries other ways while one fails. With `locks` it takes hash
    locks, and pays invoices only."""

    payee: str
    asset: AddressText
    amount: AmountText
    via: Annotated[list[str], Meta(max_length=16)] = []
    fees: Annotated[list[AmountText], Meta(max_length=16)] = []
    routed: bool = False
    fee_max: AmountText | None = None
    challenge_duration_s: Duration = 86_400
    locks: bool = False
    wait_s: Wait = 0.0


class PayRequest(RequestDocument, frozen=True, kw_only=True):
    """`wait_s`: so long the answer waits for the payee to hold the payment as well."""

    amount: AmountText
    wait_s: Wait = 0.0


class PaymentView(Document, frozen=True, kw_only=True):
    """A payment that is durable at the payer: `amount` of this one, `paid` altogether, `remaining` in the channel.
    `voucher` is what the payee redeems, in go-nitro's JSON; `seen`: the payee has said that it holds it."""

    channel_id: HashText
    amount: AmountText
    paid: AmountText
    remaining: AmountText
    voucher: str
    seen: bool


class VoucherRequest(RequestDocument, frozen=True, kw_only=True):
    """`voucher` in go-nitro's JSON."""

    voucher: Annotated[str, Meta(max_length=1024)]


class VoucherView(Document, frozen=True, kw_only=True):
    """The largest voucher of a payment channel: `paid` altogether, `added` by the one that was just taken; both
    without what was taken since a restore that the channel still recovers from. `voucher` is empty when nothing was
    paid."""

    channel_id: HashText
    payer: AddressText
    asset: AddressText
    paid: AmountText
    added: AmountText
    voucher: str


class PaymentRowView(Document, frozen=True, kw_only=True):
    """One stored fact of a payment channel, the `version`-th. `kind`: opened, paid, taken, closed, settled, restored,
    recalled, recovered. `amounts`: single payments (the payer's), or what a voucher added (the payee's); `total`: what
    was paid with it altogether, of opened what there is to pay with, of closed what the payee gets."""

    version: Sequence
    at_ms: int
    kind: str
    amounts: list[AmountText]
    total: AmountText | None


class IncomeRow(Document, frozen=True, kw_only=True):
    """What one peer has paid this node as a hub in one asset: for `channels` that were opened over it, and for
    `payments` under locks. A negative fee: more went back, or was passed on, than came in."""

    asset: AddressText
    peer: AddressText
    peer_name: str
    channels: int
    channel_fees: str
    payments: int
    payment_fees: str
    total: str


class IncomeView(Document, frozen=True, kw_only=True):
    """From `since_ms` on, before `until_ms`, in milliseconds since 1970."""

    since_ms: int
    until_ms: int
    rows: list[IncomeRow]


class PaymentHistory(Document, frozen=True, kw_only=True):
    """Oldest first. `next` is the version to go on from."""

    rows: list[PaymentRowView]
    next: Sequence
