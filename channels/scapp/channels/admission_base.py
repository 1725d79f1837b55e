"""One channel's admission base across restarts: built from the newest snapshot and the entries after it, saved as it
grows. `runner.py` calls it from worker threads, one call at a time; `admission.py` is the port behind it.

The log is the truth. A snapshot counts only after what it leads to has the root and the amounts that are signed;
anything else about it is a reason to replay the whole log instead, and is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import msgspec

from scapp.channels.admission import Admission, AdmissionError, Admitted, BaseSnapshot
from scapp.channels.channel.effects import TryBatch
from scapp.channels.driver import ChannelDriver
from scapp.channels.entries import EMPTY_LOG_ROOT, extend_log_root
from scapp.channels.errors import ScappError
from scapp.channels.log.port import EventLog, Snapshot
from scapp.channels.reading import EntrySource
from scapp.channels.types import Hash

logger = logging.getLogger("scapp.node")

FORM = "admission.1"
ENTRIES_MIN = 1_000
ENTRIES_ASIDE_MIN = 100
"""The same when the base is set aside: fewer entries are replayed as fast as a snapshot is loaded."""
SIZE_USES = 16
"""How often the base is used before it is asked again what it takes."""
BYTES_PER_ENTRY = 1_024
"""A snapshot is due after this many bytes of the last one per new entry, so that large tables are saved less often and
saving stays a small part of the work."""


class _Saved(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the log keeps. `form` and the roots tell it from the snapshots of other releases and other logs."""

    form: str
    sequence: int
    log_root: bytes
    state_root: bytes
    data: bytes


_decoder = msgspec.msgpack.Decoder(_Saved)


class _Mark(msgspec.Struct, gc=False):
    """How far a replay has come, and what is signed there (`amounts` None: not known yet)."""

    sequence: int = 0
    log_root: Hash = EMPTY_LOG_ROOT
    state_root: bytes = b""
    amounts: tuple[int, ...] | None = None


class AdmissionBase:
    """`entries_min`: how many new entries make a snapshot due, at least."""

    def __init__(
        self,
        admission: Admission,
        log: EventLog,
        source: EntrySource,
        driver: ChannelDriver,
        *,
        entries_min: int = ENTRIES_MIN,
    ) -> None:
        self.loaded = False
        self.used = True  # since the last `keep`
        self.asked_aside = False  # free it at the next chance
        self._admission = admission
        self._log = log
        self._source = source
        self._driver = driver
        self._entries_min = entries_min
        self.saved_at = 0  # sequence of the newest snapshot that is known to fit
        self._saved_bytes = 0
        self._size = self._size_uses = 0

    def load(self, sequence: int) -> None:
        """Build the base from the entries before `sequence` and compare it with what is signed, before anything is
        signed again. Raises AdmissionError, and what reading the log raises."""
        self._size_uses = 0
        snapshot = self._newest()
        if snapshot is not None:
            try:
                self._replay(sequence, *snapshot)
                self.saved_at, self._saved_bytes = snapshot[0].sequence, len(snapshot[0].data)
                self.loaded = True
                return
            except AdmissionError as error:
                logger.warning("%s: a snapshot is passed over, the whole log is replayed: %s", self._name(), error)
        self._replay(sequence)
        self.saved_at = self._saved_bytes = 0
        self.loaded = True

    def unload(self) -> None:
        """Free what admission holds for the channel."""
        if self.loaded:
            self._admission.unload(self._driver.engine.state.setup.channel_id)
            self.loaded = False

    def try_batch(self, batch: TryBatch) -> Admitted | AdmissionError:
        """Admission's answer, after loading where that is necessary."""
        self.used = True
        try:
            if not self.loaded:
                self.load(batch.first_sequence)
            channel_id = self._driver.engine.state.setup.channel_id
            return self._admission.try_batch(channel_id, batch.first_sequence, batch.candidates, strict=batch.strict)
        except AdmissionError as error:
            return error

    def commit(self) -> None:
        """The batch that lies on the base is supported."""
        self.used = True
        self._admission.commit(self._driver.engine.state.setup.channel_id)

    def rollback(self) -> None:
        """Take away the batch that lies on a loaded base, if there is one."""
        self.used = True
        self._admission.rollback(self._driver.engine.state.setup.channel_id)

    @property
    def is_due(self) -> bool:
        """Have enough entries become supported since the last snapshot?"""
        return self.loaded and self._is_worth(self._entries_min)

    def _is_worth(self, entries_min: int) -> bool:
        new = self._driver.engine.state.sequence - self.saved_at
        return new >= max(entries_min, self._saved_bytes // BYTES_PER_ENTRY)

    @property
    def is_idle(self) -> bool:
        """Does no batch lie on the base that others may still sign?"""
        session, state = self._driver.engine.session, self._driver.engine.state
        signable = session.layer is not None and session.layer > state.turn and state.rejected is None
        return session.work is None and not signable

    @property
    def should_go(self) -> bool:
        """May it be freed, and should it: because somebody asked, or because the channel is closed or rejected?"""
        head, rejected = self._driver.engine.state.head, self._driver.engine.state.rejected
        ended = (head is not None and head.is_final) or rejected is not None
        return self.loaded and (self.asked_aside or ended) and self.is_idle

    def keep(self) -> int:
        """Between two inputs, of a base that stays: what it takes, about."""
        self.used = self.asked_aside = False
        if not self._size_uses:
            self._size = self._admission.memory_bytes(self._driver.engine.state.setup.channel_id)
        self._size_uses = (self._size_uses + 1) % SIZE_USES
        return self._size

    def set_aside(self) -> None:
        """Free the base of an idle channel; the next batch loads it again from snapshot and log."""
        self.used = self.asked_aside = False
        if not self._driver.engine.session.failure and self._is_worth(ENTRIES_ASIDE_MIN):
            self.save()
        self.unload()
        self._driver.engine.session.layer = None  # should everybody have signed a rejected opening, it runs again

    def save(self) -> None:
        """Save a snapshot of the latest supported state, unless there is one. Never raises a ScappError: a snapshot
        that could not be saved costs time at the next restart and nothing else."""
        channel_id = self._driver.engine.state.setup.channel_id
        head = self._driver.engine.state.head
        if not self.loaded or head is None or head.is_final or head.sequence <= self.saved_at:
            return
        try:
            base = self._admission.snapshot(channel_id)
            if base is None or (base.sequence, base.state_root) != (head.sequence, head.state_root):
                # The base is not at the head while a batch runs again; the next snapshot is as good.
                return
            saved = _Saved(FORM, base.sequence, head.log_root, base.state_root, base.data)
            version = self._driver.position_of(base.sequence)
            self._log.save_snapshot(channel_id, Snapshot(version, msgspec.msgpack.encode(saved)))
        except (AdmissionError, ScappError) as error:
            logger.warning("%s: no snapshot was saved: %s", self._name(), error)
            return
        self.saved_at, self._saved_bytes = base.sequence, len(base.data)

    # Replaying

    def _newest(self) -> tuple[_Saved, int] | None:
        """The log's newest snapshot, if it is one of ours, and the version it stands at."""
        stored = self._log.load_snapshot(self._driver.stream)
        if stored is None:
            return None
        try:
            saved = _decoder.decode(stored.data)
        except (ValueError, RecursionError) as error:  # msgspec's own errors and UnicodeDecodeError are ValueErrors
            logger.warning("%s: a snapshot is passed over, it does not decode: %s", self._name(), error)
            return None
        return (saved, stored.version) if saved.form == FORM else None

    def _replay(self, sequence: int, saved: _Saved | None = None, version: int = 0) -> None:
        setup = self._driver.engine.state.setup
        mark, snapshot = _Mark(), None
        if saved is not None:
            if saved.sequence > sequence:
                raise AdmissionError(f"the snapshot holds {saved.sequence} entries, {sequence} are needed")
            mark = self._confirmed(saved)
            snapshot = BaseSnapshot(saved.sequence, saved.state_root, saved.data)
        base = self._admission.load(setup.context, self._batches(mark, sequence, version), snapshot)
        if mark.sequence != sequence:
            raise AdmissionError(f"no batch ends at sequence {sequence}; the last one before ends at {mark.sequence}")
        if sequence:  # before entry 0 nothing is signed
            _compare(base, mark)

    def _confirmed(self, saved: _Saved) -> _Mark:
        """Where the replay of what follows a snapshot begins; what is signed there is known only at the head."""
        state = self._driver.engine.state
        mark = _Mark(saved.sequence, Hash(saved.log_root), saved.state_root)
        head = state.head
        if head is not None and head.sequence == saved.sequence:
            if (head.log_root, head.state_root) != (saved.log_root, saved.state_root):
                raise AdmissionError(f"the snapshot's roots at sequence {saved.sequence} are not the signed ones")
            mark.amounts = state.setup.unpack(head.amounts)
        return mark

    def _batches(self, mark: _Mark, sequence: int, version: int) -> Iterator[Sequence[bytes]]:
        """Supported batches with entries before `sequence`; moves the mark over them."""
        for batch in self._source.batches(self._driver.engine.state.setup.channel_id, version):
            if batch.first_sequence >= sequence and batch.entries:
                return
            log_root = extend_log_root(mark.log_root, batch.entries)
            if batch.first_sequence != mark.sequence or batch.log_root != log_root:
                raise AdmissionError(
                    f"turn {batch.turn} goes on from sequence {batch.first_sequence} to log root "
                    f"0x{batch.log_root.hex()}; from {mark.sequence} its entries give 0x{log_root.hex()}"
                )
            mark.sequence, mark.log_root = batch.end_sequence, log_root
            mark.state_root, mark.amounts = batch.state_root, batch.amounts
            if batch.entries:
                yield batch.entries

    def _name(self) -> str:
        return f"channel 0x{self._driver.stream.hex()}"


def _compare(base: Admitted, signed: _Mark) -> None:
    if signed.amounts is None:
        raise AdmissionError(f"nothing signed at sequence {signed.sequence} is at hand to compare it with")
    if (base.state_root, base.amounts) != (signed.state_root, signed.amounts):
        raise AdmissionError(
            f"replaying the entries before sequence {signed.sequence} gives root 0x{base.state_root.hex()} and amounts "
            f"{base.amounts}, signed are 0x{signed.state_root.hex()} and {signed.amounts}"
        )
