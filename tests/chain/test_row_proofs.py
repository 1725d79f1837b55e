"""The row-proof verifier on chain agrees with `scapp.runtime.proofs`, and takes only what was co-signed."""

from __future__ import annotations

import dataclasses
import random

import eth_abi
import pytest

from scapp.channels.crypto import keccak256
from scapp.runtime.proofs import Proof, verify_absence, verify_inclusion, walk
from scapp.runtime.root import apply_updates, leaf_hash, root_of, row_path, row_update
from tests.chain import cast
from tests.chain.cast import World, contracts
from tests.chain.states import ADDRESSES, NATIVE, Channel, allocation, exits

ALICE, BOB = ADDRESSES["alice"], ADDRESSES["bob"]
DEPLOYMENT = keccak256(b"deployment")
ROWS = {(0, bytes([i])): bytes([i]) * i for i in range(12)} | {(1, b"x"): b"far", (65535, b""): bytes(32)}


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def verifier(world):
    return cast.deploy(world.evm, contracts.load("RowProofVerifier"))


def tree_of(rows):
    return apply_updates(None, [row_update(table, key, row) for (table, key), row in rows.items()])


@dataclasses.dataclass(frozen=True)
class Claim:
    """As the contract's RowClaim, in its order."""

    table: int
    key: bytes
    present: bool
    row: bytes
    siblings: tuple[bytes, ...]
    has_other: bool = False
    other_path: bytes = bytes(32)
    other_row_hash: bytes = bytes(32)

    @property
    def tuple(self):
        return dataclasses.astuple(self)

    def holds(self, root):
        """What the Python verifier says."""
        path = row_path(self.table, self.key)
        other = (self.other_path, self.other_row_hash) if self.has_other else None
        proof = Proof(self.siblings, other)
        if self.present:
            return verify_inclusion(root, path, self.row, proof)
        return not self.row and verify_absence(root, path, proof)


def claim_of(rows, table, key):
    """A true claim about a key, whether it has a row or not."""
    siblings, leaf = walk(tree_of(rows), row_path(table, key))
    if (table, key) in rows:
        return Claim(table, key, True, rows[table, key], tuple(siblings))
    if leaf is None:
        return Claim(table, key, False, b"", tuple(siblings))
    (other,) = [place for place in rows if row_path(*place) == _path(leaf)]
    return Claim(table, key, False, b"", tuple(siblings), True, row_path(*other), keccak256(rows[other]))


def _path(leaf):
    return leaf if isinstance(leaf, bytes) else leaf.to_bytes(32, "big")


KEYS = [*ROWS, *((2, bytes([i])) for i in range(12))]


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_true_claims_hold(verifier, table, key):
    """Rows, their absence at empty places and beside other leaves, and the row of events."""
    root, claim = root_of(tree_of(ROWS)), claim_of(ROWS, table, key)
    assert claim.holds(root)
    assert verifier.read("verify", root, claim.tuple)


def test_both_kinds_of_absence_are_among_the_claims():
    absent = [claim_of(ROWS, *place) for place in KEYS if place not in ROWS]
    assert {claim.has_other for claim in absent} == {True, False}


def test_one_row_and_no_row(verifier):
    """A tree of one leaf, and an empty one: no siblings at all."""
    one = {(0, b"a"): b"row"}
    assert verifier.read("verify", root_of(tree_of(one)), claim_of(one, 0, b"a").tuple)
    assert verifier.read("verify", root_of(tree_of(one)), claim_of(one, 0, b"b").tuple)
    assert verifier.read("verify", bytes(32), Claim(0, b"a", False, b"", ()).tuple)
    assert not verifier.read("verify", bytes(32), Claim(0, b"a", True, b"", ()).tuple)


def bent(draw, claim, rows):
    """A claim with one thing changed."""
    name = draw.choice([field.name for field in dataclasses.fields(Claim)])
    value = getattr(claim, name)
    if name == "siblings":
        siblings = list(value)
        how = draw.randrange(4)
        if how == 0 or not siblings:
            siblings.append(draw.choice([bytes(32), draw.randbytes(32)]))
        elif how == 1:
            siblings.pop(draw.randrange(len(siblings)))
        elif how == 2:
            siblings[draw.randrange(len(siblings))] = draw.randbytes(32)
        else:
            siblings.reverse()
        return dataclasses.replace(claim, siblings=tuple(siblings))
    if isinstance(value, bool):
        value = not value
    elif isinstance(value, int):
        value = value ^ 1
    elif name == "other_path":
        value = row_path(*draw.choice(list(rows)))
    elif len(value) == 32:
        value = draw.randbytes(32)
    else:
        value = draw.choice([b"", b"x", value + b"\x00", value[:-1]])
    return dataclasses.replace(claim, **{name: value})


def test_bent_claims_are_judged_as_in_python(verifier, seed):
    """Anything changed in a true claim: the contract says what `scapp.runtime.proofs` says, which is mostly no."""
    draw, root, refused = random.Random(seed), root_of(tree_of(ROWS)), 0
    for _ in range(150):
        claim = bent(draw, claim_of(ROWS, *draw.choice(KEYS)), ROWS)
        wanted = claim.holds(root)
        assert verifier.read("verify", root, claim.tuple) == wanted, claim
        refused += not wanted
    assert refused > 75


@pytest.mark.parametrize("depth", [256, 257])
def test_no_path_is_longer_than_its_bits(verifier, depth):
    """256 siblings are the most there can be; the root is what they give, so that only their number decides."""
    path, siblings = row_path(0, b"k"), tuple(keccak256(bytes([i % 256])) for i in range(depth))
    value = leaf_hash(path, b"row")
    for at in reversed(range(min(depth, 256))):
        right = path[at // 8] >> (7 - at % 8) & 1
        value = keccak256(b"\x01" + (siblings[at] + value if right else value + siblings[at]))
    claim = Claim(0, b"k", True, b"row", siblings)
    assert verifier.read("verify", value, claim.tuple) == claim.holds(value) == (depth == 256)


# At a co-signed state


def app_data(root, deployment=DEPLOYMENT, version=1):
    types = ["uint8", "bytes32", "uint64", "bytes32", "bytes32", "uint64"]
    return eth_abi.encode(types, [version, deployment, 5, bytes(32), root, 1_700_000_000_000])


def require_row(world, verifier, *, app=None, data=None, names=("alice", "bob"), deployment=DEPLOYMENT, claim=None):
    """The answer, or the reason."""
    root = root_of(tree_of(ROWS))
    channel = Channel((ALICE, BOB), world.consensus.address if app is None else app)
    state = channel.state(exits(NATIVE, allocation(ALICE, 1)), 7, app_data(root) if data is None else data)
    claim = claim or claim_of(ROWS, 1, b"x")
    try:
        return verifier.read("requireRow", channel.fixed, [], state.signed(*names), deployment, claim.tuple), channel
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("app", [None, bytes(20)])
def test_a_row_of_a_co_signed_state(world, verifier, app):
    """With an app contract, which says what is supported, and without one, where everybody must have signed."""
    (channel_id, turn), channel = require_row(world, verifier, app=app)
    assert (channel_id, turn) == (channel.id, 7)


@pytest.mark.parametrize("app", [None, bytes(20)])
@pytest.mark.parametrize("names", [("alice",), ("alice", "ivan")])
def test_a_state_that_is_not_supported_proves_nothing(world, verifier, app, names):
    assert require_row(world, verifier, app=app, names=names) == "!unanimous"


def test_another_deployment_proves_nothing(world, verifier):
    """The same rows under other code are another statement."""
    assert require_row(world, verifier, deployment=bytes(32)) == "other deployment"


def test_a_claim_that_does_not_hold_proves_nothing(world, verifier):
    claim = dataclasses.replace(claim_of(ROWS, 1, b"x"), row=b"fat")
    assert require_row(world, verifier, claim=claim) == "row proof does not hold"


@pytest.mark.parametrize("data", [b"", bytes(191), bytes(193)])
def test_other_app_data_is_refused(world, verifier, data):
    assert require_row(world, verifier, data=data) == "not an app channel's state"


def test_an_unknown_version_is_refused(world, verifier):
    assert require_row(world, verifier, data=app_data(bytes(32), version=2)) == "unknown version of app data"
