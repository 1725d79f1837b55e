"""The root over any number of leaves that come in any order, in 64 bytes of memory for each; `root.py` has the tree.

Paths are hashes, so their first byte spreads leaves evenly over 256 parts of the tree, which are then built one after
the other.
"""

from __future__ import annotations

from itertools import pairwise

from scapp.runtime.root import Node, join_subtrees, root_of, subtree

_PARTS_DEPTH = 8
_LEAF_BYTES = 64


class RepeatedLeaf(ValueError):
    """Two leaves have one path: a table holds a key twice."""


class Leaves:
    """Collects leaves, then gives their root once."""

    def __init__(self) -> None:
        self._parts = [bytearray() for _ in range(1 << _PARTS_DEPTH)]

    def add(self, path: bytes, leaf_hash: bytes) -> None:
        self._parts[path[0]] += path + leaf_hash

    def root(self) -> bytes:
        """Raises RepeatedLeaf."""
        nodes: list[Node] = [self._part(part) for part in self._parts]
        while len(nodes) > 1:
            nodes = [join_subtrees(left, right) for left, right in zip(nodes[::2], nodes[1::2], strict=True)]
        return root_of(nodes[0])

    def _part(self, part: bytearray) -> Node:
        leaves = sorted(
            (int.from_bytes(part[at : at + 32], "big"), bytes(part[at + 32 : at + _LEAF_BYTES]))
            for at in range(0, len(part), _LEAF_BYTES)
        )
        if any(left[0] == right[0] for left, right in pairwise(leaves)):
            raise RepeatedLeaf("a key stands there twice")
        part.clear()
        node = subtree([*leaves], _PARTS_DEPTH)
        # Only what the levels above need: a leaf stays one, of an inner node the hash.
        return node if node is None or len(node) == 2 else (node[0], None, None)
