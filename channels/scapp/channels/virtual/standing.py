"""Where a virtual channel stands, in words; `backing.py` has what an app channel hears of it."""

from __future__ import annotations

from typing import Literal

from scapp.channels.virtual.chain_pause import chain_pause
from scapp.channels.virtual.record import LEFT, Signatures, VirtualRecord

Phase = Literal[
    "recovering", "proposed", "opening", "funding", "running", "closing", "released", "rejected", "failed", "disputed"
]
"""`opening`: not everybody has signed the prefund state. `funding`: guarantees or postfund signatures are missing.
`failed`: it is being aborted, or was: `record.cleared` tells which."""


def phase(record: VirtualRecord) -> Phase:
    """How far it is."""
    if record.recovering:
        return "recovering"
    if record.rejected:
        return "rejected"
    if record.cleared:
        return "failed" if record.aborting else "released"
    if record.disputed or record.on_chain is not None:
        return "disputed"
    if record.aborting:
        return "failed"
    if record.final is not None:
        return "closing"
    if record.funded:
        return "running"
    if not record.accepted:
        return "proposed"
    return "funding" if record.prefund.complete else "opening"


def ending(record: VirtualRecord) -> bool:
    """Is the end under way? A wish to end a funded app channel only tells its parties."""
    wished = record.end_wanted and (record.agreement.kind == "payment" or not record.funded)
    return record.final is not None or record.aborting or wished


def waits(record: VirtualRecord) -> bool:
    """Does this node wait for what others say or sign?"""
    if record.recovering:
        return True
    return record.accepted and not record.over and not (record.funded and not ending(record))


def waiting_for(record: VirtualRecord) -> str:
    """What is missing before it goes on, in words; empty when nothing is."""
    if record.recovering:
        untold = [f"0x{side.peer.hex()}" for at, side in record.sides if not record.told[at]]
        return f"{' and '.join(untold)} to tell what this node has signed before its restore"
    if record.over:
        return ""
    if not record.accepted:
        return "this node's agreement"
    if record.on_chain is not None:
        return _removal(record)
    if record.disputed or record.exit_reason:
        return chain_pause(record)
    if record.aborted is not None:
        return _missing(record, record.aborted, "aborted state") or _removal(record)
    if record.final is not None:
        return _missing(record, record.final, "final state") or _removal(record)
    if record.funded:
        return "the final state" if ending(record) else ""
    return _missing(record, record.prefund, "prefund state") or _funding(record)


def _funding(record: VirtualRecord) -> str:
    for at, side in record.sides:
        if not record.held[at]:
            return f"the guarantee in the ledger with 0x{side.peer.hex()}"
    if record.postfund is None:
        return "the postfund state from the app's two parties"
    return _missing(record, record.postfund, "postfund state")


def _removal(record: VirtualRecord) -> str:
    for at, side in record.sides:
        if not record.gone[at]:
            where = "left" if at == LEFT else "right"
            return f"the guarantee's removal from the {where} ledger, with 0x{side.peer.hex()}"
    return ""


def _missing(record: VirtualRecord, state: Signatures, name: str) -> str:
    people = record.agreement.participants
    missing = [f"0x{people[index].hex()}" for index, signature in enumerate(state.signatures) if not signature]
    return f"the {name}'s signature of {', '.join(missing)}" if missing else ""
