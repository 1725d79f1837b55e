"""`python -m tests.simulation.killed`: the scripted life over RocksDB, its process killed at every durable write.

For each write, before and after it: a child process plays `scripted.py` with both participants' logs on this disk and
kills itself there with SIGKILL; another child finds the same folders, finishes the life and verifies it. The chain is
the outside world and survives: it is kept in a file. Hours are not needed (some ten minutes), but too many for CI.
"""

from __future__ import annotations

import argparse
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from scapp.channels.driver import Store
from scapp.channels.log.rocks import RocksLog
from tests.simulation.scripted import Script
from tests.support.disk import SimDisk
from tests.support.sim import SimNode

CHILD_S = 120


class RealLog(RocksLog):
    """The node's log as it is; `disk` is where the simulator would look for faults, and has none."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.disk = SimDisk()


class Kept:
    """What the world outside remembers: the chain, what was sent to it, and the time."""

    def __init__(self, script: Script, path: Path) -> None:
        self._script, self._path = script, path

    def save(self) -> None:
        """Whole or not at all."""
        sim = self._script.sim
        held = (sim.plain, sim.now_ms, self._script.chain.channel, self._script.said)
        beside = self._path.with_suffix(".new")
        beside.write_bytes(pickle.dumps(held))
        beside.rename(self._path)

    def load(self) -> None:
        sim = self._script.sim
        held = pickle.loads(self._path.read_bytes())
        sim.plain, sim.now_ms, self._script.chain.channel, self._script.said = held
        sim.chain = sim.plain.chain


def put_on_disk(script: Script, folder: Path) -> None:
    """Each participant's log becomes one in the folder; whoever has something there starts from it."""
    for node in script.sim.nodes:
        node.log = RealLog(folder / node.name)  # type: ignore[assignment]
        node.start()


def cut_at(script: Script, write: int, *, after: bool, kept: Kept) -> None:
    """Kill this process at that write, counted over both participants."""
    left = write

    def watch(node: SimNode) -> None:
        inner = node._store

        def store(driver: Any, request: Store) -> None:
            nonlocal left
            left -= 1
            if left > 0:
                inner(driver, request)
                return
            if after:
                inner(driver, request)
            kept.save()
            os.kill(os.getpid(), signal.SIGKILL)

        node._store = store  # type: ignore[method-assign]

    for node in script.sim.nodes:
        watch(node)


def child(folder: Path, write: int, *, after: bool) -> None:
    """Play until killed; without a cut, to the end."""
    script = Script()
    put_on_disk(script, folder)
    kept = Kept(script, folder / "world")
    cut_at(script, write, after=after, kept=kept)
    script.play()
    script.finish()
    script.verify(whole=True)
    for node in script.sim.nodes:
        node.log.close()


def survivor(folder: Path) -> None:
    """Go on from what the killed process left."""
    script = Script()
    Kept(script, folder / "world").load()
    put_on_disk(script, folder)
    script.wake()
    script.finish()
    script.verify(whole=False)
    for node in script.sim.nodes:
        node.log.close()


def run_child(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.simulation.killed", "--folder", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=CHILD_S)


def every_write(step: int) -> tuple[int, list[str]]:
    """How many lives were cut off, and what went wrong in which."""
    faults: list[str] = []
    cut = 0
    for after in (False, True):
        for write in range(1, 1_000_000, step):
            with tempfile.TemporaryDirectory(prefix="scapp-killed-") as name:
                flags = ["--write", str(write), *(["--after"] if after else [])]
                first = run_child(Path(name), *flags)
                if first.returncode == 0:
                    break
                where = f"write {write}, {'after' if after else 'before'} it"
                if first.returncode != -signal.SIGKILL:
                    faults.append(f"{where}: {first.stderr[-2_000:]}")
                    break
                cut += 1
                second = run_child(Path(name), "--survivor")
                if second.returncode != 0:
                    faults.append(f"{where}: {second.stderr[-2_000:]}")
    return cut, faults


def main(arguments: list[str]) -> int:
    """The exit status; the last line says how many lives were cut off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=int, default=1, help="only every so many writes")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--after", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--survivor", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.folder is not None:
        logging.disable(logging.CRITICAL)
        survivor(chosen.folder) if chosen.survivor else child(chosen.folder, chosen.write, after=chosen.after)
        return 0
    cut, faults = every_write(chosen.step)
    for fault in faults:
        print(fault)
    print(f"{cut} lives killed at a write, {len(faults)} did not recover")
    return 1 if faults or not cut else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
