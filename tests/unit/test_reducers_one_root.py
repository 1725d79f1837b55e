"""The same log through every language's ledger: one root, the same rows, events, outcome and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st

from scapp.channels.entries import Kind
from scapp.reducers import library
from tests.support.reducer_driver import ALICE, BOB, CAST, Driver, Refused, slot_for

GOLDEN = Path(__file__).parents[1] / "golden"
LEDGERS = {
    "zig": library.wasm_bytes("ledger"),
    "c": (GOLDEN / "ledger-c.wasm").read_bytes(),
    "rust": (GOLDEN / "ledger-rust.wasm").read_bytes(),
    "assemblyscript": (GOLDEN / "ledger-assemblyscript.wasm").read_bytes(),
}
CONFORMANCE = {name: (GOLDEN / f"conformance{tail}.wasm").read_bytes() for name, tail in
               (("zig", ""), ("c", "-c"), ("rust", "-rust"), ("assemblyscript", "-assemblyscript"))}  # fmt: skip


def outcome_of(driver: Driver, author: int, payload: bytes) -> Any:
    """Everything that one entry shows: events or refusal, then root, amounts and rows."""
    try:
        said: Any = driver.raw(Kind.MESSAGE, author, payload)
    except Refused as refused:
        said = (refused.code, str(refused) if refused.code == "rejected" else "")
    tables = {table.name: list(driver.kernel.rows(table.name)) for table in driver.manifest.tables}
    return said, driver.kernel.state_root(), driver.amounts, tables


AMOUNTS = st.sampled_from([0, 1, 9_999, 10_000, 10**38, 2**64, 2**128, 2**256 - 1]) | st.integers(0, 2**256 - 1)
MESSAGES = st.one_of(
    st.fixed_dictionaries(
        {"transfer": st.fixed_dictionaries({"to": st.sampled_from(CAST), "amount": AMOUNTS.map(str)})}
    ),
    st.fixed_dictionaries({"mint": st.tuples(st.sampled_from(CAST), AMOUNTS.map(lambda n: n.to_bytes(32, "big")))}),
    st.fixed_dictionaries({"burn": st.tuples(st.integers(0, 2**64 - 1))}),
    st.fixed_dictionaries({"top_up": st.fixed_dictionaries({"amount": st.integers(0, 9)})}),
    st.fixed_dictionaries({"claim": st.tuples(st.integers(0, 9))}),
    st.dictionaries(
        st.sampled_from(["transfer", "mint", "burn", "x"]), st.none() | st.integers() | st.text(max_size=9)
    ),
)


DEPOSIT = [slot_for(ALICE, 10**20), slot_for(b"\xe2" * 20, 7)]
SLOTS = [[], DEPOSIT, [*DEPOSIT, slot_for(ALICE, 0), slot_for(b"\xe2" * 20, 0), slot_for(ALICE, 12)]]


def packed(message: Any) -> bytes:
    return bytes(msgpack.packb(message, default=str))


LOGS = st.lists(st.tuples(st.integers(0, 1), MESSAGES), max_size=10)


@settings(max_examples=max(40, settings.default.max_examples // 2))
@given(st.sampled_from(SLOTS), LOGS)
def test_one_log_gives_one_root_in_every_language(slots: list[Any], log: list[tuple[int, Any]]) -> None:
    """Legal and illegal messages, without a deposit behind the ledger, with one, and with one that may grow."""
    params = None if slots else {"issuer": ALICE, "balances": [[ALICE, str(10**30)], [BOB, 5]]}
    drivers = {name: Driver(wasm, CAST[:2], params, slots) for name, wasm in LEDGERS.items()}
    for author, message in log:
        seen = {name: outcome_of(driver, author, packed(message)) for name, driver in drivers.items()}
        assert all(result == seen["zig"] for result in seen.values()), (message, seen)
    for driver in drivers.values():
        driver.close()


@given(st.binary(max_size=80))
def test_every_payload_is_judged_alike(payload: bytes) -> None:
    """Any bytes to the conformance reducers: equal reasons, equal rows."""
    seen = {name: outcome_of(driver, 0, payload) for name, driver in _PROBED.items()}
    assert all(result == seen["zig"] for result in seen.values()), seen


def test_the_manifests_are_the_same_document() -> None:
    """Tables, columns, indexes, views and messages, in every language."""
    for family in (LEDGERS, CONFORMANCE):
        manifests = [Driver(wasm, CAST[:2]).manifest for wasm in family.values()]
        assert all(manifest == manifests[0] for manifest in manifests)
    assert [table.name for table in manifests[0].tables if table.history] == ["pair"]


_PROBED = {name: Driver(wasm, CAST[:2]) for name, wasm in CONFORMANCE.items()}
