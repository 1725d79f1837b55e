"""The state root: golden vectors, a naive oracle, independence of history, undo, and proofs nobody can bend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels.crypto import keccak256
from scapp.runtime.leaves import Leaves, RepeatedLeaf
from scapp.runtime.proofs import Proof, Statement, verify, verify_absence, verify_inclusion, walk
from scapp.runtime.root import (
    EMPTY,
    EVENT_PATH,
    Node,
    apply_updates,
    extend_event_root,
    leaf_hash,
    root_of,
    row_path,
    row_update,
)
from tests.support.sparse_tree import naive_root

VECTORS = json.loads((Path(__file__).parents[1] / "golden" / "root-vectors.json").read_text())
Rows = dict[tuple[int, bytes], bytes]


def tree_of(rows: Rows) -> Node:
    return apply_updates(None, [row_update(table, key, row) for (table, key), row in rows.items()])


@pytest.mark.parametrize("vector", VECTORS["roots"], ids=lambda vector: vector["name"])
def test_roots_equal_the_golden_vectors(vector: dict[str, Any]) -> None:
    rows = {(r["table"], bytes.fromhex(r["key"])): bytes.fromhex(r["row"]) for r in vector["rows"]}
    assert root_of(tree_of(rows)).hex() == vector["root"]


def test_the_event_chain_equals_its_vectors() -> None:
    assert EVENT_PATH.hex() == VECTORS["event_path"]
    root = EMPTY
    for event in VECTORS["events"]:
        root = extend_event_root(root, event["sequence"], event["topic"].encode(), bytes.fromhex(event["data"]))
        assert root.hex() == event["event_root"]


KEYS = st.tuples(st.integers(0, 1), st.binary(max_size=1))
BATCHES = st.lists(st.dictionaries(KEYS, st.none() | st.binary(max_size=3), max_size=12), max_size=6)


@given(BATCHES)
def test_incremental_equals_naive_and_old_trees_stay(batches: list[dict[tuple[int, bytes], bytes | None]]) -> None:
    tree: Node = None
    rows: Rows = {}
    history = []
    for batch in batches:
        history.append((tree, naive_root(rows)))
        tree = apply_updates(tree, [row_update(table, key, row) for (table, key), row in batch.items()])
        rows.update({key: row for key, row in batch.items() if row is not None})
        for key in [key for key, row in batch.items() if row is None]:
            rows.pop(key, None)
        assert root_of(tree) == naive_root(rows)
        assert tree == tree_of(rows)  # the shape depends on content alone
    for old, root in history:
        assert root_of(old) == root


@given(st.dictionaries(st.tuples(st.integers(0, 1), st.binary(max_size=2)), st.binary(max_size=3), max_size=40))
def test_collected_leaves_have_the_trees_root(rows: Rows) -> None:
    """In whatever order they come."""
    leaves = Leaves()
    for (table, key), row in reversed(rows.items()):
        leaves.add(row_path(table, key), leaf_hash(row_path(table, key), row))
    assert leaves.root() == root_of(tree_of(rows))


@given(st.sets(st.integers(0, 2**16 - 1), max_size=30), st.integers(0, 240))
def test_collected_leaves_may_share_any_prefix(numbers: set[int], shift: int) -> None:
    """Paths that agree on all but a few bits, as no hash will, still give the tree's shape."""
    updates = [(number << shift, keccak256(b"%d" % number)) for number in numbers]
    leaves = Leaves()
    for path, hash_ in updates:
        leaves.add(path.to_bytes(32, "big"), hash_)
    assert leaves.root() == root_of(apply_updates(None, updates))


def test_a_path_collected_twice_is_refused() -> None:
    leaves = Leaves()
    for _ in range(2):
        leaves.add(EVENT_PATH, EMPTY)
    with pytest.raises(RepeatedLeaf):
        leaves.root()


@given(st.dictionaries(KEYS, st.binary(max_size=3), max_size=20), KEYS)
def test_every_row_and_every_absence_can_be_proved(rows: Rows, asked: tuple[int, bytes]) -> None:
    tree = tree_of(rows)
    root, path = root_of(tree), row_path(*asked)
    siblings, found = walk(tree, path)
    if asked in rows:
        proof = Proof(tuple(siblings))
        assert verify_inclusion(root, path, rows[asked], proof)
        assert not verify_inclusion(root, path, rows[asked] + b"!", proof)
        assert not verify_absence(root, path, proof)
        assert not verify_absence(root, path, Proof(tuple(siblings), (path, keccak256(rows[asked]))))
        return
    other = None
    if found is not None:
        row = next(row for key, row in rows.items() if int.from_bytes(row_path(*key), "big") == found)
        other = (found.to_bytes(32, "big"), keccak256(row))
    proof = Proof(tuple(siblings), other)
    assert verify_absence(root, path, proof)
    assert not verify_inclusion(root, path, b"", Proof(tuple(siblings)))
    for bent in (siblings[1:], [*siblings, EMPTY], siblings[::-1]):
        if bent != siblings and (rows or len(bent)):
            assert not verify_absence(root, path, Proof(tuple(bent), other))


def test_a_leaf_from_elsewhere_does_not_prove_absence() -> None:
    rows = {(0, bytes([n])): bytes([n]) for n in range(8)}
    tree = tree_of(rows)
    asked, other = (row_path(0, bytes([n])) for n in (1, 2))
    siblings, _ = walk(tree, other)
    assert not verify_absence(root_of(tree), asked, Proof(tuple(siblings), (other, keccak256(b"\2"))))


def test_an_impossible_proof_is_false_and_not_an_error() -> None:
    path = row_path(0, b"")
    assert not verify_absence(EMPTY, path, Proof((EMPTY,) * 257))
    assert not verify_absence(EMPTY, path, Proof((b"short",)))
    assert not verify_absence(EMPTY, path, Proof((), (b"short", EMPTY)))
    assert not verify_inclusion(leaf_hash(path, b""), path[:-1], b"", Proof(()))


def test_a_statement_holds_only_for_the_state_it_names() -> None:
    tree = tree_of({(3, b"k"): b"row"})
    named = {"channel_id": b"c" * 32, "deployment": b"d" * 32, "turn": 7, "state_root": root_of(tree)}
    statement = Statement(**named, table_position=3, key=b"k", row=b"row", proof=Proof(()))  # type: ignore[arg-type]
    assert verify(statement, **named)  # type: ignore[arg-type]
    for field, value in (("channel_id", b"x" * 32), ("deployment", b"x" * 32), ("turn", 8), ("state_root", EMPTY)):
        assert not verify(statement, **(named | {field: value}))  # type: ignore[arg-type]
    for field, value in (("row", b"tow"), ("key", b"K"), ("table_position", 2), ("row", None)):
        assert not verify(msgspec.structs.replace(statement, **{field: value}), **named)  # type: ignore[arg-type]
