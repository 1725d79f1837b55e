"""Tests of a reducer from files: given messages, expect rows, refusals, events and outcome.

A test is a TOML document (docs/howto/test-a-reducer.md). `run_test` plays it through the kernel that nodes use, one
batch per step, then once more as a single batch: a reducer that keeps state outside its tables gives another root
then, and fails.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.channels.crypto import keccak256
from scapp.channels.entries import Kind, encode_entry
from scapp.channels.types import ChannelId
from scapp.runtime.app_document import ANYTHING, BadTest, Document, Event, Step
from scapp.runtime.app_values import Cast, packed, shown
from scapp.runtime.changes import COPY_NEVER
from scapp.runtime.determinism import differences
from scapp.runtime.kernel import Budget, Kernel
from scapp.runtime.module import CheckedModule
from scapp.runtime.modules import kernel_maker
from scapp.runtime.row_types import CODECS
from scapp.runtime.stalling import AssetStalls, Prefix, stalls

START_MS = 1_800_000_000_000


class Report(msgspec.Struct):
    """What a run found; no `failures` means that it passed."""

    failures: list[str]
    steps: int
    messages: set[str]  # names of the messages that were accepted
    stalls: list[AssetStalls]  # by asset; empty without slots


def run_test(module: CheckedModule, document: Document, *, determinism: bool = False) -> Report:
    """Play the document; with `determinism` what it accepted in every way there is. Raises BadTest for one that does
    not fit the module."""
    return _Run(module, document, determinism).report()


class _Run:
    def __init__(self, module: CheckedModule, document: Document, determinism: bool) -> None:
        self._document, self._module, self._determinism = document, module, determinism
        self._names = {name: keccak256(name.encode())[-20:] for name in document.participants}
        channel = ChannelId(keccak256(b"channel of a test"))
        self._cast = Cast(self._names, channel)
        slots = tuple(self._cast.slot(slot) for slot in document.slots)
        self._context = ChannelContext(channel, tuple(self._names.values()), module.deployment, slots)
        self._accepted: list[bytes] = []
        self._prefixes: list[Prefix] = []
        self._failures: list[str] = []
        self._messages: set[str] = set()
        self._time_ms = START_MS

    def report(self) -> Report:
        kernel = self._kernel()
        try:
            self._play(kernel)
            self._check_end(kernel)
            if self._determinism:
                self._check_determinism()
            else:
                self._check_one_batch(kernel.state_root())
        finally:
            kernel.close()
        return Report(self._failures, len(self._document.step), self._messages, self._stalls())

    def _stalls(self) -> list[AssetStalls]:
        payees = {address.rjust(32, b"\0"): name for name, address in self._names.items()}
        slots = [("0x" + asset.hex(), payees.get(destination)) for asset, destination, _ in self._context.slots]
        return stalls(slots, self._document.participants, self._prefixes)

    def _kernel(self) -> Kernel:
        return kernel_maker(lambda _: self._module, track=True)(self._context)

    def _play(self, kernel: Kernel) -> None:
        document, slots = self._document, [[a, d, n.to_bytes(32, "big")] for a, d, n in self._context.slots]
        opening = [list(self._names.values()), slots, self._cast.given(document.params)]
        if not self._entry(kernel, Kind.OPEN, 0, packed(opening), document.rejected, "the opening"):
            return
        for number, step in enumerate(document.step, 1):
            self._step(kernel, number, step)

    def _step(self, kernel: Kernel, number: int, step: Step) -> None:
        what = f"step {number} ({step.from_}: {'tick' if step.tick else shown(step.send)})"
        self._time_ms += step.after_ms
        author = self._document.participants.index(step.from_)
        kind, payload = (Kind.TICK, b"") if step.tick else (Kind.MESSAGE, packed(self._cast.given(step.send)))
        if not self._entry(kernel, kind, author, payload, step.rejected, what, step.events):
            return
        if not step.tick:
            self._messages.add(step.send if isinstance(step.send, str) else next(iter(step.send), ""))
        if step.outcome is not None:
            self._check_outcome(kernel, step.outcome, what)

    def _entry(
        self, kernel: Kernel, kind: int, author: int, payload: bytes, rejected: str | None, what: str,
        events: list[Event] | None = None,
    ) -> bool:  # fmt: skip
        """Whether it was accepted; as expected or not."""
        entry = encode_entry(kind, author, len(self._accepted) + 1, self._time_ms, payload)
        result = kernel.run(len(self._accepted), [entry], budget=Budget.ORDER)
        if result.refusals:
            kernel.rollback()
            refusal = result.refusals[0]
            logs = "".join(f"\n    log: {line.text}" for line in result.logs)
            if rejected is None:
                self._failures.append(f"{what} was refused ({refusal.code}): {refusal.reason}{logs}")
            elif rejected not in refusal.reason:
                self._failures.append(f"{what} was refused for another reason\n{_diff([refusal.reason], [rejected])}")
            return False
        kernel.commit(len(self._accepted))
        events_found = kernel.take_changes(COPY_NEVER).app_events()
        self._accepted.append(entry)
        self._prefixes.append(Prefix(len(self._accepted), what, kernel.amounts()))
        if rejected is not None:
            self._failures.append(f"{what} was accepted; it should be refused with {rejected!r}")
        if events is not None:
            found = [(event.topic, self._cast.taken(_unpacked(event.data))) for event in events_found]
            self._check_events(found, events, what)
        return True

    def _check_events(self, found: Sequence[tuple[str, Any]], wanted: list[Event], what: str) -> None:
        expected = [(event.topic, event.data) for event in wanted]
        alike = len(found) == len(expected) and all(
            a[0] == b[0] and (b[1] == ANYTHING or _without_none(a[1]) == _without_none(b[1]))
            for a, b in zip(found, expected, strict=True)
        )
        if not alike:
            diff = _diff([f"{t} {shown(d)}" for t, d in found], [f"{t} {shown(d)}" for t, d in expected])
            self._failures.append(f"{what}: other events\n{diff}")

    def _check_end(self, kernel: Kernel) -> None:
        if self._document.outcome is not None:
            self._check_outcome(kernel, self._document.outcome, "at the end")
        known = {table.name: table for table in self._module.manifest.tables}
        for name, expected in self._document.tables.items():
            if name not in known:
                raise BadTest(f"no table {name!r}; the app has {', '.join(known)}")
            codec = self._module.tables[list(known).index(name)].row
            found = [self._row(known[name].columns, codec.split(row)) for row in kernel.rows(name)]
            wanted = [self._expected(name, known[name].columns, row) for row in expected]
            if not _equal(found, wanted):
                diff = _diff([shown(row) for row in found], [shown(row) for row in wanted])
                self._failures.append(f"table {name}: {len(found)} rows, not as expected\n{diff}")

    def _check_outcome(self, kernel: Kernel, expected: Sequence[int | str], what: str) -> None:
        found, wanted = list(kernel.amounts()), [int(amount) for amount in expected]
        if found != wanted:
            self._failures.append(f"{what}: another outcome\n{_diff([shown(found)], [shown(wanted)])}")

    def _check_one_batch(self, root: bytes) -> None:
        """The same entries in one instance must end at the same root."""
        kernel = self._kernel()
        try:
            result = kernel.run(0, self._accepted, budget=Budget.ORDER) if self._accepted else None
        finally:
            kernel.close()
        if result and (result.refusals or result.state_root != root):
            self._failures.append(
                "the same messages in one instance end at another root: the reducer keeps state outside its tables"
            )

    def _check_determinism(self) -> None:
        for found in differences(self._module, self._context, self._accepted):
            self._failures.append(f"{found.way}: after {found.sequence} entries, {found.detail}\n    {found.hint}")

    def _row(self, columns: Sequence[Any], values: Sequence[bytes | None]) -> dict[str, Any]:
        pairs = zip(columns, values, strict=True)
        return {c.name: None if v is None else self._cast.taken(_decoded(c.type, v)) for c, v in pairs}

    def _expected(self, table: str, columns: Sequence[Any], row: Mapping[str, Any]) -> dict[str, Any]:
        names = [column.name for column in columns]
        for name in row:
            if name not in names:
                raise BadTest(f"table {table} has no column {name!r}; it has {', '.join(names)}")
        return {c.name: _normal(c.type, row.get(c.name)) for c in columns}


def _without_none(value: Any) -> Any:
    """TOML has no null: what is null may be left out."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _decoded(type_: str, value: bytes) -> Any:
    found = CODECS[type_].decode(value)
    return found.bytes if type_ == "uuid" else json.loads(found) if type_ == "json" else found


def _normal(type_: str, value: Any) -> Any:
    """An expected value in the form of `_decoded`: amounts may be text, times milliseconds."""
    if value is None or value == ANYTHING:
        return value
    if type_ == "numeric":
        return int(value)
    if type_ == "timestamptz" and isinstance(value, int):
        return datetime.datetime.fromtimestamp(value / 1000, datetime.UTC)
    return value


def _equal(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    if len(found) != len(wanted):
        return False
    return all(w[k] in (ANYTHING, f[k]) for f, w in zip(found, wanted, strict=True) for k in w)


def _diff(found: list[str], wanted: list[str]) -> str:
    """Lines found (+) and expected (-) that the other side lacks."""
    missing = [f"    - {line}" for line in wanted if line not in found]
    extra = [f"    + {line}" for line in found if line not in wanted]
    if not missing and not extra:
        missing = [f"    the same in another order; found: {line}" for line in found]
    return "\n".join(["    - expected   + found", *missing, *extra])


def _unpacked(data: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(data)
    except msgspec.DecodeError:
        return data
