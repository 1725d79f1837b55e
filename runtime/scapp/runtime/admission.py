"""The admission port of the channel engine over kernels: what a batch would do, before anything is signed.

One kernel per loaded channel, with the tables after the latest supported state and at most one candidate layer. It
never reads PostgreSQL, so a database that is down, slow or edited can neither block nor poison signing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from scapp.channels.admission import AdmissionError, Admitted, BaseSnapshot, ChannelContext, Refusal
from scapp.channels.types import ChannelId
from scapp.runtime.kernel import BatchResult, Budget, Kernel, KernelFault

KernelFor = Callable[[ChannelContext], Kernel]
"""A channel's kernel with no entries applied (`modules.kernel_maker`). Raises AdmissionError."""


class _Loaded:
    """One channel: its kernel, how many entries are in the base, and how many in the layer."""

    def __init__(self, kernel: Kernel) -> None:
        self.lock = threading.Lock()
        self.kernel = kernel
        self.sequence = 0
        self.layer: int | None = None


class ReducerAdmission:
    """Implements `Admission`. Thread-safe: calls for different channels overlap, calls for one take turns."""

    def __init__(self, kernel_for: KernelFor) -> None:
        self._kernel_for = kernel_for
        self._channels: dict[bytes, _Loaded] = {}

    def load(
        self, context: ChannelContext, batches: Iterable[Sequence[bytes]], snapshot: BaseSnapshot | None = None
    ) -> Admitted:
        """See `Admission.load`."""
        loaded = _Loaded(self._kernel_for(context))
        try:
            if snapshot is not None:
                _restore(context.channel_id, loaded, snapshot)
            for entries in batches:
                _replay(context.channel_id, loaded, entries)
        except BaseException:
            loaded.kernel.close()
            raise
        old = self._channels.get(context.channel_id)
        self._channels[context.channel_id] = loaded
        if old is not None:
            with old.lock:
                old.kernel.close()
        return _base(loaded.kernel)

    def snapshot(self, channel_id: ChannelId) -> BaseSnapshot:
        """See `Admission.snapshot`."""
        with self._held(channel_id) as loaded:
            return BaseSnapshot(loaded.sequence, loaded.kernel.state_root(), loaded.kernel.export_state())

    def try_batch(
        self, channel_id: ChannelId, first_sequence: int, candidates: Sequence[bytes], *, strict: bool
    ) -> Admitted:
        with self._held(channel_id) as loaded:
            self._drop_layer(loaded)
            if first_sequence != loaded.sequence:
                raise AdmissionError(
                    f"{_name(channel_id)}: a batch from sequence {first_sequence}; the base ends at {loaded.sequence}"
                )
            result = _run(channel_id, loaded.kernel, first_sequence, candidates, _BUDGETS[strict])
            if strict and result.refusals:
                loaded.kernel.rollback()
                base = _base(loaded.kernel)
                return Admitted((), result.refusals, base.state_root, base.amounts)
            loaded.layer = len(result.accepted)
            return Admitted(result.accepted, result.refusals, result.state_root, result.amounts)

    def commit(self, channel_id: ChannelId) -> None:
        with self._held(channel_id) as loaded:
            if loaded.layer is None:
                raise AdmissionError(f"{_name(channel_id)}: commit without a batch; try one first")
            loaded.kernel.commit(_UNTRACKED)
            loaded.sequence += loaded.layer
            loaded.layer = None

    def rollback(self, channel_id: ChannelId) -> None:
        with self._held(channel_id) as loaded:
            self._drop_layer(loaded)

    def memory_bytes(self, channel_id: ChannelId) -> int:
        with self._held(channel_id) as loaded:
            return loaded.kernel.memory_bytes()

    def unload(self, channel_id: ChannelId) -> None:
        loaded = self._channels.pop(channel_id, None)
        if loaded is not None:
            loaded.kernel.interrupt()  # a batch may take minutes, and nobody waits for its result any more
            with loaded.lock:
                loaded.kernel.close()

    @contextmanager
    def _held(self, channel_id: ChannelId) -> Iterator[_Loaded]:
        loaded = self._channels.get(channel_id)
        if loaded is None:
            raise AdmissionError(f"{_name(channel_id)} is not loaded")
        with loaded.lock:
            yield loaded

    def _drop_layer(self, loaded: _Loaded) -> None:
        loaded.kernel.rollback()
        loaded.layer = None


_UNTRACKED = 0
"""As a commit's turn: these kernels do not track, so nobody asks which it was."""
_BUDGETS = {False: Budget.ORDER, True: Budget.CHECK}


def _run(
    channel_id: ChannelId, kernel: Kernel, first_sequence: int, entries: Sequence[bytes], budget: Budget
) -> BatchResult:
    try:
        return kernel.run(first_sequence, entries, budget=budget)
    except KernelFault as error:
        raise AdmissionError(f"{_name(channel_id)}: {error}") from error


def _restore(channel_id: ChannelId, loaded: _Loaded, snapshot: BaseSnapshot) -> None:
    try:
        loaded.kernel.import_state(snapshot.data)
    except ValueError as error:
        raise AdmissionError(f"{_name(channel_id)}: the snapshot cannot be used: {error}") from None
    root = loaded.kernel.state_root()
    if root != snapshot.state_root:
        raise AdmissionError(
            f"{_name(channel_id)}: the snapshot cannot be used: its tables have root 0x{root.hex()}, "
            f"it was taken at 0x{snapshot.state_root.hex()}"
        )
    loaded.sequence = snapshot.sequence


def _replay(channel_id: ChannelId, loaded: _Loaded, entries: Sequence[bytes]) -> None:
    """Make one supported batch part of the base."""
    result = _run(channel_id, loaded.kernel, loaded.sequence, entries, Budget.DERIVE)
    if result.refusals:
        raise AdmissionError(_replay_text(channel_id, loaded.sequence, result.refusals[0]))
    loaded.kernel.commit(_UNTRACKED)
    loaded.sequence += len(entries)


def _base(kernel: Kernel) -> Admitted:
    return Admitted((), (), kernel.state_root(), kernel.amounts())


def _replay_text(channel_id: ChannelId, first_sequence: int, refusal: Refusal) -> str:
    return (
        f"{_name(channel_id)}: supported entry {first_sequence + refusal.index} does not replay here "
        f"({refusal.code}: {refusal.reason}); the channel halts and nothing is changed"
    )


def _name(channel_id: bytes) -> str:
    return f"channel 0x{channel_id.hex()}"
