"""Notices that another process runs with this node's key, by what peers say when they end a link. Pure.

A peer keeps one link for each address. To a node that runs alone it says once or twice, when both dial at the same
moment, or after its machine fell silent, that another link is in use; of two processes with one key one hears it again
and again, or each takes the link from the other.
"""

from __future__ import annotations

from scapp.channels.types import Address

IN_USE = "another link is in use"
REPLACED = "replaced by another link"
TOLD = frozenset(f"closed by the peer: {reason!r}" for reason in (IN_USE, REPLACED))
TIMES_MIN = 4
LASTS_MIN_S = 20.0
"""A link that is dead without the peer's knowledge is found out within 5 seconds (`TransportLimits.probe_s`)."""
PEERS_MAX = 1_024
APART_MAX_S = 120.0
"""Dialling pauses for 30 seconds at most; what is further apart is another story."""
AGAIN_S = 3_600.0


class Twins:
    """Seconds are of any clock that does not go back."""

    def __init__(self) -> None:
        self._told: dict[Address, tuple[float, float, int]] = {}  # since when, the last time, how often
        self._warned_s: dict[Address, float] = {}

    def suspected(self, peer: Address, ended: str, now_s: float) -> bool:
        """A link with the peer has ended so. Is it time to warn?"""
        if ended not in TOLD:
            self._told.pop(peer, None)
            return False
        since, last, times = self._told.pop(peer, (now_s, now_s, 0))
        if now_s - last > APART_MAX_S:
            since, times = now_s, 0
        self._told[peer] = since, now_s, times + 1
        for known in (self._told, self._warned_s):
            if len(known) > PEERS_MAX:
                del known[next(iter(known))]  # anybody can have any number of keys
        if times + 1 < TIMES_MIN or now_s - since < LASTS_MIN_S:
            return False
        if now_s - self._warned_s.get(peer, now_s - AGAIN_S) < AGAIN_S:
            return False
        self._warned_s[peer] = now_s
        return True
