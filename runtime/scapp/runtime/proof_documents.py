"""Proofs as documents that speak for themselves: made for one row here, checked by anybody (`check`).

A document holds the channel's fixed part, one state with all signatures, and the way from the state's root to the row,
so that no node and no chain has to be asked. docs/reference/proofs.md has the format, and a checker of a page stands in
examples/check_proof.py.
"""

from __future__ import annotations

from typing import Any

import msgspec

from scapp.channels.cosigned import Cosigned, NotCosigned, check_cosigned
from scapp.channels.crypto import keccak256
from scapp.channels.deployment import Deployment, decode_deployment, deployment_id, encode_deployment
from scapp.channels.errors import ScappError
from scapp.channels.types import Address
from scapp.reducers.manifest import Column, Manifest, Table
from scapp.runtime.documents import ColumnView
from scapp.runtime.proof_format import OtherLeaf, ProofDocument, ProofTable
from scapp.runtime.proofs import Proof, verify_absence, verify_inclusion
from scapp.runtime.prover import Proved
from scapp.runtime.root import row_path
from scapp.runtime.row_json import row_as_json
from scapp.runtime.state_documents import as_bytes, as_text, parts_of, signed_state


class ProofRefused(ScappError):
    """The document proves nothing; the text says which step fails."""


class CheckedProof(msgspec.Struct, frozen=True):
    """What a document proves. `row` None: no row with this key. `values` are the row's under the names that the
    document gives its columns, which only `check_names` proves; None where they do not fit."""

    cosigned: Cosigned
    participants: tuple[bytes, ...]
    deployment: Deployment
    table_position: int
    key: bytes
    row: bytes | None
    values: dict[str, Any] | None


def make_document(deployment: Deployment, position: int, table: Table, key: bytes, proved: Proved) -> ProofDocument:
    """The document of a proof; `key` is encoded."""
    proof = proved.proof
    channel, state = parts_of(proved.signed)
    return ProofDocument(
        format="scapp-proof-1",
        channel=channel,
        state=state,
        deployment=as_text(encode_deployment(deployment)),
        table=ProofTable(position=position, name=table.name, columns=column_views(table)),
        key=as_text(key),
        row=None if proved.row is None else as_text(proved.row),
        siblings=[as_text(sibling) for sibling in proof.siblings],
        other=None
        if proof.other is None
        else OtherLeaf(path=as_text(proof.other[0]), row_hash=as_text(proof.other[1])),
    )


def read_document(data: bytes) -> ProofDocument:
    """Raises ProofRefused for anything but a document of this format."""
    try:
        return msgspec.json.decode(data, type=ProofDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProofRefused(f"not a proof document: {error}") from None


def check(document: ProofDocument, two_party_app: Address | None = None) -> CheckedProof:
    """What the document proves; raises ProofRefused. `two_party_app` as in `check_cosigned`."""
    try:
        cosigned = check_cosigned(signed_state(document.channel, document.state), two_party_app)
    except NotCosigned as error:
        raise ProofRefused(f"not co-signed: {error}") from None
    deployment = _deployment(document, cosigned)
    key, row = as_bytes(document.key), None if document.row is None else as_bytes(document.row)
    other = document.other
    proof = Proof(
        tuple(map(as_bytes, document.siblings)),
        None if other is None else (as_bytes(other.path), as_bytes(other.row_hash)),
    )
    root, path = cosigned.app_data.state_root, row_path(document.table.position, key)
    holds = verify_absence(root, path, proof) if row is None else verify_inclusion(root, path, row, proof)
    if not holds:
        claim = "the key is absent" if row is None else "the row is there"
        raise ProofRefused(f"that {claim} does not follow from state root {as_text(root)} of turn {cosigned.turn}")
    return CheckedProof(
        cosigned=cosigned,
        participants=tuple(map(as_bytes, document.channel.participants)),
        deployment=deployment,
        table_position=document.table.position,
        key=key,
        row=row,
        values=_values(document, row),
    )


def check_names(document: ProofDocument, deployment: Deployment, wasm: bytes, manifest: Manifest) -> None:
    """That table and columns are named as in the manifest of the deployment's module. Raises ProofRefused."""
    if keccak256(wasm) != deployment.reducer:
        raise ProofRefused(
            f"the module has hash {as_text(keccak256(wasm))}, the channel runs {as_text(deployment.reducer)}"
        )
    position, table = document.table.position, None
    if position < len(manifest.tables):
        table = manifest.tables[position]
    if table is None or (table.name, column_views(table)) != (document.table.name, document.table.columns):
        raise ProofRefused(f"table {position} is named otherwise in the module's manifest")


def column_views(table: Table) -> list[ColumnView]:
    """The columns as documents show them."""
    return [
        ColumnView(name=column.name, type=column.type, key=number < table.key, nullable=column.nullable)
        for number, column in enumerate(table.columns)
    ]


def _deployment(document: ProofDocument, cosigned: Cosigned) -> Deployment:
    try:
        deployment = decode_deployment(as_bytes(document.deployment))
    except (ValueError, RecursionError) as error:
        raise ProofRefused(f"deployment cannot be read: {error}") from None
    if deployment_id(deployment) != cosigned.app_data.deployment:
        raise ProofRefused(
            f"deployment {as_text(deployment_id(deployment))}; signed is {as_text(cosigned.app_data.deployment)}"
        )
    return deployment


def _values(document: ProofDocument, row: bytes | None) -> dict[str, Any] | None:
    if row is None:
        return None
    try:
        columns = [Column(view.name, view.type) for view in document.table.columns]  # type: ignore[arg-type]
        values = row_as_json(columns, row)
    except Exception:  # names and types of columns are anybody's words, and the proof does not rest on them
        return None
    return values if len(values) == len(columns) else None
