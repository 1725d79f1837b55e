"""The state root: a compact sparse Merkle tree over rows, kept incrementally; proofs are made in `proofs.py`.

Format: docs/reference/state-root.md. Nodes are immutable and shared between versions, so undoing a batch is going
back to the old node, and only dirty paths are hashed again.
"""

from __future__ import annotations

from collections.abc import Iterable

from scapp.channels.crypto import keccak256
from scapp.channels.types import ZERO_HASH

EVENT_TABLE = 0xFFFF  # the reserved row with the event chain: this table position and the empty key
EMPTY = bytes(ZERO_HASH)  # root of an empty subtree

Leaf = tuple[bytes, int]  # (hash, path as a 256-bit number)
Inner = tuple[bytes, "Node", "Node"]  # (hash, left, right)
Node = Leaf | Inner | None
Update = tuple[int, bytes | None]  # (path, leaf hash; None to remove)


def row_path(table_position: int, key: bytes) -> bytes:
    """keccak256(0x02 || u16be table position || key encoding): where a row lies in the tree."""
    return keccak256(b"\x02" + table_position.to_bytes(2, "big") + key)


EVENT_PATH = row_path(EVENT_TABLE, b"")


def leaf_hash(path: bytes, row: bytes) -> bytes:
    """keccak256(0x00 || path || keccak256(row))."""
    return keccak256(b"\x00" + path + keccak256(row))


def node_hash(left: bytes, right: bytes) -> bytes:
    """keccak256(0x01 || left || right), either side possibly `EMPTY`."""
    return keccak256(b"\x01" + left + right)


def extend_event_root(root: bytes, sequence: int, topic: bytes, data: bytes) -> bytes:
    """Event root after one more event: keccak256(root || keccak256(u64be sequence || u32be topic length || both))."""
    event = sequence.to_bytes(8, "big") + len(topic).to_bytes(4, "big") + topic + data
    return keccak256(root + keccak256(event))


def event_leaf(event_root: bytes) -> Update:
    """The reserved row; it is in every state tree, from the zero event root on."""
    return int.from_bytes(EVENT_PATH, "big"), leaf_hash(EVENT_PATH, event_root)


def row_update(table_position: int, key: bytes, row: bytes | None) -> Update:
    """The change of one row; None when it was deleted."""
    path = row_path(table_position, key)
    return int.from_bytes(path, "big"), None if row is None else leaf_hash(path, row)


def root_of(node: Node) -> bytes:
    """Hash of a tree."""
    return EMPTY if node is None else node[0]


def apply_updates(node: Node, updates: Iterable[Update]) -> Node:
    """The tree after `updates`, in any order and each path at most once. The old tree stays valid."""
    return _apply(node, sorted(updates, key=_path), 0)


def subtree(leaves: list[Update], depth: int) -> Node:
    """The tree below `depth` over leaves sorted by path that agree on the bits before it, each path once."""
    return _build(leaves, depth)


def join_subtrees(left: Node, right: Node) -> Node:
    """The tree one level higher."""
    return _join(left, right, None)


def _path(update: Update) -> int:
    return update[0]


def _apply(node: Node, updates: list[Update], depth: int) -> Node:
    if not updates:
        return node
    if node is not None and len(node) == 3:
        left, right = _split(updates, depth)
        return _join(_apply(node[1], left, depth + 1), _apply(node[2], right, depth + 1), node)
    leaves = [update for update in updates if update[1] is not None]
    if node is not None and all(path != node[1] for path, _ in updates):
        leaves.append((node[1], node[0]))
        leaves.sort(key=_path)
    return _build(leaves, depth)


def _build(leaves: list[Update], depth: int) -> Node:
    """A fresh subtree over sorted leaves."""
    if not leaves:
        return None
    if len(leaves) == 1:
        path, hash_ = leaves[0]
        assert hash_ is not None
        return hash_, path
    left, right = _split(leaves, depth)
    return _join(_build(left, depth + 1), _build(right, depth + 1), None)


def _split(updates: list[Update], depth: int) -> tuple[list[Update], list[Update]]:
    """By the bit at `depth`, most significant first; `updates` are sorted and agree on the bits before it."""
    shift = 255 - depth
    if len(updates) == 1:
        return ([], updates) if updates[0][0] >> shift & 1 else (updates, [])
    low, high = 0, len(updates)
    while low < high:
        middle = (low + high) // 2
        if updates[middle][0] >> shift & 1:
            high = middle
        else:
            low = middle + 1
    return updates[:low], updates[low:]


def _join(left: Node, right: Node, old: Inner | None) -> Node:
    if left is None and (right is None or len(right) == 2):
        return right  # a subtree with one leaf is that leaf
    if right is None and left is not None and len(left) == 2:
        return left
    if old is not None and left is old[1] and right is old[2]:
        return old
    return node_hash(root_of(left), root_of(right)), left, right
