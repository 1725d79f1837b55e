"""Proofs of single rows under co-signed states: tables run from the log, never read from a database.

`proof_documents.py` makes a document of what comes out here. Kernels of the channels asked last are kept, so that a
second proof costs a walk down the tree; a channel asked for the first time is run from its beginning.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.channels.errors import CorruptionError, LocalError
from scapp.channels.reading import EntrySource, SignedState
from scapp.channels.types import ChannelId
from scapp.runtime.derive import DerivationHalted
from scapp.runtime.kernel import Kernel
from scapp.runtime.progress import Meter
from scapp.runtime.proofs import Proof
from scapp.runtime.replica import Replica

KERNELS_MAX = 4


class NotProvable(LocalError):
    """There is no such co-signed state here, or this node cannot run the channel."""


class Proved(msgspec.Struct, frozen=True):
    """`row` None: the key is absent."""

    signed: SignedState
    row: bytes | None
    proof: Proof


class _Held:
    """One channel's tables at some turn."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.replica: Replica | None = None

    def close(self) -> None:
        with self.lock:
            if self.replica is not None:
                self.replica.kernel.close()
            self.replica = None


class Prover:
    """Thread-safe; one proof of a channel at a time. `kernel_for` raises AdmissionError."""

    def __init__(
        self, source: EntrySource, kernel_for: Callable[[ChannelContext], Kernel], kernels_max: int = KERNELS_MAX
    ) -> None:
        self._source = source
        self._kernel_for = kernel_for
        self._kernels_max = kernels_max
        self._lock = threading.Lock()
        self._held: collections.OrderedDict[ChannelId, _Held] = collections.OrderedDict()

    def prove(
        self,
        context: ChannelContext,
        table_position: int,
        key: bytes,
        turn: int | None = None,
        meter: Meter | None = None,
    ) -> Proved:
        """The row of an encoded key at `turn`, or at the latest supported turn. Raises NotProvable, AdmissionError,
        and CorruptionError when the log contradicts what was signed."""
        held, idle = self._hold(context.channel_id)
        for each in idle:
            each.close()
        with held.lock:
            replica = self._brought_to(held, context, turn, meter or Meter())
            row, proof = replica.kernel.prove(table_position, key)
            signed = self._source.signed_state(context.channel_id, replica.at.batch_position)
        if signed is None or signed.turn != replica.at.turn:
            raise CorruptionError(f"turn {replica.at.turn} is no longer where the log had it")
        return Proved(signed, row, proof)

    def close(self) -> None:
        """Free all kernels."""
        with self._lock:
            held = list(self._held.values())
            self._held.clear()
        for each in held:
            each.close()

    def _hold(self, channel_id: ChannelId) -> tuple[_Held, list[_Held]]:
        """The channel's place, and places that are no longer kept."""
        with self._lock:
            held = self._held.setdefault(channel_id, _Held())
            self._held.move_to_end(channel_id)
            count = len(self._held) - self._kernels_max
            return held, [self._held.popitem(last=False)[1] for _ in range(count)]

    def _brought_to(self, held: _Held, context: ChannelContext, turn: int | None, meter: Meter) -> Replica:
        replica = held.replica
        if replica is not None and turn is not None and replica.at.turn > turn:
            replica.kernel.close()
            replica = None
        if replica is None:
            replica = held.replica = Replica(context, self._source, self._kernel_for(context))
        try:
            meter.stage("running the log", "entries", done=replica.at.sequence)
            for batch in replica.advance(turn):
                meter.advance(len(batch.entries))
        except DerivationHalted as error:
            replica.kernel.close()
            held.replica = None
            raise NotProvable(f"the channel cannot be run here: {error}") from error
        if replica.at.turn < 0 or (turn is not None and replica.at.turn != turn):
            raise NotProvable(f"turn {turn or 0} is not in this node's log, which ends at turn {replica.at.turn}")
        return replica
