"""What the database tests share: backends to run on, a kernel whose messages are lists of row changes, and a log of
batches "signed" by such a kernel.

The kernel is no reducer: it does what the message says. Its roots are made by `scapp.runtime.root`, so what the
worker and `verify` compare is the real thing.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from scapp.channels.admission import ChannelContext, Refusal
from scapp.channels.crypto import keccak256
from scapp.channels.deployment import Deployment
from scapp.channels.entries import Kind, decode_entry, encode_entry, extend_log_root
from scapp.channels.reading import Archived, SupportedBatch
from scapp.channels.types import ZERO_HASH, Address, ChannelId
from scapp.reducers.manifest import Column, Index, Manifest, Table, check_manifest
from scapp.runtime.changes import COPY_NEVER, AppEvent, BatchChanges
from scapp.runtime.database.binaries import Binaries
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.embedded import EmbeddedBackend
from scapp.runtime.database.port import Backend
from scapp.runtime.database.server import ServerBackend
from scapp.runtime.kernel import BatchResult, Budget, Kernel
from scapp.runtime.kernel_export import decode_export
from scapp.runtime.net_changes import NetChanges, message_rows
from scapp.runtime.proofs import Proof, walk
from scapp.runtime.root import (
    EVENT_PATH,
    Node,
    apply_updates,
    event_leaf,
    extend_event_root,
    root_of,
    row_path,
    row_update,
)
from scapp.runtime.rows import TableCodec, encode_key, encode_row
from scapp.runtime.worker import Worker
from tests.support.folders import open_folder

NODE = Address(bytes.fromhex("a11ce00000000000000000000000000000000001"))
OTHER_NODE = Address(bytes.fromhex("b0b0000000000000000000000000000000000002"))
ALICE, BOB = NODE, OTHER_NODE

ACCOUNT = Table(
    "account",
    (Column("owner", "address"), Column("balance", "numeric"), Column("note", "text", nullable=True)),
    key=1,
    indexes=(Index("account_by_balance", ("balance",), unique=True),),
)
# Every name here is a keyword of SQL.
KEYWORDS = Table(
    "select",
    (Column("user", "text"), Column("order", "int4"), Column("group", "bool")),
    2,
    (Index("where", ("group",)),),
)
TAGS = Table("tag", (Column("name", "text"), Column("number", "int8")), key=2)  # nothing but a key
EVERYTHING = Table(
    "everything",
    (
        Column("id", "int8"),
        Column("a_bool", "bool", nullable=True),
        Column("an_int2", "int2", nullable=True),
        Column("an_int4", "int4", nullable=True),
        Column("an_int8", "int8", nullable=True),
        Column("a_numeric", "numeric", nullable=True),
        Column("a_float8", "float8", nullable=True),
        Column("a_text", "text", nullable=True),
        Column("a_bytea", "bytea", nullable=True),
        Column("a_bytes32", "bytes32", nullable=True),
        Column("an_address", "address", nullable=True),
        Column("a_uuid", "uuid", nullable=True),
        Column("a_time", "timestamptz", nullable=True),
        Column("a_json", "json", nullable=True),
    ),
    key=1,
)
SHOP = Manifest("shop", "1", (ACCOUNT, KEYWORDS, TAGS, EVERYTHING))
check_manifest(SHOP)
DEPLOYMENT = Deployment(keccak256(b"shop"))


# -- messages ---------------------------------------------------------------------------------------------------------


class Put(msgspec.Struct, tag="put"):
    table: str
    row: bytes


class Delete(msgspec.Struct, tag="delete"):
    table: str
    key: bytes


class Emit(msgspec.Struct, tag="emit"):
    topic: str
    data: bytes


class Reject(msgspec.Struct, tag="reject"):
    code: str
    reason: str


Operation = Put | Delete | Emit | Reject
_encode = msgspec.msgpack.encode
_decoder = msgspec.msgpack.Decoder(list[Operation])


def put(table: Table, *values: Any) -> Put:
    return Put(table.name, encode_row(table, values))


def delete(table: Table, *key: Any) -> Delete:
    return Delete(table.name, encode_key(table, key))


def account(number: int, balance: int, note: str | None = None) -> Put:
    return put(ACCOUNT, number.to_bytes(20, "big"), balance, note)


class _Layer(msgspec.Struct):
    """A batch that was run and not committed."""

    rows: dict[str, dict[bytes, bytes]]
    tree: Node
    event_root: bytes
    touched: set[tuple[str, bytes]]
    events: list[AppEvent]
    first_sequence: int
    entries: Sequence[bytes]


class ScriptedKernel:
    """The kernel port over a dictionary; `lie` makes its state root wrong from that sequence on."""

    def __init__(self, manifest: Manifest, context: ChannelContext, *, lie: int | None = None) -> None:
        self._context = context
        self._codecs = {table.name: TableCodec(table) for table in manifest.tables}
        self._positions = {table.name: position for position, table in enumerate(manifest.tables)}
        self._amounts = tuple(amount for _, _, amount in context.slots)
        self._rows: dict[str, dict[bytes, bytes]] = {table.name: {} for table in manifest.tables}
        self._tree: Node = apply_updates(None, [event_leaf(ZERO_HASH)])
        self._event_root: bytes = ZERO_HASH
        self._lie = lie
        self._layer: _Layer | None = None
        self._owed: bytes | None = None
        self._changes = NetChanges(context.channel_id)
        self.closed = False

    def log_root(self, root: bytes, entries: Sequence[bytes]) -> bytes:
        return extend_log_root(root, entries)

    def late_root(self) -> bytes:
        assert self._owed is not None
        root, self._owed = self._owed, None
        return root

    def run(self, first_sequence: int, entries: Sequence[bytes], *, budget: Budget, late: bool = False) -> BatchResult:
        assert not self.closed
        rows = {name: dict(table) for name, table in self._rows.items()}
        touched: set[tuple[str, bytes]] = set()
        events: list[AppEvent] = []
        for index, data in enumerate(entries):
            sequence, emitted = first_sequence + index, 0
            entry = decode_entry(data)
            for operation in _decoder.decode(entry.payload) if entry.kind is Kind.MESSAGE else ():
                if isinstance(operation, Reject):
                    refusal = Refusal(index, operation.code, operation.reason)
                    return BatchResult((), (refusal,), self.state_root(), self._amounts, ())
                if isinstance(operation, Put):
                    codec = self._codecs[operation.table]
                    key, _ = codec.read_row(operation.row)
                    rows[operation.table][key] = operation.row
                    touched.add((operation.table, key))
                elif isinstance(operation, Delete):
                    key = self._codecs[operation.table].read_key(operation.key)
                    rows[operation.table].pop(key, None)
                    touched.add((operation.table, key))
                else:
                    events.append(AppEvent(sequence, emitted, operation.topic, operation.data))
                    emitted += 1
        tree, event_root = self._rooted(rows, touched, events)
        self._layer = _Layer(rows, tree, event_root, touched, events, first_sequence, entries)
        root = root_of(tree)
        if self._lie is not None and first_sequence + len(entries) > self._lie:
            root = keccak256(root)
        if late:
            root, self._owed = b"", root
        return BatchResult(tuple(range(len(entries))), (), root, self._amounts, ())

    def _rooted(
        self, rows: dict[str, dict[bytes, bytes]], touched: Iterable[tuple[str, bytes]], events: Iterable[AppEvent]
    ) -> tuple[Node, bytes]:
        event_root = self._event_root
        for event in events:
            event_root = extend_event_root(event_root, event.sequence, event.topic.encode(), event.data)
        updates = [row_update(self._positions[table], key, rows[table].get(key)) for table, key in touched]
        return apply_updates(self._tree, [*updates, event_leaf(event_root)]), event_root

    def messages(self, first_sequence: int, turn: int, entries: Sequence[bytes]) -> bytes:
        return message_rows(self._context.channel_id, first_sequence, turn, entries)

    def held_bytes(self) -> int:
        return self._changes.held_bytes()

    def commit(self, turn: int, *, messages: bool = True) -> None:
        layer = self._layer
        assert layer is not None
        for table, key in layer.touched:
            self._changes.add_table(self._positions[table], {key: self._rows[table].get(key)})
        if messages:
            self._changes.add_entries(layer.first_sequence, turn, layer.entries)
        self._changes.add_events(layer.events)
        self._rows, self._tree, self._event_root = layer.rows, layer.tree, layer.event_root
        self._layer = None

    def take_changes(self, copy_rows_min: int) -> BatchChanges:
        assert self._layer is None
        return self._changes.take([(self._codecs[name], self._rows[name]) for name in self._codecs], copy_rows_min)

    def rollback(self) -> None:
        self._layer = None

    def state_root(self) -> bytes:
        return root_of(self._tree)

    def amounts(self) -> tuple[int, ...]:
        return self._amounts

    def rows(self, table: str) -> Iterable[bytes]:
        return [row for _, row in sorted(self._rows[table].items())]

    def event_root(self) -> bytes:
        return self._event_root

    def prove(self, table_position: int, key: bytes) -> tuple[bytes | None, Proof]:
        rows = [self._rows[name] for name in self._codecs]
        siblings, found = walk(self._tree, row_path(table_position, key))
        row = rows[table_position].get(key)
        if row is not None or found is None:
            return row, Proof(tuple(siblings))
        leaves = {row_path(at, each): row for at, table in enumerate(rows) for each, row in table.items()}
        leaves[EVENT_PATH] = self._event_root
        other = found.to_bytes(32, "big")
        return None, Proof(tuple(siblings), (other, keccak256(leaves[other])))

    def export_state(self) -> bytes:
        raise NotImplementedError("derivation does not ask for it")

    def import_state(self, data: bytes) -> None:
        export = decode_export(self._context, len(self._codecs), data)
        updates = [event_leaf(export.event_root)]
        for position, (name, codec) in enumerate(self._codecs.items()):
            self._rows[name] = {codec.read_row(row)[0]: row for row in export.rows[position]}
            updates += [row_update(position, key, row) for key, row in self._rows[name].items()]
        self._tree, self._event_root = apply_updates(None, updates), export.event_root
        if self.state_root() != export.state_root:
            raise ValueError(f"its rows have root {self.state_root().hex()}, it says {export.state_root.hex()}")

    def memory_bytes(self) -> int:
        return 1_000

    def interrupt(self) -> None:
        """Its batches take no time."""

    def close(self) -> None:
        self.closed = True


# -- the log ----------------------------------------------------------------------------------------------------------


def channel(number: int = 1, deployment: Deployment = DEPLOYMENT) -> ChannelContext:
    """A channel of Alice and Bob with one slot each."""
    slots = ((bytes(20), bytes(12) + ALICE, 10), (bytes(20), bytes(12) + BOB, 2**256 - 11))
    return ChannelContext(ChannelId(keccak256(b"channel %d" % number)), (ALICE, BOB), deployment, slots)


class SignedLog:
    """An EntrySource of batches that a kernel derived, a ScriptedKernel unless `make_kernel` says another.

    What a node's log looks like to its readers."""

    def __init__(
        self,
        *contexts: ChannelContext,
        manifest: Manifest = SHOP,
        make_kernel: Callable[[ChannelContext], Kernel] | None = None,
    ) -> None:
        self._contexts = list(contexts)
        self.on_disk: set[ChannelId] = set()  # channels that are over and were left there
        self.asked: list[ChannelId] = []  # whose contexts somebody wanted
        self._lock = threading.Lock()
        self.batches_of: dict[ChannelId, list[SupportedBatch]] = {}
        self._kernels: dict[ChannelId, Kernel] = {}
        for context in contexts:
            self.batches_of[context.channel_id] = []
            made = ScriptedKernel(manifest, context) if make_kernel is None else make_kernel(context)
            self._kernels[context.channel_id] = made
            self.sign(context, [encode_entry(Kind.OPEN, 0, 0, 1_000, b"\x90")], final=False)

    def append(self, context: ChannelContext, *messages: Sequence[Operation], final: bool = False) -> SupportedBatch:
        """One batch of messages, each a list of operations."""
        start = self.sequence(context)
        entries = [
            encode_entry(Kind.MESSAGE, index % 2, 2**64 - 1 - index, 2_000 + start, _encode(list(operations)))
            for index, operations in enumerate(messages)
        ]
        return self.sign(context, entries, final=final)

    def sign(self, context: ChannelContext, entries: Sequence[bytes], *, final: bool = False) -> SupportedBatch:
        """One batch of entries as they are."""
        batches, kernel = self.batches_of[context.channel_id], self._kernels[context.channel_id]
        first = batches[-1].end_sequence if batches else 0
        root = kernel.state_root()
        if entries:
            result = kernel.run(first, entries, budget=Budget.ORDER)
            assert not result.refusals or any(refusal.code != "" for refusal in result.refusals)
            if not result.refusals:
                kernel.commit(len(batches))
                kernel.take_changes(COPY_NEVER)
            root = result.state_root
        batch = SupportedBatch(
            turn=len(batches),
            first_sequence=first,
            entries=tuple(entries),
            log_root=extend_log_root(batches[-1].log_root if batches else ZERO_HASH, entries),
            state_root=root,
            amounts=kernel.amounts(),
            time_ms=3_000 + first,
            is_final=final,
            position=len(batches) + 1,
        )
        with self._lock:
            batches.append(batch)
        return batch

    def sequence(self, context: ChannelContext) -> int:
        batches = self.batches_of[context.channel_id]
        return batches[-1].end_sequence if batches else 0

    def contexts(self) -> list[ChannelContext]:
        return [context for context in self._contexts if context.channel_id not in self.on_disk]

    def archived(self) -> dict[ChannelId, Archived]:
        return {c: Archived("closed", self.batches_of[c][-1].turn, b"") for c in self.on_disk}

    def archive_version(self) -> int:
        return len(self.on_disk)

    def context(self, channel_id: ChannelId) -> ChannelContext | None:
        self.asked.append(channel_id)
        return next((each for each in self._contexts if each.channel_id == channel_id), None)

    def batches(self, channel_id: ChannelId, position: int = 0) -> Iterator[SupportedBatch]:
        with self._lock:
            found = self.batches_of[channel_id][position:]
        yield from found


# -- backends ---------------------------------------------------------------------------------------------------------


@contextmanager
def running_embedded(prefix: str, binaries: Binaries | None = None) -> Iterator[EmbeddedBackend]:
    """A server of one's own in a folder of its own; both are gone afterwards."""
    folder = open_folder(prefix)
    backend = EmbeddedBackend(folder / "pg", binaries=binaries)
    backend.start()
    yield backend
    backend.remove()
    shutil.rmtree(folder)


def as_server(embedded: EmbeddedBackend) -> ServerBackend:
    """The same server, addressed like any other by URL."""
    parts = dict(part.split("=", 1) for part in embedded.dsn.split())
    return ServerBackend(
        f"postgresql://{parts['user']}@/{parts['dbname']}?host={parts['host']}&passfile={parts['passfile']}"
    )


def reset(backend: Backend) -> None:
    """Drop everything scapp made, so that the next test starts with an empty database."""
    with backend.connect() as connection:
        names = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN"
            " ('public', 'information_schema') ORDER BY nspname = 'scapp'"
        ).fetchall()
        for (name,) in names:
            connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE'.encode())


def worker_for(log: SignedLog, backend: Backend, *, lie: int | None = None, **options: Any) -> Worker:
    """A worker over that log with scripted kernels; nothing runs by itself before `start`."""
    return Worker(
        log,
        backend,
        NODE,
        kernel_for=lambda context: ScriptedKernel(SHOP, context, lie=lie),
        manifest_for=lambda deployment: SHOP,
        **options,
    )


def rows_of(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return list(connection.execute(query.encode()).fetchall())
