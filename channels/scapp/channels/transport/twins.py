"""Notices that another process runs with this node's key, by what peers say when they end a link.

A peer keeps one link for each address. To a node that runs alone it says once or twice, when both dial at the same
moment, or after its machine fell silent, that another link is in use; of two processes with one key one hears it again
and again, or each takes the link from the other.
"""

from __future__ import annotations

import logging
from collections import Counter

from scapp.channels.transport.handshake import show
from scapp.channels.types import Address

_log = logging.getLogger("scapp.transport")
IN_USE = "another link is in use"
REPLACED = "replaced by another link"
TOLD = frozenset(f"closed by the peer: {reason!r}" for reason in (IN_USE, REPLACED))
TIMES_MIN = 4
LASTS_MIN_S = 20.0
"""A link that is dead without the peer's knowledge is found out within 5 seconds (`TransportLimits.probe_s`)."""
APART_MAX_S = 120.0
"""Dialling pauses for 30 seconds at most; what is further apart is another story."""
AGAIN_S = 3_600.0


class Twins:
    """Seconds are of any clock that does not go back."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._told: dict[Address, tuple[float, float, int]] = {}  # since when, the last time, how often
        self._warned_s: dict[Address, float] = {}

    def link_ended(self, peer: Address, ended: str, now_s: float, *, known: bool) -> None:
        """Warn and count when it is time to. Only a peer that is `known`, because this node was told to dial it, is
        believed: anybody can have a key and say anything."""
        if known and self._suspected(peer, ended, now_s):
            self._counters["twins_suspected"] += 1
            text = "%s says that it has another link of this node: a second process with this key?"
            _log.error(text, show(peer), extra={"peer": show(peer)})

    def _suspected(self, peer: Address, ended: str, now_s: float) -> bool:
        if ended not in TOLD:
            self._told.pop(peer, None)
            return False
        since, last, times = self._told.pop(peer, (now_s, now_s, 0))
        if now_s - last > APART_MAX_S:
            since, times = now_s, 0
        self._told[peer] = since, now_s, times + 1
        if times + 1 < TIMES_MIN or now_s - since < LASTS_MIN_S:
            return False
        if now_s - self._warned_s.get(peer, now_s - AGAIN_S) < AGAIN_S:
            return False
        self._warned_s[peer] = now_s
        return True
