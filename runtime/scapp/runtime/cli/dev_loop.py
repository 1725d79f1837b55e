"""The inner loop of `scapp dev`: watch a reducer's sources, build, check and derive the record again on each save.

Neighbours: `dev_network.py` runs the nodes, `dev_screen.py` shows, `dev.py` is the command.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from scapp.channels.errors import ScappError
from scapp.reducers.build import LANGUAGES, build_reducer
from scapp.reducers.toolchain import BuildError
from scapp.runtime.differences import Difference
from scapp.runtime.module import CheckedModule, check_module
from scapp.runtime.rederive import Left, Rederivation, changed_rows

WATCHED = {*LANGUAGES, ".h"}


class Save(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one version of the sources. `problem` is empty when all went well. Times are seconds: `total` from
    the moment the file system gives for the save until the tables were there."""

    problem: str = ""
    build_s: float = 0.0
    check_s: float = 0.0
    derive_s: float = 0.0
    total_s: float = 0.0
    differences: Sequence[Difference] = ()
    tables_changed: Sequence[str] = ()
    left_out: Sequence[Left] = ()


class DevLoop:
    """One reducer's source file and the record that its versions derive. One thread at a time; close it."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.wasm = b""
        self.current: Rederivation | None = None
        self.saves: list[Save] = []
        self._folder = tempfile.TemporaryDirectory(prefix="scapp-dev-")
        self._channel_id = b""
        self._record: list[bytes] = []
        self._module: CheckedModule | None = None
        self._seen = self._look()

    def close(self) -> None:
        if self.current is not None:
            self.current.close()
            self.current = None
        self._folder.cleanup()

    @property
    def module(self) -> CheckedModule | None:
        """The last version that could be built and checked."""
        return self._module

    def first(self) -> CheckedModule:
        """Build what is there. Raises BuildError or ModuleRefused."""
        self._module = self._built()
        return self._module

    def use(self, channel_id: bytes, entries: Sequence[bytes]) -> None:
        """Take another record: the log of a channel from its entry 0 on. Raises NotDerivable."""
        assert self._module is not None, "built first"
        fresh = Rederivation(self._module, channel_id, entries)
        if self.current is not None:
            self.current.close()
        self.current, self._channel_id, self._record = fresh, channel_id, list(entries)

    def extend(self, entries: Sequence[bytes]) -> None:
        """The record has grown. Raises NotDerivable."""
        self._record += entries
        if self.current is not None:
            self.current.extend(entries)

    @property
    def recorded(self) -> int:
        """Entries in the record."""
        return len(self._record)

    def poll(self) -> Save | None:
        """When the sources have changed since the last look: build, check, derive again. Never raises for what the
        source is; the version before stays current then."""
        found = self._look()
        if found == self._seen:
            return None
        self._seen = found
        saved_at = max((moment for _, moment, _ in found), default=time.time_ns())
        save = self._save(saved_at / 1e9)
        self.saves.append(save)
        return save

    def typical_s(self) -> float | None:
        """The median of the totals of successful saves."""
        totals = [save.total_s for save in self.saves if not save.problem]
        return statistics.median(totals) if totals else None

    def _save(self, saved_at: float) -> Save:
        begin = time.perf_counter()
        try:
            wasm = self._compiled()
            built = time.perf_counter()
            module = check_module(wasm, quick=True)
            checked = time.perf_counter()
            differences, words = self._derive(module)
        except (BuildError, ScappError, OSError) as error:
            return Save(problem=str(error))
        self.wasm, self._module = wasm, module
        return Save(
            build_s=built - begin,
            check_s=checked - built,
            derive_s=time.perf_counter() - checked,
            total_s=max(time.time() - saved_at, time.perf_counter() - begin),
            differences=differences,
            tables_changed=words,
            left_out=tuple(self.current.left_out) if self.current else (),
        )

    def _derive(self, module: CheckedModule) -> tuple[Sequence[Difference], Sequence[str]]:
        if not self._record:
            return (), ()
        fresh = Rederivation(module, self._channel_id, self._record)
        before, self.current = self.current, fresh
        if before is None:
            return (), ()
        try:
            return changed_rows((before.module, before.rows()), (module, fresh.rows()))
        finally:
            before.close()

    def _built(self) -> CheckedModule:
        wasm = self._compiled()
        module = check_module(wasm, quick=True)
        self.wasm = wasm
        return module

    def _compiled(self) -> bytes:
        out = Path(self._folder.name) / "reducer.wasm"
        build_reducer(self.source, out, quick=True)
        return out.read_bytes()

    def _look(self) -> frozenset[tuple[str, int, int]]:
        """Name, time of change and size of every source file beside the reducer's."""
        found = set()
        for path in self.source.parent.iterdir():
            if path.suffix in WATCHED:
                try:
                    status = path.stat()
                except OSError:  # an editor replaces files
                    continue
                found.add((path.name, status.st_mtime_ns, status.st_size))
        return frozenset(found)
