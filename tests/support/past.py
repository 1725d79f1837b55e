"""An app whose tables ask for history, scripts for it, and a log of random writes beside a model of what they make."""

from __future__ import annotations

import functools
import random
from typing import Any

from scapp.channels.admission import ChannelContext
from scapp.reducers.manifest import Column, Index, Manifest, Table, encode_manifest
from scapp.runtime.kernel import Kernel
from scapp.runtime.module import CheckedModule, check_module
from scapp.runtime.native.kernel import NativeKernel
from scapp.runtime.rows import encode_key, encode_row
from tests.support import wat
from tests.support.postgres import SignedLog
from tests.support.wat import message, op

SCORE = Table("score", (Column("player", "text"), Column("points", "int8", nullable=True)), key=1, history=True)
# The name as long as one may be, a key of two columns with another between them and the rest in the table of versions.
SEATS = "s" * 48
SEAT = Table(
    SEATS,
    (Column("room", "int4"), Column("number", "numeric"), Column("sequence", "int8"), Column("holder", "address")),
    key=2,
    indexes=(Index("seat_by_holder", ("holder",)),),
    history=True,
)
NOW = Table("now", (Column("player", "text"), Column("points", "int8")), key=1)  # asks for no history
TABLES = (SCORE, SEAT, NOW)
MANIFEST = Manifest("past", "1", TABLES)
Model = list[dict[str, dict[tuple[Any, ...], tuple[Any, ...]]]]
"""By sequence, by table, by key: the rows after that message."""


@functools.cache
def checked() -> CheckedModule:
    """The scripted reducer over these tables."""
    return check_module(wat.module(wat.IMPORTS, wat.MEMORY, wat.ALLOC, wat.SCRIPT, manifest=encode_manifest(MANIFEST)))


ONE = wat.context_of(checked())


def put(table: Table, *values: Any) -> bytes:
    return op(wat.PUT, encode_row(table, values), TABLES.index(table))


def delete(table: Table, *key: Any) -> bytes:
    return op(wat.DELETE, encode_key(table, key), TABLES.index(table))


def kernel(context: ChannelContext) -> Kernel:
    return NativeKernel(checked(), context)


class Life:
    """Random writes to few keys, in a log and in a model of what they make of the tables."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.log = SignedLog(ONE, make_kernel=kernel)
        self.model: Model = [{table.name: {} for table in TABLES}]  # after the opening entry

    def batch(self, messages: int) -> None:
        self.log.sign(ONE, [self._message() for _ in range(messages)])

    def _message(self) -> bytes:
        now = {name: dict(found) for name, found in self.model[-1].items()}
        parts = []
        for _ in range(self.random.randrange(5)):
            table = self.random.choice(TABLES)
            key: tuple[Any, ...] = (self.random.choice("abc"),)
            rest: tuple[Any, ...] = (self.random.choice([1, 2] if table is NOW else [None, 1, 2]),)
            if table is SEAT:
                key = (self.random.randrange(-1, 2), self.random.choice([0, 10**70]))
                rest = (self.random.randrange(2), self.random.choice([wat.ALICE, wat.BOB]))
            if self.random.random() < 0.3:
                parts.append(delete(table, *key))
                now[table.name].pop(key, None)
            else:
                parts.append(put(table, *key, *rest))
                now[table.name][key] = key + rest
        self.model.append(now)
        return message(*parts)
