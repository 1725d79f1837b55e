"""Transfers between 1000 accounts as supported batches, what derives them, and the same numbers for rivals in SQL.

The batches are what a log would give: entries, log roots, state roots, made by a kernel of its own outside the clock.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ACCOUNTS = 1_000
PER_BATCH = 1_000  # messages under one signature, and so under one root
_NODE = bytes.fromhex("a11ce00000000000000000000000000000000001")
_CHECKED: list[Any] = []

Transfer = tuple[int, int, int]
"""Sender, recipient, amount."""


def draw(count: int, seed: int = 1) -> list[Transfer]:
    """Transfers between two different accounts."""
    numbers = random.Random(seed)
    pairs = (numbers.sample(range(ACCOUNTS), 2) for _ in range(count))
    return [(sender, recipient, numbers.randint(1, 1_000)) for sender, recipient in pairs]


def module() -> Any:
    """The checked module, compiled once in a process."""
    from scapp.channels.deployment import Limits
    from scapp.runtime.module import check_module

    if not _CHECKED:
        wasm = (Path(__file__).parent / "transfer.wasm").read_bytes()
        _CHECKED.append(check_module(wasm, Limits(rows_max=10_000_000, row_bytes_total_max=2**31)))
    return _CHECKED[0]


def maker() -> Any:
    """What makes kernels for derivation: the implementation that the product runs."""
    from scapp.runtime.modules import kernel_maker

    return kernel_maker(lambda _: module(), track=True)


class TransferLog:
    """An EntrySource of one channel that grows by whole batches; `number` is the channel's."""

    def __init__(self, number: int = 0) -> None:
        from scapp.channels.admission import ChannelContext
        from scapp.channels.types import ChannelId

        self.context = ChannelContext(
            ChannelId(number.to_bytes(32, "big")), (_NODE, bytes(20)), module().deployment, ()
        )
        self._kernel = maker()(self.context)
        self._batches: list[Any] = []
        self._sign([_entry(0, 0, _open())])

    @property
    def sequence(self) -> int:
        return int(self._batches[-1].end_sequence)

    def append(self, transfers: Sequence[Transfer], kind: str = "transfer", per_batch: int = PER_BATCH) -> None:
        """Order and sign messages."""
        import msgspec

        payloads = [
            msgspec.msgpack.encode({kind: {"sender": sender, "recipient": recipient, "amount": amount}})
            for sender, recipient, amount in transfers
        ]
        for start in range(0, len(payloads), per_batch):
            entries = [
                _entry(1, start + number, data) for number, data in enumerate(payloads[start : start + per_batch])
            ]
            self._sign(entries)

    def forget_kernel(self) -> None:
        """Free what signed; the log cannot grow any more."""
        self._kernel.close()
        self._kernel = None

    def _sign(self, entries: list[bytes]) -> None:
        from scapp.channels.entries import extend_log_root
        from scapp.channels.reading import SupportedBatch
        from scapp.channels.types import ZERO_HASH
        from scapp.runtime.changes import COPY_NEVER
        from scapp.runtime.kernel import Budget

        first = self.sequence if self._batches else 0
        result = self._kernel.run(first, entries, budget=Budget.ORDER)
        assert not result.refusals, result.refusals[:1]
        self._kernel.commit(len(self._batches))
        self._kernel.take_changes(COPY_NEVER)
        root = extend_log_root(self._batches[-1].log_root if self._batches else ZERO_HASH, entries)
        turn = len(self._batches)
        self._batches.append(
            SupportedBatch(turn, first, tuple(entries), root, result.state_root, (), 1_000, False, turn + 1)
        )

    def contexts(self) -> list[Any]:
        return [self.context]

    def archived(self) -> dict[bytes, Any]:
        return {}

    def archive_version(self) -> int:
        return 0

    def batches(self, channel_id: bytes, position: int = 0) -> Iterator[Any]:
        yield from self._batches[position:]


def worker_over(log: Any, backend: Any) -> Any:
    """The product's worker over that log; `run_once` derives all there is."""
    from scapp.runtime.worker import Worker

    return Worker(log, backend, _NODE, kernel_for=maker(), manifest_for=lambda _: module().manifest)


class Durable:
    """A backend whose connections wait for the disk at every commit."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def connect(self) -> Any:
        connection = self._inner.connect()
        connection.execute("SET synchronous_commit = on")
        return connection


def copy_stream(transfers: Sequence[Transfer], first: int) -> bytes:
    """`rival.message` rows as one COPY BINARY file."""
    from scapp.runtime.database.binary import COPY_HEADER, COPY_TRAILER

    pack = struct.Struct(">hiqiiiiiq").pack
    rows = [
        pack(4, 8, sequence, 4, sender, 4, recipient, 8, amount)
        for sequence, (sender, recipient, amount) in enumerate(transfers, first)
    ]
    return COPY_HEADER + b"".join(rows) + COPY_TRAILER


def copy_whole_stream(transfers: Sequence[Transfer], first: int) -> bytes:
    """The same for the wider `rival.message` of `same_tables.sql`."""
    from scapp.runtime.database.binary import COPY_HEADER, COPY_TRAILER
    from scapp.runtime.row_types import int_to_numeric

    head, tail = struct.Struct(">hi32siqiqihih"), struct.Struct(">iqiiiiiq")
    parts = [COPY_HEADER]
    for sequence, (sender, recipient, amount) in enumerate(transfers, first):
        counter = int_to_numeric(sequence % PER_BATCH)
        parts.append(head.pack(10, 32, bytes(32), 8, sequence, 8, sequence // PER_BATCH, 2, 1, 2, 0))
        parts.append(len(counter).to_bytes(4, "big") + counter)
        parts.append(tail.pack(8, 1_700_000_000_000, 4, sender, 4, recipient, 8, amount))
    return b"".join([*parts, COPY_TRAILER])


def clean(backend: Any) -> None:
    """An empty database."""
    with backend.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS transfer, scapp, rival CASCADE")
        connection.execute("CHECKPOINT")


def _open() -> bytes:
    import msgspec

    return msgspec.msgpack.encode(((_NODE, bytes(20)), (), None))


def _entry(kind: int, counter: int, payload: bytes) -> bytes:
    from scapp.channels.entries import encode_entry

    return encode_entry(kind, 0, counter, 1_700_000_000_000, payload)
