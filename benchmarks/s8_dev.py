"""S8: from a save of the game's source to its tables derived again, as `scapp dev` does it; median of nine, seconds.

The record is a whole game of two players with 13 cards: 53 entries. In the figure: seeing that the file has changed,
the quick build, the checks with compilation, and the derivation of all entries in memory. Wall clock, from the moment
that the file system gives for the save.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.runner import Measure, Result, Unmeasured
from benchmarks.timing import processor_s

SOURCE = Path(__file__).resolve().parents[1] / "examples" / "game" / "scapp" / "game" / "goofspiel.zig"
CARDS, SAVES = 13, 9
CHANNEL, PLAYERS = bytes(32), (bytes([1]) * 20, bytes([2]) * 20)
START_MS = 1_700_000_000_000


def _record() -> list[bytes]:
    import msgspec

    from scapp.channels.crypto import commitment
    from scapp.channels.entries import Kind, encode_entry

    encode = msgspec.msgpack.encode
    entries = [encode_entry(Kind.OPEN, 0, 1, START_MS, encode([PLAYERS, [], {"cards": CARDS}]))]

    def add(author: int, message: object) -> None:
        number = len(entries) + 1
        entries.append(encode_entry(Kind.MESSAGE, author, number, START_MS + number, encode(message)))

    for round_number in range(1, CARDS + 1):
        cards, salts = (round_number, CARDS + 1 - round_number), (bytes([round_number, 1]) * 16, bytes(32))
        for seat, player in enumerate(PLAYERS):
            hidden = commitment(salts[seat], CHANNEL, player, round_number, bytes([cards[seat]]))
            add(seat, {"commit": {"hash": hidden}})
        for seat in range(2):
            add(seat, {"reveal": {"card": cards[seat], "salt": salts[seat]}})
    return entries


def run() -> Result:
    from scapp.reducers.toolchain import ToolchainMissing
    from scapp.runtime.cli.dev_loop import DevLoop

    with tempfile.TemporaryDirectory(prefix="scapp-s6-") as folder:
        source = Path(folder) / "goofspiel.zig"
        shutil.copy(SOURCE, source)
        loop = DevLoop(source)
        try:
            loop.first()
            loop.use(CHANNEL, _record())
            processor = []
            for number in range(SAVES + 1):
                text = SOURCE.read_text().replace('"the game is over"', f'"the game is over: {number}"')
                source.write_text(text)
                begin = processor_s()
                while (save := loop.poll()) is None:
                    time.sleep(0.01)
                processor.append(processor_s() - begin)
                assert [save.problem, *save.left_out, *save.differences] == [""], save
        except ToolchainMissing as error:
            raise Unmeasured(str(error)) from error
        finally:
            loop.close()
        saves = loop.saves[1:]  # the first one fills caches
    parts = {name: statistics.median(getattr(s, name) for s in saves) for name in ("build_s", "check_s", "derive_s")}
    note = ", ".join(f"{name.removesuffix('_s')} {value:.3f} s" for name, value in parts.items())
    note += f"; processor time {statistics.median(processor[1:]):.2f} s, which a busy machine stretches"
    return Result(statistics.median(save.total_s for save in saves), "s", notes=(note,))


MEASURES = [Measure("S8", "a save of the game to its tables again", goal=1.0, run=run, lower_is_better=True)]
