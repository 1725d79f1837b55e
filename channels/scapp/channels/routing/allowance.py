"""How often something may happen: a token bucket in integers; the clock comes from outside and may be set back."""

from __future__ import annotations


class Allowance:
    """`burst` times at once, then once each `refill_ms`."""

    __slots__ = ("_at_ms", "_full_ms", "_refill_ms", "_saved_ms")

    def __init__(self, burst: int, refill_ms: int) -> None:
        self._full_ms = burst * refill_ms
        self._refill_ms = refill_ms
        self._saved_ms = self._full_ms
        self._at_ms = 0

    def take(self, now_ms: int, times: int = 1) -> bool:
        """May it happen now, so many times? Then it counts as done."""
        if self.wait_ms(now_ms, times):
            return False
        self._saved_ms -= self._refill_ms * times
        return True

    def wait_ms(self, now_ms: int, times: int = 1) -> int:
        """How long until it may happen; 0 if it may now."""
        self._saved_ms = min(self._full_ms, self._saved_ms + max(0, now_ms - self._at_ms))
        self._at_ms = now_ms
        return max(0, self._refill_ms * times - self._saved_ms)
