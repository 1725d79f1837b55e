"""The admission port of the channel engine over kernels: what a batch would do, before anything is signed.

One kernel per loaded channel, with the tables after the latest supported state and at most one candidate layer. It
never reads PostgreSQL, so a database that is down, slow or edited can neither block nor poison signing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from scapp.channels.admission import AdmissionError, Admitted, ChannelContext, Refusal
from scapp.channels.deployment import Deployment, deployment_id
from scapp.channels.entries import EMPTY_LOG_ROOT, extend_log_root
from scapp.channels.errors import ScappError
from scapp.channels.types import ChannelId, Hash
from scapp.runtime.kernel import BatchResult, Budget, Kernel, KernelFault
from scapp.runtime.module import CheckedModule
from scapp.runtime.reference import ReferenceKernel

ModuleFor = Callable[[Deployment], CheckedModule]
"""The deployment store: a checked module, shared between channels. Raises LookupError, ScappError or OSError."""


class _Loaded:
    """One channel: its kernel, how much of the log is in the base, and the layer's entries."""

    def __init__(self, kernel: ReferenceKernel) -> None:
        self.lock = threading.Lock()
        self.kernel = kernel
        self.sequence = 0
        self.log_root = EMPTY_LOG_ROOT
        self.layer: list[bytes] | None = None


class ReducerAdmission:
    """Implements `Admission`. Thread-safe: calls for different channels overlap, calls for one take turns."""

    def __init__(self, module_for: ModuleFor) -> None:
        self._module_for = module_for
        self._channels: dict[bytes, _Loaded] = {}

    def load(self, context: ChannelContext, entries: Sequence[bytes]) -> Admitted:
        """Replay the whole supported log; at once when exactly these entries are loaded already."""
        known = self._channels.get(context.channel_id)
        if known is not None:
            with known.lock:
                if known.sequence == len(entries) and known.log_root == extend_log_root(EMPTY_LOG_ROOT, entries):
                    self._drop_layer(known)
                    return _base(known.kernel)
        loaded = _Loaded(self._kernel(context))
        return self._replay(context.channel_id, loaded, entries)

    def restore(
        self, context: ChannelContext, snapshot: bytes, sequence: int, log_root: Hash, tail: Sequence[bytes]
    ) -> Admitted:
        """Like `load`, from an earlier `snapshot` taken at `sequence` and `log_root`, and the entries since."""
        loaded = _Loaded(self._kernel(context))
        try:
            loaded.kernel.import_state(snapshot)
        except ValueError as error:
            loaded.kernel.close()
            raise AdmissionError(f"{_name(context.channel_id)}: the snapshot cannot be used: {error}") from None
        loaded.sequence, loaded.log_root = sequence, log_root
        return self._replay(context.channel_id, loaded, tail)

    def snapshot(self, channel_id: ChannelId) -> tuple[bytes, int, Hash]:
        """The base for `restore`: bytes, sequence, log root."""
        with self._held(channel_id) as loaded:
            return loaded.kernel.export_state(), loaded.sequence, loaded.log_root

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
            loaded.layer = [candidates[index] for index in result.accepted]
            return Admitted(result.accepted, result.refusals, result.state_root, result.amounts)

    def commit(self, channel_id: ChannelId) -> None:
        with self._held(channel_id) as loaded:
            if loaded.layer is None:
                raise AdmissionError(f"{_name(channel_id)}: commit without a batch; try one first")
            loaded.kernel.commit()
            loaded.sequence += len(loaded.layer)
            loaded.log_root = extend_log_root(loaded.log_root, loaded.layer)
            loaded.layer = None

    def rollback(self, channel_id: ChannelId) -> None:
        with self._held(channel_id) as loaded:
            self._drop_layer(loaded)

    def unload(self, channel_id: ChannelId) -> None:
        loaded = self._channels.pop(channel_id, None)
        if loaded is not None:
            with loaded.lock:
                loaded.kernel.close()

    @contextmanager
    def _held(self, channel_id: ChannelId) -> Iterator[_Loaded]:
        loaded = self._channels.get(channel_id)
        if loaded is None:
            raise AdmissionError(f"{_name(channel_id)} is not loaded")
        with loaded.lock:
            yield loaded

    def _kernel(self, context: ChannelContext) -> ReferenceKernel:
        deployment = deployment_id(context.deployment).hex()
        try:
            return ReferenceKernel(self._module_for(context.deployment), context)
        except LookupError as error:
            raise AdmissionError(f"deployment {deployment} is not known here: {error}") from None
        except (ScappError, KernelFault, OSError) as error:
            raise AdmissionError(f"deployment {deployment} cannot run here: {error}") from error

    def _replay(self, channel_id: ChannelId, loaded: _Loaded, entries: Sequence[bytes]) -> Admitted:
        try:
            for chunk in _chunks(loaded.sequence, entries):
                # Pieces are larger than the batches that were signed. A reducer that fills its memory over many
                # messages may fail here where it did not then, so single entries have the last word.
                if _replay_piece(channel_id, loaded, chunk):
                    for entry in chunk:
                        refusals = _replay_piece(channel_id, loaded, [entry])
                        if refusals:
                            raise AdmissionError(_replay_text(channel_id, loaded.sequence, refusals[0]))
        except AdmissionError:
            loaded.kernel.close()
            raise
        old = self._channels.get(channel_id)
        self._channels[channel_id] = loaded
        if old is not None:
            with old.lock:
                old.kernel.close()
        return _base(loaded.kernel)

    def _drop_layer(self, loaded: _Loaded) -> None:
        loaded.kernel.rollback()
        loaded.layer = None


_BUDGETS = {False: Budget.ORDER, True: Budget.CHECK}
_CHUNK_ENTRIES = 1_000


def _chunks(sequence: int, entries: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Entry 0 alone, as its batch was, and the rest in pieces."""
    start = 0
    if sequence == 0 and entries:
        yield entries[:1]
        start = 1
    for at in range(start, len(entries), _CHUNK_ENTRIES):
        yield entries[at : at + _CHUNK_ENTRIES]


def _run(
    channel_id: ChannelId, kernel: Kernel, first_sequence: int, entries: Sequence[bytes], budget: Budget
) -> BatchResult:
    try:
        return kernel.run(first_sequence, entries, budget=budget)
    except KernelFault as error:
        raise AdmissionError(f"{_name(channel_id)}: {error}") from error


def _replay_piece(channel_id: ChannelId, loaded: _Loaded, entries: Sequence[bytes]) -> tuple[Refusal, ...]:
    """Make supported entries part of the base, all or none; why some would not run."""
    result = _run(channel_id, loaded.kernel, loaded.sequence, entries, Budget.DERIVE)
    if not result.refusals:
        loaded.kernel.commit()
        loaded.sequence += len(entries)
        loaded.log_root = extend_log_root(loaded.log_root, entries)
    return result.refusals


def _base(kernel: Kernel) -> Admitted:
    return Admitted((), (), kernel.state_root(), kernel.amounts())


def _replay_text(channel_id: ChannelId, first_sequence: int, refusal: Refusal) -> str:
    return (
        f"{_name(channel_id)}: supported entry {first_sequence + refusal.index} does not replay here "
        f"({refusal.code}: {refusal.reason}); the channel halts and nothing is changed"
    )


def _name(channel_id: bytes) -> str:
    return f"channel 0x{channel_id.hex()}"
