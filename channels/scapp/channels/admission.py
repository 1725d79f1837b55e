"""The admission port: the one question the channel engine asks the runtime ("what does this batch do?").

Owned here, implemented by `scapp.runtime.admission`. Calls for one channel come one at a time, possibly from a
worker thread; calls for different channels may overlap. The implementation keeps, per channel, the tables after
the latest supported state plus at most one undoable candidate layer on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from scapp.channels.deployment import Deployment
from scapp.channels.types import ChannelId


class ChannelContext(msgspec.Struct, frozen=True, gc=False):
    """All that derivation may know of a channel besides its entries."""

    channel_id: ChannelId
    participants: tuple[bytes, ...]
    deployment: Deployment
    slots: tuple[tuple[bytes, bytes, int], ...]  # (asset 20 B, destination 32 B, prefund amount)


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Why one candidate entry was not admitted; `index` is its position in the candidate sequence."""

    index: int
    code: str  # "rejected" | "fault" | "undecidable" | "limit"
    reason: str


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """Outcome of a candidate batch: `accepted` are indices into it, in order; roots are after the accepted ones."""

    accepted: tuple[int, ...]
    refusals: tuple[Refusal, ...]
    state_root: bytes  # 32
    amounts: tuple[int, ...]  # one per outcome slot


class BaseSnapshot(msgspec.Struct, frozen=True, gc=False):
    """A base as bytes, for `Admission.load`; a shortcut, never the only copy of anything."""

    sequence: int  # entries that are in it
    state_root: bytes  # 32, after them
    data: bytes  # in a form of the implementation's own, which names channel and deployment


class AdmissionError(Exception):
    """This channel cannot be decided here (unknown deployment, module fault at load, corrupt base). Text says why."""


class Admission(Protocol):
    """Implementations: `scapp.runtime.admission.ReducerAdmission`, and `tests.support.fakes.SumAdmission`."""

    def load(
        self, context: ChannelContext, batches: Iterable[Sequence[bytes]], snapshot: BaseSnapshot | None = None
    ) -> Admitted:
        """Build the base from `snapshot` (from nothing without one) and the supported entries after it.

        `batches` are the entries as they were signed together: each is one clean run. A new channel has none.
        Returns root and amounts of the base. Raises AdmissionError, also for a snapshot that cannot be used; what
        was loaded before then stays."""
        ...

    def snapshot(self, channel_id: ChannelId) -> BaseSnapshot | None:
        """The base, without a layer that lies on it; None from an implementation that has no snapshots."""
        ...

    def try_batch(
        self, channel_id: ChannelId, first_sequence: int, candidates: Sequence[bytes], *, strict: bool
    ) -> Admitted:
        """Run `candidates` as a layer over the base, replacing an earlier layer.

        With `strict` (a countersigner's check, wider budgets) the batch counts only whole: any refusal is
        reported and nothing else matters. Without it (the sequencer) refused candidates are left out and the
        result is that of a clean run over the accepted ones. The layer stays until `commit` or `rollback`."""
        ...

    def commit(self, channel_id: ChannelId) -> None:
        """The layer's batch is supported: make it the base."""
        ...

    def rollback(self, channel_id: ChannelId) -> None:
        """Forget the layer, if any."""
        ...

    def memory_bytes(self, channel_id: ChannelId) -> int:
        """What the channel holds, roughly; who keeps many channels bounds the sum."""
        ...

    def unload(self, channel_id: ChannelId) -> None:
        """Free what the channel holds; `load` builds it again."""
        ...
