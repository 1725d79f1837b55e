"""What a node knows durably of locked payments: its lanes, its invoices, and every payment that has come by. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from scapp.channels.payments.hops import Conditional
from scapp.channels.payments.locked.events import Fate
from scapp.channels.payments.locks import Lock, LockedVoucher
from scapp.channels.payments.purse import Purse
from scapp.channels.payments.vouchers import Voucher
from scapp.channels.types import Address, ChannelId

Phase = Literal["open", "closed", "settled"]
Status = Literal["locked", "paid", "failing", "failed"]
FORGOTTEN = "a node on the way was restored from a backup and does not remember the payment"
"""The fault of a lock that this node may have passed on before it was restored. Stored for ever: never reword it."""


class Hop(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who is paid, how much under its lock, and when that ends (seconds since 1970)."""

    peer: Address
    amount: int
    expiry_s: int


class Lane(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """A payment channel that takes locks, at either end. `voucher`: the payer's newest, the `number`-th. `final` and
    `token` as in `Purse`."""

    channel: ChannelId
    payer: Address
    payee: Address
    asset: Address
    start: int
    challenge_duration_s: int
    opened_ms: int
    number: int = 0
    voucher: LockedVoucher | None = None
    phase: Phase = "open"
    final: int | None = None
    token: bytes = b""

    @property
    def known(self) -> Conditional:
        """As `hops` has it."""
        return Conditional(self.channel, self.payer, self.payee, self.start, self.voucher)

    @property
    def locks(self) -> tuple[Lock, ...]:
        return self.voucher.locks if self.voucher is not None else ()

    @property
    def paid(self) -> int:
        """Without condition."""
        return self.voucher.amount if self.voucher is not None else 0

    def peer_of(self, me: Address) -> Address:
        """The other party."""
        return self.payee if me == self.payer else self.payer

    @property
    def purse(self) -> Purse:
        """As those see it who deal with every payment channel. Its voucher's signature is over locks as well."""
        voucher = self.voucher
        return Purse(
            channel=self.channel,
            payer=self.payer,
            payee=self.payee,
            asset=self.asset,
            start=self.start,
            opened_ms=self.opened_ms,
            largest=Voucher(self.channel, voucher.amount, voucher.signature) if voucher is not None else None,
            phase=self.phase,
            final=self.final,
            token=self.token,
        )


class Leg(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A lock of a payment in one of this node's lanes, and what became of it."""

    channel: ChannelId
    amount: int
    expiry_s: int
    fate: Fate | None = None

    def is_of(self, channel: ChannelId, lock: Lock) -> bool:
        """Is it that lock of that lane? Its hash alone does not say so: a payment may be tried again."""
        return (self.channel, self.amount, self.expiry_s) == (channel, lock.amount, lock.expiry_s)


class Transit(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """A payment under one hash as this node has part in it: the payer has no `incoming`, the payee no `outgoing`, a hub
    both once it has passed it on. `hops` are those after this node, `invoice` is the payer's, `fault` says why somebody
    will not open it."""

    hash: bytes
    begun_ms: int
    hops: tuple[Hop, ...]
    invoice: str = ""
    incoming: Leg | None = None
    outgoing: Leg | None = None
    preimage: bytes = b""
    fault: str = ""

    @property
    def role(self) -> Literal["payer", "hub", "payee"]:
        if self.invoice or (self.outgoing is not None and self.incoming is None):
            return "payer"
        return "hub" if self.hops or self.outgoing is not None else "payee"

    @property
    def left_alone(self) -> bool:
        """Has this node only refused it: neither passed it on nor known its preimage?"""
        return bool(self.fault) and self.fault != FORGOTTEN and self.outgoing is None and not self.preimage

    @property
    def over(self) -> bool:
        """Is nothing locked for it any more, or will it be claimed as it stands?"""
        return all(leg is None or leg.fate is not None for leg in (self.incoming, self.outgoing))

    @property
    def status(self) -> Status:
        """`failing`: it will not be paid, but its lock has not ended. A hub's is that of what it is paid."""
        leg = self.outgoing if self.role == "payer" else self.incoming
        if leg is None or leg.fate == "ended":
            return "failed"
        if leg.fate is not None:
            return "paid"
        return "failing" if self.fault else "locked"


class Invoiced(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What this node wants to be paid."""

    hash: bytes
    preimage: bytes
    asset: Address
    amount: int
    expires_s: int
    memo: str
    made_ms: int
