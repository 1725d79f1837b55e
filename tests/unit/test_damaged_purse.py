"""A payment channel whose purse is damaged stays closed, and the payments of all others go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scapp.channels.log.memory import MemoryLog
from scapp.channels.log.port import LogCorrupt, Page
from tests.support.ledger_scene import LedgerScene

ALICE, BOB = 0, 1


class DamagedLog(MemoryLog):
    """Its disk has damaged one stream."""

    damaged = b""

    def read(self, stream: bytes, from_version: int = 0) -> Iterator[Page]:
        self._check(stream)
        return super().read(stream, from_version)

    def last_events(self, streams: Sequence[bytes]) -> dict[bytes, bytes]:
        return super().last_events([stream for stream in streams if stream != self.damaged])

    def _check(self, stream: bytes) -> None:
        if stream == self.damaged:
            raise LogCorrupt(f"stream {stream.hex()}: checksum")


async def test_a_damaged_purse_stops_no_other_payment() -> None:
    """Neither at its payee nor at its payer: both say what is wrong, and never open it a second time."""
    for index in (BOB, ALICE):
        scene = LedgerScene(2)
        scene.logs[index] = log = DamagedLog()
        await scene.start()
        try:
            await scene.ledger(ALICE, BOB)
            lost, good = [await scene.payments((ALICE, BOB), 10) for _ in range(2)]
            for channel in (lost, good):
                await scene.books(ALICE).pay(channel, 4, 5.0)
            log.damaged = lost
            stored = log.version(lost)
            await scene.restart(index)
            books = scene.books(index)
            books._after((lost, good))
            receipt = await scene.books(ALICE).pay(good, 3, 5.0)
            assert (receipt.paid, receipt.seen) == (7, True)
            await scene.books(BOB).close_virtual(good)
            await scene.until(lambda: scene.virtual_phase(good, "released", (ALICE, BOB)))  # noqa: B023 - awaited here
            assert "damaged in this node's log" in scene.virtual(index, lost).waiting_for
            assert (log.version(lost), lost in scene.nodes[index].corrupt()) == (stored, True)
        finally:
            await scene.end()
