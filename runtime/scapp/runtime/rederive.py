"""Recorded entries derived again by another module, in memory and beside what they gave before: `scapp dev`.

The channel stays as it is: a changed module is another deployment, and so never takes part in it. What the new module
refuses is left out and named; what comes after it is derived as if it had not been sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.channels.entries import Kind, OpenPayload, decode_entry
from scapp.channels.errors import LocalError
from scapp.channels.types import ChannelId
from scapp.runtime.differences import Difference, row_difference
from scapp.runtime.kernel import Budget, Kernel, KernelFault
from scapp.runtime.module import CheckedModule
from scapp.runtime.modules import kernel_maker
from scapp.runtime.row_json import row_as_json

BATCH_ENTRIES = 500

Rows = dict[str, dict[tuple[bytes | None, ...], bytes]]
"""By table and key: the row's tuple."""


class NotDerivable(LocalError):
    """The module cannot derive this log at all; the text says why."""


class Left(msgspec.Struct, frozen=True):
    """An entry that the module does not take: its place in the record, and the reason."""

    sequence: int
    reason: str


class Rederivation:
    """One module over a growing record, which begins with entry 0. Not thread-safe; close it."""

    def __init__(self, module: CheckedModule, channel_id: bytes, entries: Sequence[bytes]) -> None:
        self.module = module
        self.left_out: list[Left] = []
        self._taken = 0
        self._seen = 0
        self._kernel = _kernel_for(module, channel_id, entries)
        try:
            self.extend(entries)
        except BaseException:
            self.close()
            raise

    def extend(self, entries: Sequence[bytes]) -> None:
        """Take more entries. Raises NotDerivable when entry 0 is refused, or the module cannot run."""
        for start in range(0, len(entries), BATCH_ENTRIES):
            batch = list(entries[start : start + BATCH_ENTRIES])
            try:
                result = self._kernel.run(self._taken, batch, budget=Budget.DERIVE)
                self._kernel.commit(self._seen)
            except KernelFault as error:
                raise NotDerivable(f"the module cannot run: {error}") from error
            for refusal in result.refusals:
                if self._seen + refusal.index == 0:
                    raise NotDerivable(f"the opening is refused: {refusal.reason}")
                self.left_out.append(Left(self._seen + refusal.index, refusal.reason))
            self._taken += len(result.accepted)
            self._seen += len(batch)

    @property
    def root(self) -> bytes:
        return self._kernel.state_root()

    @property
    def amounts(self) -> tuple[int, ...]:
        return self._kernel.amounts()

    def rows(self) -> Rows:
        """All tables as they are now."""
        return {
            table.name: {tuple(codec.row.split(row)[: table.key]): row for row in self._kernel.rows(table.name)}
            for table, codec in zip(self.module.manifest.tables, self.module.tables, strict=True)
        }

    def shown(self, table_name: str, rows: Rows) -> list[dict[str, Any]]:
        """Rows of a table as JSON shows them, in key order."""
        columns = next(table.columns for table in self.module.manifest.tables if table.name == table_name)
        return [row_as_json(columns, row) for row in rows[table_name].values()]

    def close(self) -> None:
        self._kernel.close()


def _kernel_for(module: CheckedModule, channel_id: bytes, entries: Sequence[bytes]) -> Kernel:
    opening = decode_entry(entries[0])
    if opening.kind is not Kind.OPEN:
        raise NotDerivable(f"the record begins with a {opening.kind.name.lower()}; entry 0 opens a channel")
    found = msgspec.msgpack.decode(opening.payload, type=OpenPayload)
    slots = tuple((slot.asset, slot.destination, int.from_bytes(slot.amount, "big")) for slot in found.slots)
    context = ChannelContext(ChannelId(channel_id), tuple(found.participants), module.deployment, slots)
    return kernel_maker(lambda _: module, track=False)(context)


def changed_rows(
    old: tuple[CheckedModule, Rows], new: tuple[CheckedModule, Rows]
) -> tuple[list[Difference], list[str]]:
    """What differs between two derivations of one record: rows of tables that both have alike, in the new one's key
    order, and in words the tables that only one has or that have other columns. `found` is the old row."""
    olds = {table.name: table for table in old[0].manifest.tables}
    news = {table.name: table for table in new[0].manifest.tables}
    words = [f"table {name} is gone" for name in olds if name not in news]
    differences: list[Difference] = []
    for name, table in news.items():
        if name not in olds:
            words.append(f"table {name} is new")
        elif olds[name].columns != table.columns or olds[name].key != table.key:
            words.append(f"table {name} has other columns")
        else:
            differences += [
                row_difference(name, table, before, after)
                for before, after in _pairs(old[1][name], new[1][name])
                if before != after
            ]
    return differences, words


def _pairs(
    old: Mapping[tuple[bytes | None, ...], bytes], new: Mapping[tuple[bytes | None, ...], bytes]
) -> list[tuple[bytes | None, bytes | None]]:
    gone: list[tuple[bytes | None, bytes | None]] = [(row, None) for key, row in old.items() if key not in new]
    return [(old.get(key), row) for key, row in new.items()] + gone
