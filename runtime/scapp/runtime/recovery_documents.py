"""The documents of the local API about backups and what comes after a restore; `documents.py` has the others."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from scapp.runtime.document_types import Document, RequestDocument


class RecoverRequest(RequestDocument, frozen=True, kw_only=True):
    """`override` must be true: it says that the risk is known."""

    override: bool = False


class BackupRequest(RequestDocument, frozen=True, kw_only=True):
    """`path` is on the node's machine: a new directory, or a file that ends with `.tar`."""

    path: Annotated[str, Meta(min_length=2, max_length=4096, pattern="^/")]
    keys: bool = False


class BackupView(Document, frozen=True, kw_only=True):
    """A backup that was made."""

    path: str
    made_ms: int
    files: int
    bytes: int
    channels: int
    has_keys: bool
