"""What long work has done so far, readable from other threads: verification, replay, a projection that catches up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """`done` of `total` `unit`s in this stage; `total` None where it is not known. `rate` is per second."""

    work: str
    subject: str
    stage: str
    done: int
    total: int | None
    unit: str
    rate: float


class Meter:
    """Counts one piece of work; one thread writes, any reads."""

    def __init__(self, work: str = "", subject: str = "") -> None:
        self._work, self._subject = work, subject
        self.stage("starting", "")

    def stage(self, name: str, unit: str, total: int | None = None, done: int = 0) -> None:
        """A new stage, counted from `done`."""
        self._stage = (name, unit, total, done, time.monotonic())
        self._done = done

    def advance(self, count: int = 1) -> None:
        self._done += count

    def read(self) -> Progress:
        """As it stands now."""
        (name, unit, total, first, since), done = self._stage, self._done
        seconds = max(time.monotonic() - since, 1e-3)
        return Progress(
            work=self._work, subject=self._subject, stage=name, done=done, total=total, unit=unit,
            rate=(done - first) / seconds,
        )  # fmt: skip


class Meters:
    """The work that goes on in this process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[Meter] = []

    @contextmanager
    def running(self, work: str, subject: str) -> Iterator[Meter]:
        """A meter that is listed until the block ends."""
        meter = Meter(work, subject)
        with self._lock:
            self._running.append(meter)
        try:
            yield meter
        finally:
            with self._lock:
                self._running.remove(meter)

    def read(self) -> list[Progress]:
        with self._lock:
            running = list(self._running)
        return [meter.read() for meter in running]
