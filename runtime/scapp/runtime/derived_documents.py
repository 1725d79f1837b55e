"""Documents of the API about tables derived again or beside: replays, projections; `documents.py` has the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from scapp.runtime.differences import Difference
from scapp.runtime.documents import DifferenceView, Document, HashText, RequestDocument

if TYPE_CHECKING:
    from scapp.runtime.projections import ProjectionStatus
    from scapp.runtime.worker_status import ChannelStatus


class ReplayRequest(RequestDocument, frozen=True, kw_only=True):
    """`then`: what becomes of the replayed rows; `abandon` drops what a replay left behind, and nothing else."""

    compare: bool = False
    then: Literal["keep", "swap", "drop"] = "keep"
    abandon: bool = False


class ReplayAnswer(Document, frozen=True, kw_only=True):
    """`sequence` entries stand replayed in `schema`; `difference_count` null when nothing was compared."""

    channel_id: HashText
    schema: str
    result: str
    sequence: int
    turn: int
    seconds: float
    difference_count: int | None = None
    differences: list[DifferenceView] = msgspec.field(default_factory=list)


def difference_view(found: Difference) -> DifferenceView:
    """One row that is not what the log gives."""
    return DifferenceView(
        table=found.table,
        kind=found.kind,
        key=dict(found.key),
        found=None if found.found is None else dict(found.found),
        expected=None if found.expected is None else dict(found.expected),
        text=str(found),
    )


class ProjectionChannel(Document, frozen=True, kw_only=True):
    """How far a version is in one channel; `state` as in `scapp status`."""

    channel_id: HashText
    sequence: int
    state: str
    detail: str = ""


class ProjectionView(Document, frozen=True, kw_only=True):
    """`version`: id of what answers in `schema`; `following` of what catches up to take its place, with `upgrade`."""

    name: str
    app: HashText
    version: HashText
    schema: str
    channels: list[ProjectionChannel]
    following: HashText | None = None
    upgrade: list[ProjectionChannel] = msgspec.field(default_factory=list)


class ProjectionList(Document, frozen=True, kw_only=True):
    projections: list[ProjectionView]


def projection_view(status: ProjectionStatus) -> ProjectionView:
    """One projection for people."""
    record = status.record
    return ProjectionView(
        name=record.name,
        app="0x" + record.app.hex(),
        version="0x" + record.live.hex(),
        schema=status.schema,
        channels=[_channel(each) for each in status.channels],
        following=None if record.following is None else "0x" + record.following.hex(),
        upgrade=[_channel(each) for each in status.upgrade or ()],
    )


def _channel(status: ChannelStatus) -> ProjectionChannel:
    return ProjectionChannel(
        channel_id="0x" + status.channel_id.hex(),
        sequence=status.cursor.sequence if status.cursor is not None else 0,
        state=status.state.value,
        detail=status.detail,
    )
