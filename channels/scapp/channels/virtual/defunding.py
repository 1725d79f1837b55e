"""The end of a virtual channel: the final state, its checks, and the guarantees' removal (docs/reference/virtual.md)."""

from __future__ import annotations

from scapp.channels.books.step import Step
from scapp.channels.state import VariablePart
from scapp.channels.virtual.record import VirtualRecord


def end(record: VirtualRecord, reason: str) -> Step:
    """This node's owner wants the channel to end: by its final state when it is funded, else by not funding it. Raises
    LocalError. A funded app channel is ended by its two parties, through their app: a hub's wish only tells them."""
    raise NotImplementedError


def wants_total(record: VirtualRecord) -> bool:
    """Must the payment book end the payments of this channel and say, by `total_known`, what they come to? The payer
    is asked before it signs the final state, the payee before it countersigns."""
    raise NotImplementedError


def total_known(record: VirtualRecord, total: int) -> Step:
    """The payments have ended at `total`: the payer's largest voucher, or the payee's. Raises LocalError."""
    raise NotImplementedError


def offer(record: VirtualRecord, state: VariablePart, signatures: tuple[bytes, ...]) -> Step:
    """An app channel's own engine gives a state of turn 0 or 1, or a final one, with the signatures it has (one item per
    participant, hubs' empty). What is known already changes nothing. Raises LocalError."""
    raise NotImplementedError


def final_fault(record: VirtualRecord, state: VariablePart) -> str:
    """Why the state is no final state of this channel, or an empty string (docs/reference/nitro.md section 12)."""
    raise NotImplementedError
