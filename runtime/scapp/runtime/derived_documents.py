"""Documents of the API about derived tables made again or beside: replays; `documents.py` has the others."""

from __future__ import annotations

from typing import Literal

import msgspec

from scapp.runtime.differences import Difference
from scapp.runtime.documents import DifferenceView, Document, HashText, RequestDocument


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
