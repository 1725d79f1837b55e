"""Logging and counting what is refused, without letting a stranger fill the disk with log lines."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

_log = logging.getLogger("scapp.transport")
_BURST = 100
_LINES_PER_S = 10


class Refusals:
    """Counts every refusal; logs up to a burst of them, then a steady trickle with the number left out."""

    def __init__(self, counters: Counter[str], clock: Callable[[], float]) -> None:
        self._counters = counters
        self._clock = clock
        self._lines = float(_BURST)
        self._filled_at = clock()
        self._left_out = 0

    def note(self, counter: str, peer: str, reason: str) -> None:
        """`counter`: which number grows; `peer`: an address or an endpoint; `reason`: a sentence."""
        self._counters[counter] += 1
        now = self._clock()
        self._lines = min(_BURST, self._lines + (now - self._filled_at) * _LINES_PER_S)
        self._filled_at = now
        if self._lines < 1:
            self._left_out += 1
            return
        self._lines -= 1
        extra = {"peer": peer, "reason": reason, "left_out": self._left_out}
        _log.warning("refused %s: %s", peer, reason, extra=extra)
        self._left_out = 0
