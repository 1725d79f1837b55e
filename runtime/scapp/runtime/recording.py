"""Admission that also tells what it refused, for the table `scapp.rejections`; `compose.py` puts it in between.

Only what is told is added: decisions are the inner admission's, and a listener can neither delay nor change them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from scapp.channels.admission import Admission, Admitted, BaseSnapshot, ChannelContext
from scapp.channels.entries import decode_entry
from scapp.channels.types import ChannelId
from scapp.runtime.database.rejections import Rejection

_log = logging.getLogger(__name__)


class RecordingAdmission:
    """Implements `Admission` over another one; `told` gets every refusal of a candidate batch and must not block."""

    def __init__(self, inner: Admission, told: Callable[[Rejection], None]) -> None:
        self._inner = inner
        self._told = told

    def load(
        self, context: ChannelContext, batches: Iterable[Sequence[bytes]], snapshot: BaseSnapshot | None = None
    ) -> Admitted:
        return self._inner.load(context, batches, snapshot)

    def snapshot(self, channel_id: ChannelId) -> BaseSnapshot | None:
        return self._inner.snapshot(channel_id)

    def try_batch(
        self, channel_id: ChannelId, first_sequence: int, candidates: Sequence[bytes], *, strict: bool
    ) -> Admitted:
        result = self._inner.try_batch(channel_id, first_sequence, candidates, strict=strict)
        for refusal in result.refusals:
            try:
                entry = decode_entry(candidates[refusal.index])
                self._told(Rejection(channel_id, entry.author, entry.counter, refusal.code, refusal.reason))
            except Exception:  # diagnostics never decide anything
                _log.exception("a refusal could not be recorded")
        return result

    def commit(self, channel_id: ChannelId) -> None:
        self._inner.commit(channel_id)

    def rollback(self, channel_id: ChannelId) -> None:
        self._inner.rollback(channel_id)

    def memory_bytes(self, channel_id: ChannelId) -> int:
        return self._inner.memory_bytes(channel_id)

    def unload(self, channel_id: ChannelId) -> None:
        self._inner.unload(channel_id)
