"""Says in time that the disk under a node's directory fills: once it is full, nothing is signed any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from scapp.runtime.sizes import disk_free_bytes

LOW_BYTES = 2**30
PAUSE_S = 60.0

_log = logging.getLogger("scapp.process")


class DiskWatch:
    """Warns once when less than `LOW_BYTES` are free, and again after there was twice as much."""

    def __init__(self, home: Path, free: Callable[[Path], int | None] = disk_free_bytes) -> None:
        self._home = home
        self._free = free
        self._told = False

    def look(self) -> None:
        free = self._free(self._home)
        if free is None:  # whoever writes there is told
            return
        if free < LOW_BYTES and not self._told:
            self._told = True
            message = "%d MB are free on the disk of %s; once it is full nothing is signed: make room"
            _log.warning(message, free // 10**6, self._home, extra={"free_bytes": free})
        elif free >= 2 * LOW_BYTES:
            self._told = False

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self.look()
            await asyncio.sleep(PAUSE_S)
