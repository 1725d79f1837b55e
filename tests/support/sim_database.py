"""A simulated database and the derivation into it: what supported batches give, with its cursor in one transaction.

The rows are what the app's own kernel holds (`Admission.snapshot`): a checker folds the log anew and compares. Writing
them as SQL is another matter, tested in `tests/postgres`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from scapp.channels.admission import BaseSnapshot, ChannelContext
from scapp.channels.log_source import LogSource
from scapp.channels.types import ChannelId, Hash


class Derived(msgspec.Struct, frozen=True):
    """One channel's rows, and how far in the log they go."""

    position: int
    sequence: int
    state_root: bytes
    rows: bytes


class SimDatabase:
    """It outlives the node's process; `absent` and `slow` are its faults."""

    def __init__(self) -> None:
        self.channels: dict[bytes, Derived] = {}
        self.absent = False
        self.slow = False


class Derivation:
    """A process's half: it reads supported batches and writes what they give."""

    def __init__(self, admission: Any, source: LogSource, database: SimDatabase) -> None:
        self._admission = admission
        self.source = source
        self._database = database
        self._at: dict[bytes, Derived | None] = {}

    def advance(self, context: ChannelContext) -> str:
        """Derive what is supported and not derived; a slow database takes one batch at a time. Returns why it stopped
        early, or an empty string. Raises AssertionError when a batch does not give what is signed."""
        if self._database.absent:
            return "the database was away"
        channel = context.channel_id
        at = self._database.channels.get(channel)
        if channel not in self._at or self._at[channel] != at:
            self._load(context, at)
        for batch in self.source.batches(channel, at.position if at else 0):
            if batch.entries:
                result = self._admission.try_batch(channel, batch.first_sequence, batch.entries, strict=True)
                assert not result.refusals, f"6: turn {batch.turn} is supported and does not derive"
                derived = (result.state_root, result.amounts)
                assert derived == (batch.state_root, batch.amounts), f"6: turn {batch.turn} derives another root"
                self._admission.commit(channel)
            rows = self._admission.snapshot(channel)
            at = Derived(batch.position, batch.end_sequence, rows.state_root, rows.data)
            self._database.channels[channel] = self._at[channel] = at
            if self._database.slow:
                return "the database was slow"
        return ""

    def _load(self, context: ChannelContext, at: Derived | None) -> None:
        if at is None:
            self._admission.load(context, ())
        else:
            self._admission.load(context, (), BaseSnapshot(at.sequence, Hash(at.state_root), at.rows))
        self._at[context.channel_id] = at

    def close(self) -> None:
        """Free the kernels."""
        for channel in self._at:
            self._admission.unload(ChannelId(channel))


def fold(admission: Any, context: ChannelContext, batches: list[tuple[bytes, ...]]) -> bytes:
    """The rows that a log gives from its beginning, by a kernel that has seen nothing else."""
    admission.load(context, batches)
    rows: bytes = admission.snapshot(context.channel_id).data
    admission.unload(context.channel_id)
    return rows
