"""The ready reducers: their own tests from files in every way they can run, and that no messages create value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels.crypto import commitment
from scapp.channels.entries import Kind
from scapp.reducers import library
from scapp.runtime.app_document import load_test
from scapp.runtime.app_test import run_test
from tests.support.reducer_driver import CAST, CHANNEL, NOW_MS, Driver, Refused, checked, slot_for

SOURCES = Path(__file__).parents[2] / "reducers" / "library"
CASES = [(name, path) for name in library.NAMES for path in sorted((SOURCES / name / "tests").glob("*.toml"))]
POOL = b"\xde" * 20


@pytest.mark.parametrize(("name", "path"), CASES, ids=lambda value: value if isinstance(value, str) else value.stem)
def test_its_own_tests_pass_whichever_way_it_runs(name: str, path: Path) -> None:
    """`scapp test reducers/library/NAME --determinism`."""
    document = load_test(path)
    module = checked(library.wasm_bytes(name))
    assert run_test(module, document, determinism=bool(document.step)).failures == []


@pytest.mark.parametrize("name", library.NAMES)
def test_each_message_has_an_accepted_example(name: str) -> None:
    module = checked(library.wasm_bytes(name))
    seen = {m for case, path in CASES if case == name for m in run_test(module, load_test(path)).messages}
    assert seen == {message.name for message in module.manifest.messages}


class Book:
    """The order book said again in the plainest way: a list that is searched."""

    def __init__(self, lot: int, base: list[int], quote: list[int]) -> None:
        self.lot, self.base, self.quote = lot, base, quote
        self.orders: list[tuple[int, int, str, int, int]] = []  # id, owner, side, price, lots

    def place(self, id_: int, owner: int, side: str, price: int, lots: int, rest: bool) -> bool:
        """Whether it is accepted; nothing changes when not."""
        need = lots * (self.lot if side == "sell" else price)
        if need > self.free(owner, side):
            return False
        sign = 1 if side == "buy" else -1
        others = sorted((o for o in self.orders if o[2] != side), key=lambda o: (sign * o[3], o[0]))
        fits = [o for o in others if sign * o[3] <= sign * price]
        total = 0
        for order in fits:
            if total < lots and order[1] == owner:
                return False
            total += order[4]
        for order in fits:
            amount = min(lots, order[4])
            buyer, seller = (owner, order[1]) if side == "buy" else (order[1], owner)
            self.base[buyer] += amount * self.lot
            self.base[seller] -= amount * self.lot
            self.quote[buyer] -= amount * order[3]
            self.quote[seller] += amount * order[3]
            lots -= amount
            place = self.orders.index(order)
            self.orders[place : place + 1] = [(*order[:4], order[4] - amount)] if order[4] > amount else []
        if lots and rest:
            self.orders.append((id_, owner, side, price, lots))
        return True

    def free(self, owner: int, side: str) -> int:
        mine = [o for o in self.orders if o[1] == owner and o[2] == side]
        locked = sum(o[4] * (self.lot if side == "sell" else o[3]) for o in mine)
        return (self.base if side == "sell" else self.quote)[owner] - locked


PLACED = st.tuples(
    st.integers(0, 2), st.sampled_from(["buy", "sell"]), st.integers(1, 6), st.integers(1, 9), st.booleans()
)
CANCELLED = st.tuples(st.integers(0, 2), st.integers(1, 12))


@given(st.lists(PLACED | CANCELLED, max_size=14))
def test_an_order_book_does_what_a_list_would(steps: list[tuple[Any, ...]]) -> None:
    """Legal and illegal orders: accepted alike, the same balances, orders and outcome, and nothing is created."""
    base, quote, usd = [100, 50, 0], [0, 60, 90], b"\x01" * 20
    slots = [slot_for(a, n) for a, n in zip(CAST, base, strict=False)]
    slots += [slot_for(a, n, usd) for a, n in zip(CAST, quote, strict=False)]
    driver, book = Driver(library.wasm_bytes("orderbook"), CAST[:3], {"lot": 10}, slots), Book(10, base, quote)
    for step in steps:
        if len(step) == 2:
            owner, id_ = step
            legal = any(o[:2] == (id_, owner) for o in book.orders)
            book.orders = [o for o in book.orders if o[:2] != (id_, owner)]
            message: Any = {"cancel": {"id": id_}}
        else:
            owner, side, price, lots, rest = step
            legal = book.place(driver.sequence, owner, side, price, lots, rest)
            message = {"place": {"side": side, "price": price, "quantity": lots, "rest": rest}}
        if legal:
            driver.send(owner, message)
        else:
            with pytest.raises(Refused):
                driver.send(owner, message)
        assert driver.amounts == [*book.base, *book.quote]
    found = [(r["id"], CAST.index(r["owner"]), r["side"], r["price"], r["quantity"]) for r in driver.rows("open_order")]
    assert found == sorted(book.orders)
    for row in driver.rows("account"):
        owner = CAST.index(row["owner"])
        free = (row["base"] - row["base_locked"], row["quote"] - row["quote_locked"])
        assert free == (book.free(owner, "sell"), book.free(owner, "buy"))
        assert row["orders"] == sum(o[1] == owner for o in book.orders)
    driver.close()


def salt_of(seat: int) -> bytes:
    return bytes([seat]) * 32


STEPS = st.tuples(st.sampled_from(["commit", "reveal", "tick"]), st.integers(0, 3), st.integers(0, 40_000))


@given(st.lists(STEPS, max_size=14), st.lists(st.integers(0, 60), min_size=3, max_size=3))
def test_silence_in_an_auction_never_pays(steps: list[tuple[str, int, int]], bids: list[int]) -> None:
    """After every message: the pool has a bond for each debtor and nothing else, nobody but a debtor is below its
    deposit before the sale is closed, and then only the winner pays, to the seller."""
    bond, deposit = 5, 50
    slots = [slot_for(address, 0 if seat == 0 else deposit) for seat, address in enumerate(CAST[:4])]
    params = {"item": "lamp", "reserve": 3, "bond": bond, "commit_ms": 60_000, "reveal_ms": 60_000}
    driver = Driver(library.wasm_bytes("auction"), CAST[:4], params, [*slots, slot_for(POOL, 0)])
    time_ms = NOW_MS
    for kind, seat, later in steps:
        time_ms += later
        driver.now_ms = time_ms
        bid = bids[seat - 1].to_bytes(32, "big")
        hidden = commitment(salt_of(seat), CHANNEL, CAST[seat], 0, bid)
        try:
            if kind == "tick":
                driver.tick(seat)
            else:
                body = {"hash": hidden} if kind == "commit" else {"amount": bid, "salt": salt_of(seat)}
                driver.send(seat, {kind: body})
        except Refused:
            pass
        (auction,) = driver.rows("auction")
        bidders, amounts = driver.rows("bidder"), driver.amounts
        owing = {"commit": (), "reveal": ("committed",), "closed": ("withheld",)}[auction["phase"]]
        debtors = {b["seat"] for b in bidders if b["status"] in owing}
        if auction["phase"] == "reveal" and auction["winner"] is not None:
            debtors.add(auction["winner"])
        sold = auction["phase"] == "closed" and auction["winner"] is not None
        assert amounts[4] == bond * len(debtors)
        for b in bidders:
            owed = bond * (b["seat"] in debtors)
            paid = auction["price"] if sold and b["seat"] == auction["winner"] else 0
            gained = auction["price"] if sold and b["seat"] == 0 else 0
            assert amounts[b["seat"]] == b["deposit"] - owed - paid + gained
        revealed = [b for b in bidders if b["bid"] is not None and b["bid"] >= 3]
        if auction["phase"] != "commit" and revealed:
            best = max(revealed, key=lambda b: (b["bid"], -b["committed_at"]))
            assert (auction["winner"], auction["price"]) == (best["seat"], best["bid"])
    driver.close()


ITEMS = ("wood", "plank", "chair")
AMOUNT = st.integers(0, 5) | st.sampled_from([2**64, 2**256 - 1])
GOODS = st.tuples(st.sampled_from((*ITEMS, "gold")), AMOUNT.map(str))
CRAFT = st.one_of(
    st.tuples(st.sampled_from(CAST[:3]), GOODS).map(lambda g: {"give": [g[0], *g[1]]}),
    st.tuples(st.sampled_from(["saw", "build", "none"]), AMOUNT.map(str)).map(lambda c: {"craft": list(c)}),
    st.integers(1, 12).map(lambda n: {"collect": [n]}),
    st.tuples(GOODS, GOODS).map(lambda o: {"offer": {"give": o[0], "want": o[1]}}),
    st.integers(1, 12).map(lambda n: {"accept": [n]}),
    st.integers(1, 12).map(lambda n: {"withdraw": [n]}),
)


@given(st.lists(st.tuples(st.integers(0, 2), CRAFT, st.integers(0, 40_000)), max_size=14))
def test_items_come_from_recipes_alone(steps: list[tuple[int, Any, int]]) -> None:
    """For each item the supply is what is held and offered; jobs and recipes account for every change of it."""
    saw, build = {"wood": -1, "plank": 4}, {"plank": -3, "wood": -1, "chair": 1}
    recipes = [
        {"name": "saw", "inputs": [["wood", 1]], "outputs": [["plank", 4]]},
        {"name": "build", "inputs": [["plank", 3], ["wood", 1]], "outputs": [["chair", 1]], "ms": 60_000},
    ]
    holdings = [[CAST[0], "wood", 9], [CAST[1], "plank", 7]]
    driver = Driver(
        library.wasm_bytes("crafting"), CAST[:3], {"items": ITEMS, "recipes": recipes, "holdings": holdings}
    )
    supply = {"wood": 9, "plank": 7, "chair": 0}
    for author, message, later in steps:
        driver.now_ms += later
        before = {row["id"]: row for row in driver.rows("job")}
        try:
            driver.send(author, message)
        except Refused:
            continue
        if "craft" in message:
            recipe, times = message["craft"]
            for item, change in (saw if recipe == "saw" else build).items():
                supply[item] += change * int(times) * (change < 0 or recipe == "saw")
        if "collect" in message:
            job = before[message["collect"][0]]
            assert job["ready_at"] <= driver.now_ms
            supply["chair"] += job["times"]
        assert {row["name"]: row["supply"] for row in driver.rows("item")} == supply
        for item in ITEMS:
            held = sum(row["amount"] for row in driver.rows("holding") if row["item"] == item)
            offered = sum(row["give_amount"] for row in driver.rows("offer") if row["give_item"] == item)
            assert held + offered == supply[item]
    driver.close()


def test_ticks_of_an_app_without_deadlines_are_refused() -> None:
    driver = Driver(library.wasm_bytes("chat"), CAST[:2])
    with pytest.raises(Refused):
        driver.raw(Kind.TICK, 0, b"")
    driver.close()
