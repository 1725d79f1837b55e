"""A projection's derivation: a reducer of this node's own over a channel's log, answerable to nobody.

There is no signed root to compare with. What the reducer rejects, or what ends in a trap that every machine would see,
is skipped whole and recorded; what depends on the machine (fuel, stack, memory) halts. `projections.py` keeps and runs
projections; the write path is that of the live tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.channels.deployment import Deployment, deployment_id
from scapp.channels.reading import Archived, EntrySource, SignedState, SupportedBatch
from scapp.channels.types import ChannelId
from scapp.reducers.manifest import Column, Manifest, Table
from scapp.runtime.changes import BatchChanges
from scapp.runtime.database.write import Cursor, read_cursor
from scapp.runtime.derive import DerivationHalted, Halt, check_batch, next_cursor
from scapp.runtime.follow import ChannelFollower
from scapp.runtime.kernel import Budget, Kernel, KernelFault
from scapp.runtime.net_changes import table_change
from scapp.runtime.rows import encode_row
from scapp.runtime.schema import AppSchema, register_channel
from scapp.runtime.writing import Writing

SKIPPED = Table(
    "scapp_skipped",
    (Column("sequence", "int8"), Column("turn", "int8"), Column("code", "text"), Column("reason", "text")),
    key=1,
)
"""Entries that left no trace in a projection, and why. Manifests cannot name a table so."""


def with_skipped(manifest: Manifest) -> Manifest:
    """The tables of a projection's schema."""
    return msgspec.structs.replace(manifest, tables=(*manifest.tables, SKIPPED))


class ProjectionFollower(ChannelFollower):
    """`schema` has the tables of `with_skipped(manifest)`; `make_kernel` gives a kernel that ignores outcomes."""

    _writes_messages = False

    def __init__(
        self,
        context: ChannelContext,
        deployment: Deployment,
        manifest: Manifest,
        schema: AppSchema,
        source: EntrySource,
        make_kernel: Callable[[ChannelContext], Kernel],
    ) -> None:
        own = msgspec.structs.replace(context, deployment=deployment)
        super().__init__(own, schema, source, lambda: make_kernel(own))
        self._channel = context
        self._tables = AppSchema(schema.name, manifest, schema.home)
        self._skipped: list[bytes] = []

    def release(self) -> None:
        super().release()
        self._skipped.clear()

    def _read_cursor(self, writing: Writing) -> Cursor:
        register_channel(writing.connection, self._channel, self.schema.home)
        self.cursor = read_cursor(writing.connection, self._channel.channel_id, self.schema.home)
        assert self.cursor is not None, "a registered channel has a cursor"
        return self.cursor

    def _loaded_schema(self) -> AppSchema:
        return self._tables

    def _check_cursor(self, cursor: Cursor, batch: SupportedBatch | None) -> None:
        """Only the log's side: the roots are the projection's own."""
        if batch is None or (cursor.sequence, cursor.log_root) != (batch.end_sequence, batch.log_root):
            raise DerivationHalted(
                Halt.CORRUPT,
                f"the projection stands at turn {cursor.turn}, sequence {cursor.sequence}, which is not in this log",
            )

    def _derive(self, batch: SupportedBatch, *, late: bool, log_apart: bool = False) -> None:
        assert self._kernel is not None
        assert self._at is not None
        try:
            check_batch(self._at, batch, self._kernel)
            if batch.entries:
                self._run(self._kernel, batch)
        except KernelFault as error:
            self.release()  # half a batch may be in its tables
            raise DerivationHalted(Halt.UNDECIDABLE, f"turn {batch.turn} cannot be run here: {error}") from error
        cursor = next_cursor(batch, self._at.position, self._kernel.event_root())
        self._at = msgspec.structs.replace(cursor, state_root=self._kernel.state_root())

    def _run(self, kernel: Kernel, batch: SupportedBatch) -> None:
        """The batch as one, if nothing is skipped; else entry by entry, each at its own sequence."""
        if not kernel.run(batch.first_sequence, batch.entries, budget=Budget.DERIVE).refusals:
            kernel.commit(batch.turn)
            return
        kernel.rollback()
        for sequence, entry in enumerate(batch.entries, batch.first_sequence):
            refusals = kernel.run(sequence, [entry], budget=Budget.DERIVE).refusals
            if not refusals:
                kernel.commit(batch.turn)
                continue
            kernel.rollback()
            code, reason = refusals[0].code, refusals[0].reason
            if code == "undecidable":
                self.release()
                raise DerivationHalted(Halt.UNDECIDABLE, f"entry {sequence} cannot be decided here: {reason}")
            self._skipped.append(encode_row(SKIPPED, [sequence, batch.turn, code, reason]))

    def _changes(self, kernel: Kernel, copy_rows_min: int) -> BatchChanges:
        changes = super()._changes(kernel, copy_rows_min)
        tables = changes.tables
        if self._skipped:
            skipped = table_change(
                self.context.channel_id, SKIPPED, self._skipped, copy_rows_min=copy_rows_min, insert_only=True
            )
            self._skipped = []
            tables = (*tables, skipped)
        return msgspec.structs.replace(changes, tables=tables, messages=None)


class ChannelsOf:
    """The log's channels of one deployment."""

    def __init__(self, source: EntrySource, deployment: Deployment) -> None:
        self._source = source
        self._deployment = deployment
        self._id = deployment_id(deployment)

    def contexts(self) -> list[ChannelContext]:
        return [context for context in self._source.contexts() if context.deployment == self._deployment]

    def archived(self) -> Mapping[ChannelId, Archived]:
        return {c: each for c, each in self._source.archived().items() if each.deployment_id == self._id}

    def archive_version(self) -> int:
        return self._source.archive_version()

    def context(self, channel_id: ChannelId) -> ChannelContext | None:
        return self._source.context(channel_id)

    def batches(self, channel_id: ChannelId, position: int = 0) -> Iterator[SupportedBatch]:
        return self._source.batches(channel_id, position)

    def signed_state(self, channel_id: ChannelId, position: int) -> SignedState | None:
        return self._source.signed_state(channel_id, position)
