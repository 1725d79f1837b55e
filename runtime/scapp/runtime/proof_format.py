"""The proof document (docs/reference/proofs.md) and the request for one; `proof_documents.py` makes and checks them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from scapp.runtime.documents import ColumnView, Document, HashText, HexText, RequestDocument
from scapp.runtime.state_documents import ChannelPart, StatePart


class ProveRequest(RequestDocument, frozen=True, kw_only=True):
    """`key`: values of the table's primary key columns, as JSON or as text in the form answers to queries have;
    `turn`: at which co-signed state, the latest by default."""

    table: str
    key: list[Any]
    turn: Annotated[int, Meta(ge=0)] | None = None


class ProofTable(Document, frozen=True, kw_only=True):
    """Position and names. Only the position is proved; the names are the manifest's, inside the reducer's module."""

    position: Annotated[int, Meta(ge=0, le=65_535)]
    name: str
    columns: list[ColumnView]


class OtherLeaf(Document, frozen=True, kw_only=True):
    """The leaf that stands where the asked row would."""

    path: HashText
    row_hash: HashText


class ProofDocument(Document, frozen=True, kw_only=True):
    """That a row is, or with `row` null is not, in the tables all participants signed; docs/reference/proofs.md."""

    format: Literal["scapp-proof-1"]
    channel: ChannelPart
    state: StatePart
    deployment: HexText
    table: ProofTable
    key: HexText
    row: HexText | None
    siblings: Annotated[list[HashText], Meta(max_length=256)]
    other: OtherLeaf | None
