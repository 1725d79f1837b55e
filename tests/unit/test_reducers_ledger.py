"""The ledger: who may move what, what is recorded, and when the outcome follows the balances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.reducers import library
from tests.support.reducer_driver import ALICE, BOB, CAROL, CAST, NOW_MS, Driver, Refused, slot_for

GOLDEN = Path(__file__).parents[1] / "golden"
LEDGERS = {
    "zig": library.wasm_bytes("ledger"),
    "c": (GOLDEN / "ledger-c.wasm").read_bytes(),
    "rust": (GOLDEN / "ledger-rust.wasm").read_bytes(),
    "assemblyscript": (GOLDEN / "ledger-assemblyscript.wasm").read_bytes(),
}
U256_MAX = 2**256 - 1


class Language:
    """The ledger under test; each test below runs once for each."""

    name = "zig"


@pytest.fixture(params=LEDGERS, autouse=True, scope="module")
def language(request: pytest.FixtureRequest) -> str:
    Language.name = request.param
    return str(request.param)


def hex_(address: bytes) -> str:
    return "0x" + address.hex()


def ledger(issuer: bytes | None = ALICE, slots: Any = (), **balances: int) -> Driver:
    named = {"alice": ALICE, "bob": BOB, "carol": CAROL}
    params = {"issuer": issuer, "balances": [[named[name], str(amount)] for name, amount in balances.items()]}
    return Driver(LEDGERS[Language.name], CAST[:3], params, slots)


def balances(driver: Driver) -> dict[bytes, int]:
    return {row["owner"]: row["balance"] for row in driver.rows("account")}


def test_transfers_mints_and_burns_are_recorded() -> None:
    driver = ledger(alice=100)
    events = driver.send(0, {"transfer": {"to": BOB, "amount": 30}})
    assert events == [("transfer", {"sender": ALICE, "recipient": BOB, "amount": 30})]
    driver.send(0, {"mint": {"to": hex_(CAROL), "amount": str(2**70)}})
    driver.send(2, {"burn": [2**63]})
    assert balances(driver) == {ALICE: 70, BOB: 30, CAROL: 2**70 - 2**63}
    assert driver.rows("token") == [{"id": 1, "issuer": ALICE, "supply": 100 + 2**70 - 2**63, "backed": False}]
    assert driver.rows("transfer") == [
        {"sequence": 1, "sender": ALICE, "recipient": BOB, "amount": 30, "at": NOW_MS},
        {"sequence": 2, "sender": None, "recipient": CAROL, "amount": 2**70, "at": NOW_MS},
        {"sequence": 3, "sender": CAROL, "recipient": None, "amount": 2**63, "at": NOW_MS},
    ]


@pytest.mark.parametrize(
    ("author", "message", "reason"),
    [
        (0, {"transfer": {"to": BOB, "amount": 11}}, f"balance of {hex_(ALICE)} is 10, 11 are needed"),
        (1, {"transfer": {"to": ALICE, "amount": 1}}, f"balance of {hex_(BOB)} is 0, 1 are needed"),
        (0, {"transfer": {"to": ALICE, "amount": 1}}, "sender and recipient are both"),
        (0, {"transfer": {"to": BOB, "amount": 0}}, "amount is 0: at least 1 is needed"),
        (1, {"mint": {"to": BOB, "amount": 1}}, f"only the issuer {hex_(ALICE)} can mint, not {hex_(BOB)}"),
        (0, {"mint": {"to": BOB, "amount": 0}}, "amount is 0"),
        (0, {"mint": {"to": BOB, "amount": str(U256_MAX)}}, r"together exceed 2\^256-1"),
        (0, {"burn": {"amount": 11}}, "is 10, 11 are needed"),
        (0, {"steal": {"amount": 11}}, "unknown message 'steal': known are transfer, mint, burn, top_up, claim"),
        (0, {"transfer": {"to": BOB}}, "field 'amount' missing"),
    ],
)
def test_what_is_not_allowed_is_rejected_whole(author: int, message: Any, reason: str) -> None:
    driver = ledger(alice=10)
    root = driver.kernel.state_root()
    with pytest.raises(Refused, match=reason) as refused:
        driver.send(author, message)
    assert refused.value.code == "rejected"
    assert driver.kernel.state_root() == root


def test_without_an_issuer_nobody_mints() -> None:
    with pytest.raises(Refused, match="this ledger has no issuer"):
        ledger(issuer=None, alice=1).send(0, {"mint": {"to": BOB, "amount": 1}})


def test_an_owner_named_twice_is_refused() -> None:
    with pytest.raises(Refused, match="has two opening balances"):
        Driver(LEDGERS[Language.name], CAST[:2], {"balances": [[ALICE, 1], [ALICE, 2]]})


SLOTS = [slot_for(BOB, 50), slot_for(ALICE, 100), slot_for(CAROL, 0)]


def test_a_backed_ledger_pays_its_balances() -> None:
    """Slots one to one with participants: the outcome follows every transfer, in slot order, and the sum stays."""
    driver = ledger(issuer=None, slots=SLOTS, alice=100, bob=50, carol=0)
    assert driver.rows("token")[0]["backed"] is True
    driver = ledger(issuer=None, slots=SLOTS)
    assert driver.amounts == [50, 100, 0]
    driver.send(0, {"transfer": {"to": CAROL, "amount": 25}})
    assert driver.amounts == [50, 75, 25]
    with pytest.raises(Refused, match="has no outcome slot"):
        driver.send(0, {"transfer": {"to": b"\xee" * 20, "amount": 1}})
    with pytest.raises(Refused, match="cannot burn"):
        driver.send(0, {"burn": {"amount": 1}})
    assert driver.amounts == [50, 75, 25]


ACCOUNTS = [slot_for(b"\xe1" * 20, 50), slot_for(b"\xe2" * 20, 100), slot_for(b"\xe2" * 20, 0)]


def test_who_is_paid_elsewhere_owns_its_slot_all_the_same() -> None:
    """Slot i is participant i's: a payout to an account of its own, or to one that two share, changes nothing."""
    driver = ledger(issuer=None, slots=ACCOUNTS)
    assert balances(driver) == {ALICE: 50, BOB: 100, CAROL: 0}
    driver.send(1, {"transfer": {"to": CAROL, "amount": 25}})
    assert driver.amounts == [50, 75, 25]
    named = ledger(issuer=None, slots=ACCOUNTS, alice=50, bob=100, carol=0)
    assert named.rows("token")[0]["backed"] is True
    some = ledger(issuer=None, slots=[SLOTS[0], SLOTS[0], slot_for(b"\xe2" * 20, 7)])
    assert balances(some) == {ALICE: 50, BOB: 50, CAROL: 7}


ROOM = [*ACCOUNTS, *(slot_for(destination[12:], 0) for _, destination, _ in ACCOUNTS), slot_for(b"\xe1" * 20, 40)]


def test_a_top_up_is_announced_and_then_claimed() -> None:
    """In between it stands in its depositor's reserve slot and is nobody's balance."""
    driver = ledger(issuer=None, slots=ROOM)
    driver.send(2, {"top_up": {"amount": 30}})
    assert driver.amounts == [50, 100, 0, 0, 0, 30, 10]
    driver.send(0, {"transfer": {"to": BOB, "amount": 5}})
    assert driver.amounts == [45, 105, 0, 0, 0, 30, 10]
    assert driver.rows("token")[0]["supply"] == 150
    events = driver.send(0, {"claim": {"amount": 30}})
    assert events == [("top_up", {"sender": None, "recipient": CAROL, "amount": 30})]
    assert driver.amounts == [45, 105, 30, 0, 0, 0, 10]
    assert driver.rows("token")[0]["supply"] == 180
    driver.send(0, {"top_up": {"amount": 10}})
    assert driver.amounts == [45, 105, 30, 10, 0, 0, 0]


@pytest.mark.parametrize(
    ("before", "message", "reason"),
    [
        ([], {"top_up": {"amount": 41}}, "headroom is 40, 41 are needed"),
        ([], {"top_up": {"amount": 0}}, "amount is 0"),
        ([], {"claim": {"amount": 1}}, "the top-up to claim is 0, 1 are needed"),
        ([{"top_up": {"amount": 5}}], {"top_up": {"amount": 1}}, "a top-up of 5 is not claimed yet"),
        ([{"top_up": {"amount": 5}}], {"claim": {"amount": 6}}, "the top-up to claim is 5, 6 are needed"),
    ],
)
def test_top_ups_that_are_rejected(before: list[Any], message: Any, reason: str) -> None:
    driver = ledger(issuer=None, slots=ROOM)
    for each in before:
        driver.send(0, each)
    amounts = driver.amounts
    with pytest.raises(Refused, match=reason):
        driver.send(1, message)
    assert driver.amounts == amounts
    for name in ("top_up", "claim"):
        with pytest.raises(Refused, match="has no room for top-ups"):
            ledger(issuer=None, slots=ACCOUNTS).send(0, {name: {"amount": 1}})


@pytest.mark.parametrize(
    ("at", "slot"), [(3, slot_for(b"\xe1" * 20, 1)), (4, slot_for(BOB, 0)), (6, slot_for(BOB, 40))]
)
def test_room_of_another_form_is_none(at: int, slot: Any) -> None:
    """What the nodes would not take for room, either."""
    slots = [*ROOM[:at], slot, *ROOM[at + 1 :]]
    assert ledger(issuer=None, slots=slots).rows("token")[0]["backed"] is False


def test_a_deposit_and_an_issuer_exclude_each_other() -> None:
    with pytest.raises(Refused, match="cannot have an issuer"):
        ledger(issuer=ALICE, slots=SLOTS)


@pytest.mark.parametrize(
    "slots",
    [
        SLOTS[:2],
        [*SLOTS[:2], slot_for(b"\xee" * 20, 0)],
        [*SLOTS[:2], slot_for(CAROL, 0, b"\1" * 20)],
        [*SLOTS[:2], (bytes(20), b"\1" * 32, 0)],
        [SLOTS[0], SLOTS[0], SLOTS[1]],
    ],
)
def test_any_other_slots_are_left_as_negotiated(slots: Any) -> None:
    driver = ledger(slots=slots, alice=100, bob=50)
    driver.send(0, {"transfer": {"to": BOB, "amount": 5}})
    assert driver.rows("token")[0]["backed"] is False
    assert driver.amounts == [amount for _, _, amount in slots]


def test_balances_that_differ_from_the_slots_are_not_backed() -> None:
    driver = ledger(slots=SLOTS, alice=101, bob=50, carol=0)
    assert driver.rows("token")[0]["backed"] is False


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["transfer", "mint", "burn"]),
            st.integers(0, 2),
            st.sampled_from([0, 1, 9_999, 10_000, 2**64, 2**128 + 1, 10**76, U256_MAX]) | st.integers(0, U256_MAX),
        ),
        max_size=12,
    )
)
def test_balances_always_sum_to_the_supply(steps: list[tuple[int, str, int, int]]) -> None:
    """Any messages, legal or not, against a dict."""
    driver = ledger(alice=10**30, bob=1)
    held = {ALICE: 10**30, BOB: 1}
    for author, name, to, amount in steps:
        sender, recipient = CAST[author], CAST[to]
        legal = amount > 0
        if name == "mint":
            legal = legal and author == 0 and sum(held.values()) + amount <= U256_MAX
        else:
            legal = legal and held.get(sender, 0) >= amount and (name == "burn" or author != to)
        body: dict[str, Any] = {"amount": amount.to_bytes(32, "big")}
        if name != "burn":
            body["to"] = recipient
        if not legal:
            with pytest.raises(Refused):
                driver.send(author, {name: body})
            continue
        driver.send(author, {name: body})
        if name != "mint":
            held[sender] -= amount
        if name != "burn":
            held[recipient] = held.get(recipient, 0) + amount
    assert balances(driver) == held
    assert driver.rows("token")[0]["supply"] == sum(held.values())
    driver.close()


def test_the_library_names_what_it_has() -> None:
    with pytest.raises(KeyError, match="no reducer 'chess' in the library: there are ledger"):
        library.wasm_bytes("chess")
