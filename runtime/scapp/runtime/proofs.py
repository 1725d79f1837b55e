"""Proofs that a row is, or is not, under a state root; the tree stands in `root.py`.

`verify_inclusion` and `verify_absence` need nothing but keccak256 and fit on a page, so that a contract, a browser or
a stranger can check them. A proof says what was co-signed at one turn, not that it is the latest: whoever accepts it
compares channel, deployment and turn with the signed state the root came from.
"""

from __future__ import annotations

import msgspec

from scapp.channels.crypto import keccak256
from scapp.runtime.root import EMPTY, Node, node_hash, root_of

DEPTH_MAX = 256


class Proof(msgspec.Struct, frozen=True):
    """`siblings` from the root down. `other` is None, or the leaf found where the asked path would be:
    (its path, keccak256 of its row)."""

    siblings: tuple[bytes, ...]
    other: tuple[bytes, bytes] | None = None


class Statement(msgspec.Struct, frozen=True):
    """A proof with what it is about; `row` None says that the key is absent. Only the signed state makes it count."""

    channel_id: bytes
    deployment: bytes
    turn: int
    state_root: bytes
    table_position: int
    key: bytes  # encoded, see keys.py
    row: bytes | None
    proof: Proof


def walk(node: Node, path: bytes) -> tuple[list[bytes], int | None]:
    """Siblings from the root down towards `path`, and the path of the leaf at the end, if one is there."""
    wanted = int.from_bytes(path, "big")
    siblings: list[bytes] = []
    while node is not None and len(node) == 3:
        right = wanted >> (255 - len(siblings)) & 1
        siblings.append(root_of(node[1] if right else node[2]))
        node = node[2] if right else node[1]
    return siblings, None if node is None else node[1]


def verify(statement: Statement, *, channel_id: bytes, deployment: bytes, turn: int, state_root: bytes) -> bool:
    """Whether the statement holds for the signed state that the caller names."""
    named = (statement.channel_id, statement.deployment, statement.turn, statement.state_root)
    if named != (channel_id, deployment, turn, state_root):
        return False
    path = keccak256(b"\x02" + statement.table_position.to_bytes(2, "big") + statement.key)
    if statement.row is None:
        return verify_absence(state_root, path, statement.proof)
    return verify_inclusion(state_root, path, statement.row, statement.proof)


def verify_inclusion(root: bytes, path: bytes, row: bytes, proof: Proof) -> bool:
    """Whether `row` lies at `path` under `root`."""
    leaf = keccak256(b"\x00" + path + keccak256(row))
    return proof.other is None and _climb(leaf, path, proof.siblings) == root


def verify_absence(root: bytes, path: bytes, proof: Proof) -> bool:
    """Whether nothing lies at `path` under `root`: an empty place, or another leaf alone in that place."""
    depth = len(proof.siblings)
    if proof.other is None:
        return _climb(EMPTY, path, proof.siblings) == root
    other, row_hash = proof.other
    if len(other) != 32 or len(row_hash) != 32 or other == path:
        return False
    differing = int.from_bytes(other, "big") ^ int.from_bytes(path, "big")
    if depth > DEPTH_MAX or differing >> (DEPTH_MAX - depth):
        return False  # the other leaf does not lie on the way to the asked path
    return _climb(keccak256(b"\x00" + other + row_hash), path, proof.siblings) == root


def _climb(hash_: bytes, path: bytes, siblings: tuple[bytes, ...]) -> bytes | None:
    """The root above a subtree at depth len(siblings) on the way to `path`; None for an impossible depth."""
    if len(siblings) > DEPTH_MAX or len(path) != 32 or any(len(sibling) != 32 for sibling in siblings):
        return None
    bits = int.from_bytes(path, "big")
    for depth in range(len(siblings) - 1, -1, -1):
        sibling = siblings[depth]
        right = bits >> (255 - depth) & 1
        hash_ = node_hash(sibling, hash_) if right else node_hash(hash_, sibling)
    return hash_
