"""Purses out of the log and their snapshots: a purse is small, and its stream may be long."""

from __future__ import annotations

import msgspec

from scapp.channels.errors import CorruptionError
from scapp.channels.log.fold import fold
from scapp.channels.log.port import EventLog, Snapshot
from scapp.channels.payments.events import PurseEvent, amount_bytes, amount_of, decode_purse_event
from scapp.channels.payments.purse import Purse, create, evolve
from scapp.channels.payments.vouchers import Voucher
from scapp.channels.types import Address, ChannelId


class _Kept(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="purse.snapshot.2"):
    """A purse with its amounts as bytes."""

    channel: bytes
    payer: bytes
    payee: bytes
    asset: bytes
    start: bytes
    opened_ms: int
    total: bytes
    signature: bytes
    payments: int
    phase: str
    final: bytes
    token: bytes
    uncredited: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode


class _Codec:
    """`log.fold.SnapshotCodec` for purses."""

    def encode(self, state: Purse | None) -> bytes:
        assert state is not None
        largest = state.largest
        return _encode(
            _Kept(
                state.channel,
                state.payer,
                state.payee,
                state.asset,
                amount_bytes(state.start),
                state.opened_ms,
                amount_bytes(state.paid),
                largest.signature if largest is not None else b"",
                state.payments,
                state.phase,
                amount_bytes(state.final) if state.final is not None else b"",
                state.token,
                amount_bytes(state.uncredited),
            )
        )

    def decode(self, data: bytes) -> Purse | None:
        kept = _decode(data)
        if kept.phase not in ("open", "closed", "settled"):
            raise ValueError(f"phase {kept.phase}")
        channel, total = ChannelId(kept.channel), amount_of(kept.total)
        return Purse(
            channel=channel,
            payer=Address(kept.payer),
            payee=Address(kept.payee),
            asset=Address(kept.asset),
            start=amount_of(kept.start),
            opened_ms=kept.opened_ms,
            largest=Voucher(channel, total, kept.signature) if total else None,
            payments=kept.payments,
            phase=kept.phase,  # type: ignore[arg-type]  # one of the three, as was just seen
            final=amount_of(kept.final) if kept.final else None,
            token=kept.token,
            uncredited=amount_of(kept.uncredited),
        )


_CODEC = _Codec()


def load_purse(log: EventLog, stream: bytes) -> tuple[Purse, int]:
    """The purse of a stream and the number of its events. Raises CorruptionError (LogCorrupt among them)."""
    purse, version = fold(log, stream, decode_purse_event, _evolve, None, snapshot_codec=_CODEC)
    if purse is None:
        raise CorruptionError(f"stream {stream.hex()} holds no purse")
    if purse.channel != stream:
        raise CorruptionError(f"stream {stream.hex()} holds the purse of channel 0x{purse.channel.hex()}")
    return purse, version


def save_purse(log: EventLog, purse: Purse, version: int) -> None:
    """Snapshot the purse as its first `version` events, all of them stored, give it."""
    log.save_snapshot(purse.channel, Snapshot(version, _CODEC.encode(purse)), "channel")


def _evolve(purse: Purse | None, event: PurseEvent) -> Purse:
    return create(event) if purse is None else evolve(purse, event)
