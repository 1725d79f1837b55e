"""What silence pays: the last co-signed outcome, for every prefix and every staller."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from scapp.game import wasm_bytes
from scapp.reducers import library
from scapp.runtime.app_document import load_test
from scapp.runtime.app_test import run_test
from scapp.runtime.cli.main import scapp
from scapp.runtime.stalling import Prefix, Staller, stalls
from tests.support.reducer_driver import checked

ETH, USD = "0x" + "00" * 20, "0x" + "01" * 20
NAMES = ("ann", "ben")
CASES = Path(__file__).parents[2] / "reducers" / "library"


def log(*amounts: tuple[int, ...]) -> list[Prefix]:
    return [Prefix(number, f"step {number}", each) for number, each in enumerate(amounts, 1)]


def test_who_refuses_the_next_state_keeps_this_one() -> None:
    """A game that ann loses: refusing the last step keeps her 3, and costs ben as much."""
    (found,) = stalls([(ETH, "ann"), (ETH, "ben")], NAMES, log((5, 5), (3, 7), (0, 10)))
    assert [moment.paid for moment in found.moments] == [
        {"ann": 5, "ben": 5},
        {"ann": 3, "ben": 7},
        {"ann": 0, "ben": 10},
    ]
    assert [moment.stallers["ann"] for moment in found.moments] == [
        Staller(5, 2, 5, 5),
        Staller(3, 3, 3, 3),
        Staller(0, None, 0, 0),
    ]
    assert found.moments[1].stallers["ben"] == Staller(7, -3, -3, 0)


def test_assets_are_apart_and_two_slots_of_one_payee_add_up() -> None:
    """What goes to somebody who takes no part is nobody's gain."""
    slots = [(ETH, "ann"), (ETH, "ann"), (USD, "ben"), (ETH, None)]
    eth, usd = stalls(slots, NAMES, log((1, 2, 9, 0), (1, 0, 9, 2)))
    assert (eth.asset, usd.asset) == (ETH, USD)
    assert [(moment.paid, moment.others) for moment in eth.moments] == [
        ({"ann": 3, "ben": 0}, 0),
        ({"ann": 1, "ben": 0}, 2),
    ]
    assert eth.moments[0].stallers == {"ann": Staller(3, 2, 2, 0), "ben": Staller(0, 0, 0, 0)}
    assert [moment.paid for moment in usd.moments] == [{"ann": 0, "ben": 9}] * 2


def test_without_slots_or_entries_there_is_nothing_to_pay() -> None:
    """An opening that was refused has no moments."""
    assert stalls([], NAMES, log((), ())) == []
    assert stalls([(ETH, "ann")], NAMES, [])[0].moments == []


@given(st.lists(st.tuples(*[st.integers(0, 2**256 - 1)] * 3), min_size=1, max_size=6))
def test_all_that_is_owed_is_paid_to_somebody(amounts: list[tuple[int, int, int]]) -> None:
    """At every moment, and what a staller gains step by step adds up to what it gains over the end."""
    (found,) = stalls([(ETH, "ann"), (ETH, None), (ETH, "ben")], NAMES, log(*amounts))
    for moment, owed in zip(found.moments, amounts, strict=True):
        assert sum(moment.paid.values()) + moment.others == sum(owed)
    for name in NAMES:
        steps = [moment.stallers[name].over_next or 0 for moment in found.moments]
        assert sum(steps) == found.moments[0].stallers[name].over_end


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(scapp, ["test", *map(str, arguments), "--stall"])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_prints_every_moment_and_what_silence_gains(tmp_path: Path) -> None:
    """The auction: the winner would rather not pay, and says so in figures."""
    wasm = tmp_path / "auction.wasm"
    wasm.write_bytes(library.wasm_bytes("auction"))
    sale = CASES / "auction" / "tests" / "sale.toml"
    text = run(wasm, sale, CASES / "auction" / "tests" / "pool_is_filled.toml")
    for line in (
        "entry  last signed",
        "    0  the opening                                                        0     100     40     50       0",
        "95 +35     35     50      10",
        "ann      35 at entry 6           40 after entry 0                              40",
        "seller   nothing                 nothing                                        5",
    ):
        assert line in text
    document = json.loads(run(wasm, sale, "--json"))
    (asset,) = document["stalls"]["sale.toml"]
    assert asset["moments"][5]["stallers"]["ann"] == {"gets": 95, "over_next": 35, "over_end": 35, "others_lose": 40}
    assert asset["moments"][-1]["paid"] == {"seller": 40, "ann": 60, "ben": 40, "cat": 50}
    wasm.write_bytes(library.wasm_bytes("chat"))
    assert "rate.toml: no outcome slots, so the chain pays nothing" in run(wasm, CASES / "chat" / "tests" / "rate.toml")


def test_refusing_a_step_of_the_game_gains_at_most_its_pot() -> None:
    """In three rounds: nothing before secrets open, then the pot at most (docs/explanation/commit-reveal.md)."""
    path = Path(__file__).parents[2] / "examples" / "game" / "tests" / "three_cards.toml"
    report = run_test(checked(wasm_bytes()), load_test(path))
    (found,) = report.stalls
    assert report.failures == []
    pots = {3: 60, 7: 40, 11: 20}  # of the stake of 120, after the first reveal of each round
    for moment in found.moments:
        assert sum(moment.paid.values()) == 120
        gains = [staller.over_next or 0 for staller in moment.stallers.values()]
        opens_secrets = (moment.entries - 1) % 4 in (2, 3)
        assert max(gains) <= (pots.get(moment.entries - 1, 60) if opens_secrets else 0)
