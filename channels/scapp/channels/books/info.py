"""Ledgers and virtual channels as their owner sees them, and what the owner may ask for; `service.py` offers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

import msgspec

from scapp.channels.books.income import Income
from scapp.channels.channel.standing import ChannelOnChainInfo
from scapp.channels.payments.history import PaymentRow
from scapp.channels.payments.vouchers import Voucher
from scapp.channels.routing.paths import HUBS_USUAL, Route
from scapp.channels.types import U256_MAX, ZERO_ADDRESS, Address, ChannelId

Role = Literal["payer", "hub", "payee", "party"]


class LedgerAsset(msgspec.Struct, frozen=True, kw_only=True):
    """One asset of a ledger, in its smallest unit: what this node and the peer may use, and what is locked in
    channels. `announced`: this node's deposit that both have signed and that is not merged yet."""

    asset: Address
    mine: int
    theirs: int
    locked: int
    announced: int = 0


class LedgerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One ledger. `phase` is one of proposed (waits for this node's acceptance, or the peer's), opening, funding,
    running, disputed, closing, closed, settled, rejected, recovering; `waiting_for` says in words what it waits for, or
    is empty. `channels`: those that it funds now; `queued`: updates without both signatures. `chain` is None before the
    ledger is on chain."""

    channel_id: ChannelId
    peer: Address
    leads: bool
    phase: str
    waiting_for: str
    reason: str
    turn: int | None
    challenge_duration_s: int
    assets: tuple[LedgerAsset, ...]
    channels: tuple[ChannelId, ...]
    queued: int
    chain: ChannelOnChainInfo | None = None


class VirtualAsset(msgspec.Struct, frozen=True, kw_only=True):
    """One asset of a virtual channel: what its first and its last participant have, at first and by now."""

    asset: Address
    first: int
    last: int


class VirtualInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One virtual channel. `role`: what this node is in it. `phase` is one of proposed, opening, funding, running,
    closing, released, rejected, failed, disputed, recovering. `fees`: what each hub gets, in the first asset. `paid`:
    by vouchers, as this node knows; `locks`: it takes hash locks, under which `locked` stands for now."""

    channel_id: ChannelId
    kind: Literal["payment", "app"]
    role: Role
    phase: str
    waiting_for: str
    reason: str
    participants: tuple[Address, ...]
    my_index: int
    challenge_duration_s: int
    assets: tuple[VirtualAsset, ...]
    fees: tuple[int, ...]
    paid: int
    locks: bool = False
    locked: int = 0


class LedgerRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for a ledger with `peer`. `funds`: (asset, what this node deposits, what the peer does). `pay_to`: the
    account that this node's part is paid out to, its channel address when None."""

    peer: Address
    funds: tuple[tuple[Address, int, int], ...]
    challenge_duration_s: int = 86_400
    pay_to: Address | None = None


class PaymentChannelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for a payment channel to `payee` over the hubs `via` (none: over the ledger with the payee), each of which
    gets its item of `fees`. `amount` of `asset` is the most that can be paid in it. With `locks` it pays invoices,
    over further channels of its kind."""

    payee: Address
    amount: int
    asset: Address = ZERO_ADDRESS
    via: tuple[Address, ...] = ()
    fees: tuple[int, ...] = ()
    challenge_duration_s: int = 86_400
    locks: bool = False


class RouteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for routes to `to`. `amounts`: (asset, what this node puts in, what the other one does); fees, `fee_max` at
    most together, are in the first asset."""

    to: Address
    amounts: tuple[tuple[Address, int, int], ...]
    challenge_duration_s: int = 86_400
    fee_max: int = U256_MAX
    hubs_max: int = HUBS_USUAL


class InvoiceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Ask to be paid `amount` of `asset` within `expires_in_s` seconds; `memo` is for people."""

    amount: int
    asset: Address = ZERO_ADDRESS
    expires_in_s: int = 3_600
    memo: str = ""


class InvoiceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice of this node: `invoice` is the text for whoever pays, `hash` that of its preimage."""

    invoice: str
    hash: bytes
    asset: Address
    amount: int
    expires_s: int
    memo: str
    paid: bool


class PayInvoiceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Pay `invoice` over the hubs `via`, each with its item of `fees`, or `routed`: over whichever. A hub that asks for
    more gets it as long as all fees together are `fee_max` at most."""

    invoice: str
    via: tuple[Address, ...] = ()
    fees: tuple[int, ...] = ()
    routed: bool = False
    fee_max: int = 0
    wait_s: float = 0.0


class LockedInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A payment under a hash lock. `role`: what this node is in it. `status`: "locked", "paid", "failing" (it will not
    be paid, for `reason`, but what is locked comes back at `expiry_s` only) or "failed" (it has come back). `amount` is
    the invoice's where this node pays it, else what this node is paid; `fee`: of all hubs, at a hub its own.
    `preimage`, the receipt, is empty while unknown. `payee` is None at the payee."""

    hash: bytes
    role: Literal["payer", "hub", "payee"]
    status: Literal["locked", "paid", "failing", "failed"]
    asset: Address
    amount: int
    fee: int
    payee: Address | None
    incoming: ChannelId | None
    outgoing: ChannelId | None
    expiry_s: int
    preimage: bytes
    reason: str
    begun_ms: int


class PaymentReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """A payment as the payer has stored it: `amount` of this one, `paid` altogether, `remaining` in the channel.
    `voucher` covers it; `seen`: the payee has said that it holds that, durably."""

    channel_id: ChannelId
    amount: int
    paid: int
    remaining: int
    voucher: Voucher
    seen: bool


class WayEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a channel over one route. `final`: no other route would do better."""

    runs: bool
    reason: str = ""
    final: bool = False


Begin = Callable[[Route], Awaitable[ChannelId]]
"""Proposes a channel over a route."""
End = Callable[[ChannelId, Route, float], Awaitable[WayEnd]]
"""Waits until that is decided, for so many seconds at most; then it raises TimeoutError."""


class LockedPort(Protocol):
    """Payments under hash locks, over channels that take them."""

    async def invoice(self, request: InvoiceRequest) -> InvoiceInfo:
        """Ask to be paid, by whomever; durable when it returns."""
        ...

    def invoices(self) -> list[InvoiceInfo]: ...

    async def pay(self, request: PayInvoiceRequest) -> LockedInfo:
        """Pay an invoice; the same one again is the same payment. LocalError: nothing was locked."""
        ...

    def payments(self) -> list[LockedInfo]:
        """Those that this node pays, passes on or is paid, oldest first."""
        ...


class BooksPort(Protocol):
    """What a node offers its local callers about ledgers and virtual channels, as `service.NodeService` does for app
    channels. Refusals of what the caller asked are `LocalError`. A wish is durable when its method returns."""

    @property
    def locked(self) -> LockedPort: ...

    def ledgers(self) -> list[LedgerInfo]: ...

    def ledger(self, channel_id: ChannelId) -> LedgerInfo: ...

    def virtuals(self) -> list[VirtualInfo]: ...

    def virtual(self, channel_id: ChannelId) -> VirtualInfo: ...

    async def open_ledger(self, request: LedgerRequest) -> ChannelId:
        """Propose a ledger; wait for phase `running` with `wait_ledger`."""
        ...

    async def accept_ledger(self, channel_id: ChannelId) -> None: ...

    async def reject_ledger(self, channel_id: ChannelId, reason: str) -> None: ...

    async def top_up(self, channel_id: ChannelId, asset: Address, amount: int) -> None:
        """Deposit more of an asset, while the ledger goes on. Refused when the chain account has too little."""
        ...

    async def cancel_top_up(self, channel_id: ChannelId, asset: Address) -> None:
        """Take an announced deposit back. Refused once it was sent."""
        ...

    async def transfer(self, channel_id: ChannelId, asset: Address, amount: int) -> None:
        """Give the peer `amount` of this node's part, for nothing."""
        ...

    async def close_ledger(self, channel_id: ChannelId) -> None:
        """End a ledger that funds no channel: both are paid out."""
        ...

    async def challenge_ledger(self, channel_id: ChannelId) -> None:
        """Leave a ledger without the peer, by a challenge with its newest co-signed state."""
        ...

    async def withdraw_ledger(self, channel_id: ChannelId) -> None:
        """Have a closed or finalized ledger paid out now, whoever's turn it is."""
        ...

    async def recover_ledger(self, channel_id: ChannelId) -> None:
        """End the recovery of a restored ledger without the peer's answer, at the operator's risk."""
        ...

    async def open_payments(self, request: PaymentChannelRequest) -> ChannelId:
        """Propose a payment channel; wait for phase `running` with `wait_virtual`."""
        ...

    def routes(self, request: RouteRequest) -> list[Route]:
        """The best ways to a node, over the hubs that announce themselves; empty if there is none."""
        ...

    async def over_routes(self, question: RouteRequest, begin: Begin, end: End, timeout: float) -> ChannelId:
        """A channel over the best route, and over the next ones while they fail and `timeout` lasts."""
        ...

    async def open_payments_routed(self, request: PaymentChannelRequest, fee_max: int, timeout: float) -> ChannelId:
        """Open a payment channel over the best route, and over the next ones while they fail; `via` and `fees` of the
        request do not count. Returns when it runs, or after `timeout` seconds; LocalError tells what was tried."""
        ...

    async def pay(self, channel_id: ChannelId, amount: int, wait_s: float = 0.0) -> PaymentReceipt:
        """Pay in a payment channel; durable, and on its way. Waits up to `wait_s` for the payee to hold it."""
        ...

    def voucher(self, channel_id: ChannelId) -> Voucher | None:
        """The largest voucher of a payment channel of this node's; None when nothing was paid."""
        ...

    async def take_voucher(self, voucher: Voucher) -> int:
        """Take a voucher that did not come from the payer's node; what it adds, durable; 0 while its channel recovers
        from a restore. Raises LocalError, PeerError (VoucherRefused)."""
        ...

    async def recover_payments(self, channel_id: ChannelId) -> None:
        """End the recovery of a restored payment channel's purse without the other's answer, at the operator's risk."""
        ...

    async def payment_history(self, channel_id: ChannelId, from_version: int, rows_max: int) -> list[PaymentRow]:
        """What was stored of a payment channel, oldest first."""
        ...

    async def income(self, since_ms: int, until_ms: int) -> list[Income]:
        """What this node has earned as a hub from `since_ms` on and before `until_ms` (milliseconds since 1970)."""
        ...

    async def challenge_virtual(self, channel_id: ChannelId) -> None:
        """Settle a channel on chain, without the others: by its newest state, a payment channel by its voucher."""
        ...

    async def close_virtual(self, channel_id: ChannelId) -> None:
        """End a payment channel: what was paid moves in the ledgers."""
        ...

    async def wait_ledger(
        self, channel_id: ChannelId, done: Callable[[LedgerInfo], bool], timeout: float
    ) -> LedgerInfo:
        """Wait until `done`; raises TimeoutError."""
        ...

    async def wait_virtual(
        self, channel_id: ChannelId, done: Callable[[VirtualInfo], bool], timeout: float
    ) -> VirtualInfo: ...
