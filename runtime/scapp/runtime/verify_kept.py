"""What scapp itself keeps of a channel in its database, against what it must be: the rows of channel, deployment and
cursor. `verify.py` has the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.channels.deployment import deployment_id
from scapp.channels.reading import SupportedBatch
from scapp.reducers.manifest import Manifest, ManifestError, encode_manifest, parse_manifest
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.write import Cursor
from scapp.runtime.differences import Difference, difference
from scapp.runtime.schema import AppSchema

DIFFERENCES_MAX = 20


class Findings:
    """Differences as they come: the first are kept, all are counted."""

    def __init__(self) -> None:
        self.first: list[Difference] = []
        self.count = 0
        self.notes: list[str] = []

    def add(self, found: Difference) -> None:
        self.count += 1
        if len(self.first) < DIFFERENCES_MAX:
            self.first.append(found)


class Stored(msgspec.Struct, frozen=True):
    """One channel in one snapshot of the database."""

    connection: Connection
    schema: AppSchema
    context: ChannelContext
    cursor: Cursor


def compare_registration(database: Stored, findings: Findings) -> None:
    """The channel's own row and its deployment's."""
    context, connection = database.context, database.connection
    identity = deployment_id(context.deployment)
    row = connection.execute(
        "SELECT deployment, participants, assets, destinations FROM scapp.channels WHERE channel_id = %s",
        [bytes(context.channel_id)],
    ).fetchone()
    names: tuple[str, ...] = ("deployment", "participants", "assets", "destinations")
    right = (
        bytes(identity),
        [bytes(participant) for participant in context.participants],
        [bytes(asset) for asset, _, _ in context.slots],
        [bytes(destination) for _, destination, _ in context.slots],
    )
    _compare_fields("scapp.channels", {"channel_id": hex_text(context.channel_id)}, names, row, right, findings)
    manifest = database.schema.manifest
    row = connection.execute(
        "SELECT app, version, abi, reducer, manifest::text FROM scapp.deployments WHERE deployment = %s",
        [bytes(identity)],
    ).fetchone()
    if row is not None and _same_manifest(row[4], manifest):
        row = (*row[:4], encode_manifest(manifest).decode())
    names = ("app", "version", "abi", "reducer", "manifest")
    wanted = (
        manifest.name,
        manifest.version,
        context.deployment.abi,
        bytes(context.deployment.reducer),
        encode_manifest(manifest).decode(),
    )
    _compare_fields("scapp.deployments", {"deployment": hex_text(identity)}, names, row, wanted, findings)


def _same_manifest(text: object, manifest: Manifest) -> bool:
    """Whether the text says the same, however an earlier version wrote it."""
    try:
        return parse_manifest(str(text).encode()) == manifest
    except ManifestError:
        return False


def compare_cursor(database: Stored, signed: SupportedBatch, findings: Findings) -> None:
    cursor = database.cursor
    names = ("sequence", "state_root", "log_root", "amounts", "time_ms", "is_final", "position")
    found = (
        cursor.sequence, cursor.state_root, cursor.log_root, list(cursor.amounts), cursor.time_ms, cursor.is_final,
        cursor.position,
    )  # fmt: skip
    right = (
        signed.end_sequence, signed.state_root, signed.log_root, list(signed.amounts), signed.time_ms, signed.is_final,
        signed.position,
    )  # fmt: skip
    key = {"channel_id": hex_text(database.context.channel_id)}
    _compare_fields("scapp.cursors", key, names, found, right, findings)


def compare_event_root(cursor: Cursor, event_root: bytes, findings: Findings) -> None:
    """With the events that stand there: those are compared by the state root."""
    if cursor.event_root not in (None, event_root):
        findings.notes.append(
            f"scapp.cursors has event root 0x{cursor.event_root.hex()}, its events have 0x{event_root.hex()}"
        )


def _compare_fields(
    table: str,
    key: Mapping[str, Any],
    names: tuple[str, ...],
    found: tuple[object, ...] | None,
    right: tuple[object, ...],
    findings: Findings,
) -> None:
    if found == right:
        return
    expected = dict(zip(names, map(shown, right), strict=True))
    standing = None if found is None else dict(zip(names, map(shown, found), strict=True))
    findings.add(difference(table, key, standing, expected))


def hex_text(data: bytes) -> str:
    return "0x" + data.hex()


def shown(value: object) -> object:
    if isinstance(value, bytes):
        return hex_text(value)
    if isinstance(value, list):
        return [shown(item) for item in value]
    # Amounts are 256-bit numbers, which JSON does not keep.
    return str(value) if isinstance(value, int) and abs(value) > 2**53 else value
