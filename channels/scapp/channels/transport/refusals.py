"""Logging and counting what is refused."""

from __future__ import annotations

import logging
from collections import Counter

_log = logging.getLogger("scapp.transport")


class Refusals:
    """Counts and logs every refusal. Strangers cause any number of them: one text for all, so that the process's log
    can limit its lines."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters

    def note(self, counter: str, peer: str, reason: str) -> None:
        """`counter`: which number grows; `peer`: an address or an endpoint; `reason`: a sentence."""
        self._counters[counter] += 1
        _log.warning("refused %s: %s", peer, reason, extra={"peer": peer, "reason": reason})
