"""The documents of the local API about long work; `documents.py` has the others."""

from __future__ import annotations

from scapp.runtime.document_types import Document


class WorkView(Document, frozen=True, kw_only=True):
    """Long work that goes on: `work` (verify, …) on `subject`; `done` of `total` units in this stage, `total` null
    where nobody knows it; `rate` is units per second."""

    work: str
    subject: str
    stage: str
    done: int
    total: int | None
    unit: str
    rate: float


class WorkList(Document, frozen=True, kw_only=True):
    work: list[WorkView]
