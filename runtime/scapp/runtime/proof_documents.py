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
from scapp.channels.reading import SignedState
from scapp.reducers.manifest import Column, Manifest, Table
from scapp.runtime.documents import ColumnView
from scapp.runtime.proof_format import OtherLeaf, ProofChannel, ProofDocument, ProofState, ProofTable
from scapp.runtime.proofs import Proof, verify_absence, verify_inclusion
from scapp.runtime.prover import Proved
from scapp.runtime.root import row_path
from scapp.runtime.row_json import row_as_json


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
    signed, proof = proved.signed, proved.proof
    return ProofDocument(
        format="scapp-proof-1",
        channel=ProofChannel(
            participants=[_hex(participant) for participant in signed.participants],
            nonce=str(signed.nonce),
            app_definition=_hex(signed.app_definition),
            challenge_duration_s=signed.challenge_duration,
        ),
        state=ProofState(
            turn=signed.turn,
            is_final=signed.is_final,
            app_data=_hex(signed.app_data),
            outcome=_hex(signed.outcome),
            signatures=[_hex(signature) for signature in signed.signatures],
        ),
        deployment=_hex(encode_deployment(deployment)),
        table=ProofTable(position=position, name=table.name, columns=column_views(table)),
        key=_hex(key),
        row=None if proved.row is None else _hex(proved.row),
        siblings=[_hex(sibling) for sibling in proof.siblings],
        other=None if proof.other is None else OtherLeaf(path=_hex(proof.other[0]), row_hash=_hex(proof.other[1])),
    )


def read_document(data: bytes) -> ProofDocument:
    """Raises ProofRefused for anything but a document of this format."""
    try:
        return msgspec.json.decode(data, type=ProofDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProofRefused(f"not a proof document: {error}") from None


def check(document: ProofDocument) -> CheckedProof:
    """What the document proves; raises ProofRefused."""
    try:
        cosigned = check_cosigned(_signed(document))
    except NotCosigned as error:
        raise ProofRefused(f"not co-signed: {error}") from None
    deployment = _deployment(document, cosigned)
    key, row = _bytes(document.key), None if document.row is None else _bytes(document.row)
    other = document.other
    proof = Proof(
        tuple(map(_bytes, document.siblings)), None if other is None else (_bytes(other.path), _bytes(other.row_hash))
    )
    root, path = cosigned.app_data.state_root, row_path(document.table.position, key)
    holds = verify_absence(root, path, proof) if row is None else verify_inclusion(root, path, row, proof)
    if not holds:
        claim = "the key is absent" if row is None else "the row is there"
        raise ProofRefused(f"that {claim} does not follow from state root {_hex(root)} of turn {cosigned.turn}")
    return CheckedProof(
        cosigned=cosigned,
        participants=tuple(map(_bytes, document.channel.participants)),
        deployment=deployment,
        table_position=document.table.position,
        key=key,
        row=row,
        values=_values(document, row),
    )


def check_names(document: ProofDocument, deployment: Deployment, wasm: bytes, manifest: Manifest) -> None:
    """That table and columns are named as in the manifest of the deployment's module. Raises ProofRefused."""
    if keccak256(wasm) != deployment.reducer:
        raise ProofRefused(f"the module has hash {_hex(keccak256(wasm))}, the channel runs {_hex(deployment.reducer)}")
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


def _signed(document: ProofDocument) -> SignedState:
    channel, state = document.channel, document.state
    return SignedState(
        participants=tuple(map(_bytes, channel.participants)),
        nonce=int(channel.nonce),
        app_definition=_bytes(channel.app_definition),
        challenge_duration=channel.challenge_duration_s,
        app_data=_bytes(state.app_data),
        outcome=_bytes(state.outcome),
        turn=state.turn,
        is_final=state.is_final,
        signatures=tuple(map(_bytes, state.signatures)),
    )


def _deployment(document: ProofDocument, cosigned: Cosigned) -> Deployment:
    try:
        deployment = decode_deployment(_bytes(document.deployment))
    except (ValueError, RecursionError) as error:
        raise ProofRefused(f"deployment cannot be read: {error}") from None
    if deployment_id(deployment) != cosigned.app_data.deployment:
        raise ProofRefused(
            f"deployment {_hex(deployment_id(deployment))}; signed is {_hex(cosigned.app_data.deployment)}"
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


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
