"""A node's books without signatures or network, for tests of the API and the CLI: what is asked for happens at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from scapp.channels.books.income import Income
from scapp.channels.books.info import (
    Begin,
    End,
    InvoiceInfo,
    InvoiceRequest,
    LedgerAsset,
    LedgerInfo,
    LedgerRequest,
    LockedInfo,
    PayInvoiceRequest,
    PaymentChannelRequest,
    PaymentReceipt,
    Role,
    RouteRequest,
    VirtualAsset,
    VirtualInfo,
)
from scapp.channels.errors import LocalError
from scapp.channels.payments.history import PaymentRow
from scapp.channels.payments.vouchers import Voucher, VoucherRefused
from scapp.channels.routing.paths import Route
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId

FORGOTTEN = ChannelId(b"\x0a" * 32)
"""A payment channel that is in the log alone."""

_replace = msgspec.structs.replace


class FakeLocked:
    """Implements `books.info.LockedPort`: every invoice is paid at once, over whichever hubs."""

    def __init__(self, me: Address) -> None:
        self.me = me
        self.made: list[InvoiceInfo] = []
        self.paid: list[LockedInfo] = []
        self.requests: list[PayInvoiceRequest] = []
        self.status: Literal["locked", "paid", "failing", "failed"] = "paid"

    async def invoice(self, request: InvoiceRequest) -> InvoiceInfo:
        self.made.append(
            InvoiceInfo(
                invoice="scapp1abc", hash=b"\x21" * 32, asset=request.asset, amount=request.amount,
                expires_s=2**40 + request.expires_in_s, memo=request.memo, paid=False,
            )
        )  # fmt: skip
        return self.made[-1]

    def invoices(self) -> list[InvoiceInfo]:
        return self.made

    async def pay(self, request: PayInvoiceRequest) -> LockedInfo:
        self.requests.append(request)
        if request.via and request.fee_max < 2:
            raise LocalError("no way would pay it: fee too low: 0; this hub asks 2")
        self.paid.append(
            LockedInfo(
                hash=b"\x21" * 32, role="payer", status=self.status, asset=ZERO_ADDRESS, amount=30, fee=2,
                payee=Address(b"\x44" * 20), incoming=None, outgoing=ChannelId(b"\x32" * 32), expiry_s=2_000_000_000,
                preimage=b"\x11" * 32 if self.status == "paid" else b"",
                reason="no invoice has that hash" if self.status == "failing" else "", begun_ms=1_000,
            )
        )  # fmt: skip
        return self.paid[-1]

    def payments(self) -> list[LockedInfo]:
        return self.paid


class FakeBooks:
    """Implements `books.info.BooksPort` for `me`. `opens_to` is the phase in which new ledgers and channels are."""

    def __init__(self, me: Address) -> None:
        self.me = me
        self.locked = FakeLocked(me)
        self.opens_to = "running"
        self.stuck = False  # nothing that is asked for happens
        self.of_ledgers: dict[ChannelId, LedgerInfo] = {}
        self.of_virtuals: dict[ChannelId, VirtualInfo] = {}
        self.of_routes: list[Route] = []
        self.requests: list[object] = []
        self.history: list[PaymentRow] = []
        self.earned: list[Income] = []

    def ledgers(self) -> list[LedgerInfo]:
        return list(self.of_ledgers.values())

    def ledger(self, channel_id: ChannelId) -> LedgerInfo:
        if channel_id not in self.of_ledgers:
            raise LocalError(f"no ledger 0x{channel_id.hex()} at this node")
        return self.of_ledgers[channel_id]

    def virtuals(self) -> list[VirtualInfo]:
        return list(self.of_virtuals.values())

    def virtual(self, channel_id: ChannelId) -> VirtualInfo:
        if channel_id not in self.of_virtuals:
            raise LocalError(f"no channel 0x{channel_id.hex()} over ledgers at this node")
        return self.of_virtuals[channel_id]

    def put_ledger(self, number: int, peer: Address, phase: str = "running", mine: int = 1_000) -> ChannelId:
        """Say that this ledger exists."""
        channel = ChannelId(bytes([number]) * 32)
        self.of_ledgers[channel] = LedgerInfo(
            channel_id=channel, peer=peer, leads=True, phase=phase,
            waiting_for="" if phase == "running" else "the deposits to be confirmed", reason="", turn=4,
            challenge_duration_s=86_400, assets=(LedgerAsset(asset=ZERO_ADDRESS, mine=mine, theirs=500, locked=100),),
            channels=(ChannelId(b"\x77" * 32),), queued=0,
        )  # fmt: skip
        return channel

    def put_virtual(
        self, number: int, payee: Address, phase: str = "running", paid: int = 10, role: Role = "payer"
    ) -> ChannelId:
        """Say that this payment channel exists."""
        channel = ChannelId(bytes([number]) * 32)
        self.of_virtuals[channel] = VirtualInfo(
            channel_id=channel, kind="payment", role=role, phase=phase, waiting_for="", reason="",
            participants=(self.me, Address(b"\x44" * 20), payee), my_index=0, challenge_duration_s=86_400,
            assets=(VirtualAsset(asset=ZERO_ADDRESS, first=100, last=0),), fees=(3,), paid=paid,
        )  # fmt: skip
        return channel

    async def open_ledger(self, request: LedgerRequest) -> ChannelId:
        self.requests.append(request)
        return self.put_ledger(0x31, request.peer, self.opens_to, request.funds[0][1])

    async def accept_ledger(self, channel_id: ChannelId) -> None:
        if self.ledger(channel_id).phase != "proposed":
            raise LocalError("there is nothing to accept")
        self._ledger(channel_id, phase="running", waiting_for="")

    async def reject_ledger(self, channel_id: ChannelId, reason: str) -> None:
        self._ledger(channel_id, phase="rejected", reason=reason)

    async def top_up(self, channel_id: ChannelId, asset: Address, amount: int) -> None:
        self._change(channel_id, amount)

    async def cancel_top_up(self, channel_id: ChannelId, asset: Address) -> None:
        self.requests.append(("cancel", asset))

    async def transfer(self, channel_id: ChannelId, asset: Address, amount: int) -> None:
        self._change(channel_id, -amount)

    async def close_ledger(self, channel_id: ChannelId) -> None:
        self._ledger(channel_id, phase="settled")

    async def challenge_ledger(self, channel_id: ChannelId) -> None:
        self._ledger(channel_id, phase="settled")

    async def withdraw_ledger(self, channel_id: ChannelId) -> None:
        self._ledger(channel_id, phase="settled")

    async def recover_ledger(self, channel_id: ChannelId) -> None:
        self._ledger(channel_id, phase="running")

    async def open_payments(self, request: PaymentChannelRequest) -> ChannelId:
        self.requests.append(request)
        return self.put_virtual(0x32, request.payee, self.opens_to, 0)

    def routes(self, request: RouteRequest) -> list[Route]:
        self.requests.append(request)
        return self.of_routes

    async def over_routes(self, question: RouteRequest, begin: Begin, end: End, timeout: float) -> ChannelId:
        self.requests.append(question)
        for route in self.of_routes:
            channel = await begin(route)
            if (await end(channel, route, timeout)).runs:
                return channel
        raise LocalError("no way is left")

    async def open_payments_routed(self, request: PaymentChannelRequest, fee_max: int, timeout: float) -> ChannelId:
        self.requests.append((fee_max, timeout))
        if not self.of_routes:
            raise LocalError("no hub announces a way to them")
        return await self.open_payments(request)

    async def pay(self, channel_id: ChannelId, amount: int, wait_s: float = 0.0) -> PaymentReceipt:
        info = self.virtual(channel_id)
        paid = info.paid + amount
        if paid > 100:
            raise LocalError("insufficient funds")
        self.of_virtuals[channel_id] = _replace(info, paid=paid)
        self.history.append(PaymentRow(len(self.history), 1_000, "paid", (amount,), paid))
        voucher = self.voucher(channel_id)
        assert voucher is not None
        return PaymentReceipt(
            channel_id=channel_id, amount=amount, paid=paid, remaining=100 - paid, voucher=voucher, seen=wait_s > 0
        )

    def voucher(self, channel_id: ChannelId) -> Voucher | None:
        paid = self.virtual(channel_id).paid
        return Voucher(channel_id, paid, b"\x05" * 64 + b"\x1b") if paid else None

    async def take_voucher(self, voucher: Voucher) -> int:
        info = self.virtual(voucher.channel)
        if voucher.amount > 100:
            raise VoucherRefused("channel has insufficient funds")
        self.of_virtuals[voucher.channel] = _replace(info, paid=max(info.paid, voucher.amount))
        return max(0, voucher.amount - info.paid)

    async def recover_payments(self, channel_id: ChannelId) -> None:
        self.of_virtuals[channel_id] = _replace(self.virtual(channel_id), phase="running", waiting_for="")

    async def payment_history(self, channel_id: ChannelId, from_version: int, rows_max: int) -> list[PaymentRow]:
        if channel_id not in self.of_virtuals and channel_id != FORGOTTEN:
            raise LocalError(f"no payment channel 0x{channel_id.hex()} at this node")
        return self.history[from_version : from_version + rows_max]

    async def income(self, since_ms: int, until_ms: int) -> list[Income]:
        self.requests.append(("income", since_ms, until_ms))
        return self.earned

    async def challenge_virtual(self, channel_id: ChannelId) -> None:
        self.of_virtuals[channel_id] = _replace(self.virtual(channel_id), phase="disputed")

    async def close_virtual(self, channel_id: ChannelId) -> None:
        self.of_virtuals[channel_id] = _replace(self.virtual(channel_id), phase="released")

    async def wait_ledger(
        self, channel_id: ChannelId, done: Callable[[LedgerInfo], bool], timeout: float
    ) -> LedgerInfo:
        if not done(self.ledger(channel_id)):
            raise TimeoutError
        return self.ledger(channel_id)

    async def wait_virtual(
        self, channel_id: ChannelId, done: Callable[[VirtualInfo], bool], timeout: float
    ) -> VirtualInfo:
        if not done(self.virtual(channel_id)):
            raise TimeoutError
        return self.virtual(channel_id)

    def _ledger(self, channel_id: ChannelId, **changes: str) -> None:
        info = self.ledger(channel_id)
        if not self.stuck:
            self.of_ledgers[channel_id] = _replace(info, **changes)

    def _change(self, channel_id: ChannelId, amount: int) -> None:
        info = self.ledger(channel_id)
        (asset,) = info.assets
        if not self.stuck:
            self.of_ledgers[channel_id] = _replace(info, assets=(_replace(asset, mine=asset.mine + amount),))
