"""What happened in a purse, read back from the log for its owner."""

from __future__ import annotations

from itertools import islice

import msgspec

from scapp.channels.errors import LocalError
from scapp.channels.log.port import EventLog
from scapp.channels.payments.events import (
    TAG_PREFIX,
    PurseEvent,
    VoucherPaid,
    VoucherTaken,
    amount_of,
    decode_purse_event,
    is_purse_event,
    split_amounts,
)
from scapp.channels.types import ChannelId


class PaymentRow(msgspec.Struct, frozen=True, gc=False):
    """One stored fact, the `version`-th of its purse. `kind`: opened, paid, taken, closed, settled, restored, recalled,
    recovered. `amounts`: the payments, or what the taken voucher added. `total`: what it says was paid (opened: what
    there is to pay with; closed: what the final state gives), None where it says nothing of that."""

    version: int
    at_ms: int
    kind: str
    amounts: tuple[int, ...]
    total: int | None


def read_history(log: EventLog, channel: ChannelId, from_version: int, rows_max: int) -> list[PaymentRow]:
    """At most `rows_max` rows from `from_version` on, oldest first; the next page begins after the last one's version.

    Raises LocalError for a channel without purse, CorruptionError."""
    first = next(log.read(channel), None)
    if first is None or not is_purse_event(first.events[0]):
        raise LocalError(f"no payment channel 0x{channel.hex()} at this node")
    if rows_max <= 0 or from_version >= log.version(channel):
        return []
    numbered = (
        (page.first_version + at, data)
        for page in log.read(channel, max(0, from_version))
        for at, data in enumerate(page.events)
    )
    return [_row(version, decode_purse_event(data)) for version, data in islice(numbered, rows_max)]


def _row(version: int, event: PurseEvent) -> PaymentRow:
    amounts: tuple[int, ...] = ()
    if isinstance(event, VoucherPaid):
        amounts = tuple(split_amounts(event.amounts))
    elif isinstance(event, VoucherTaken):
        amounts = (amount_of(event.added),)
    total = getattr(event, "start", None) or getattr(event, "total", None)
    return PaymentRow(version, event.at_ms, _kind(event), amounts, amount_of(total) if total is not None else None)


def _kind(event: PurseEvent) -> str:
    tag = event.__struct_config__.tag
    assert isinstance(tag, str)
    return tag.removeprefix(TAG_PREFIX).partition(".")[0]
