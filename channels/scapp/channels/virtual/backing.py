"""What an app channel hears of the virtual channel behind it; `standing.py` has what people hear."""

from __future__ import annotations

from scapp.channels.backing import Backing, Stage
from scapp.channels.virtual.chain_view import finalized_state
from scapp.channels.virtual.record import VirtualRecord
from scapp.channels.virtual.standing import phase


def backing(record: VirtualRecord) -> Backing:
    """How its ledgers stand to it now."""
    known = (record.prefund, record.postfund, record.final)
    signatures = tuple((state.turn, state.signatures) for state in known if state is not None)
    stage = _stage(record)
    settled = finalized_state(record) if stage == "released" else None
    return Backing(stage, record.reason, signatures, settled)


def _stage(record: VirtualRecord) -> Stage:
    now = phase(record)
    if now in ("rejected", "failed", "released", "disputed"):
        return "failed" if now == "rejected" else now
    if record.final is not None:
        return "releasing"
    if record.funded:
        return "complete"
    return "guaranteed" if record.guaranteed else "none"
