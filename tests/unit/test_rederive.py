"""Recorded entries derived again by a changed module: what is left out, what differs; quick builds do the same."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scapp.channels.entries import Kind, encode_entry
from scapp.reducers import library
from scapp.reducers.build import REPOSITORY, build_reducer
from scapp.runtime.cli.dev_loop import DevLoop, Save
from scapp.runtime.module import check_module
from scapp.runtime.rederive import NotDerivable, Rederivation, changed_rows
from tests.support.reducer_driver import ALICE, BOB, CHANNEL, NOW_MS, checked

LEDGER = checked(library.wasm_bytes("ledger"))
SOURCE = (Path(__file__).parents[2] / "reducers/scapp/reducers/templates/app.zig").read_text().replace("NAME", "tally")


def entry(kind: Kind, author: int, number: int, payload: Any) -> bytes:
    data = b"" if kind is Kind.TICK else msgspec.msgpack.encode(payload)
    return encode_entry(kind, author, number, NOW_MS + number, data)


def opened(params: Any = None) -> bytes:
    return entry(Kind.OPEN, 0, 1, [[ALICE, BOB], [], params])


def transfer(number: int, amount: int, author: int = 0) -> bytes:
    return entry(Kind.MESSAGE, author, number, {"transfer": {"to": (BOB, ALICE)[author], "amount": amount}})


def test_what_a_module_refuses_is_left_out_and_the_rest_is_derived() -> None:
    """The root is that of the taken entries alone, however the record grew."""
    record = [opened({"balances": [[ALICE, 10]]}), transfer(2, 3), transfer(3, 99), transfer(4, 4)]
    whole = Rederivation(LEDGER, CHANNEL, record)
    assert [(left.sequence, "99 are needed" in left.reason) for left in whole.left_out] == [(2, True)]
    grown = Rederivation(LEDGER, CHANNEL, record[:1])
    for each in record[1:]:
        grown.extend([each])
    without = Rederivation(LEDGER, CHANNEL, [record[0], record[1], record[3]])
    assert whole.root == grown.root == without.root
    assert grown.left_out == whole.left_out
    shown = whole.shown("account", whole.rows())
    assert sorted(row["balance"] for row in shown) == ["3", "7"]
    for each in (whole, grown, without):
        each.close()


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ([opened({"balances": [[ALICE, 1], [ALICE, 2]]})], "the opening is refused: .* has two opening balances"),
        ([transfer(1, 1)], "the record begins with a message; entry 0 opens a channel"),
    ],
)
def test_a_record_that_cannot_be_derived_says_why(record: list[bytes], problem: str) -> None:
    with pytest.raises(NotDerivable, match=problem):
        Rederivation(LEDGER, CHANNEL, record)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[DevLoop]:
    pytest.importorskip("ziglang", reason="the Zig compiler is not installed: pip install 'scapp[zig]'")
    (tmp_path / "tally.zig").write_text(SOURCE)
    found = DevLoop(tmp_path / "tally.zig")
    found.first()
    found.use(CHANNEL, [opened(), *(entry(Kind.MESSAGE, 0, n, {"add": ["zoe", n]}) for n in (2, 3))])
    yield found
    found.close()


def saved(loop: DevLoop, text: str) -> Save:
    """As an editor does: a new file in the place of the old."""
    assert loop.poll() is None
    fresh = loop.source.with_suffix(".new")
    fresh.write_text(text)
    os.utime(fresh, ns=(time.time_ns(), loop.source.stat().st_mtime_ns + 1))
    fresh.replace(loop.source)
    save = loop.poll()
    assert save is not None
    assert loop.poll() is None
    return save


def points(loop: DevLoop) -> list[int]:
    assert loop.current is not None
    return [row["points"] for row in loop.current.shown("score", loop.current.rows())]


def test_saves_are_derived_and_mistakes_survived(loop: DevLoop) -> None:
    """A change of rules, a compile error, a refused opening, a new column, a rule that refuses what was recorded."""
    assert points(loop) == [5]
    doubled = saved(loop, SOURCE.replace("before + points", "before + 2 * points"))
    assert (doubled.problem, points(loop)) == ("", [10])
    assert [(d.found, d.expected) for d in doubled.differences] == [
        (
            {"who": "zoe", "points": 5, "last_by": "0x" + ALICE.hex()},
            {"who": "zoe", "points": 10, "last_by": "0x" + ALICE.hex()},
        )
    ]
    assert 0 < doubled.build_s < doubled.total_s
    broken = saved(loop, SOURCE.replace("before + points", "before + pints"))
    assert "tally.zig does not compile:" in broken.problem
    assert "undeclared identifier 'pints'" in broken.problem
    assert points(loop) == [10]
    closed = saved(
        loop, SOURCE.replace("_ = db.put(Rule{", 'if (true) return scapp.reject("closed", .{});\n    _ = db.put(Rule{')
    )
    assert closed.problem == "the opening is refused: closed"
    assert points(loop) == [10]
    wider = saved(loop, SOURCE.replace("points: i64,\n", "points: i64,\n    doubled: i64 = 0,\n"))
    assert (wider.problem, list(wider.tables_changed), wider.differences) == ("", ["table score has other columns"], [])
    strict = saved(loop, SOURCE.replace("points < 1", "points < 3"))
    assert [left.sequence for left in strict.left_out] == [1]
    loop.extend([entry(Kind.MESSAGE, 1, 4, {"add": ["zoe", 9]})])
    assert (points(loop), loop.recorded) == ([12], 4)
    assert [save.problem == "" for save in loop.saves] == [True, False, False, True, True]
    assert loop.typical_s() == sorted(save.total_s for save in loop.saves if not save.problem)[1]


def test_rows_that_come_and_go_are_named() -> None:
    """Of two derivations of one record, by key."""
    record = [opened({"balances": [[ALICE, 10]]}), transfer(2, 3)]
    one, two = Rederivation(LEDGER, CHANNEL, record[:1]), Rederivation(LEDGER, CHANNEL, record)
    there, words = changed_rows((LEDGER, one.rows()), (LEDGER, two.rows()))
    back, _ = changed_rows((LEDGER, two.rows()), (LEDGER, one.rows()))
    assert words == []
    assert sorted((d.table, d.kind) for d in there) == [
        ("account", "changed"),
        ("account", "missing"),
        ("transfer", "missing"),
    ]
    assert sorted((d.table, d.kind) for d in back) == [
        ("account", "changed"),
        ("account", "extra"),
        ("transfer", "extra"),
    ]
    chat = checked(library.wasm_bytes("chat"))
    other = Rederivation(chat, CHANNEL, [opened()])
    _, named = changed_rows((LEDGER, one.rows()), (chat, other.rows()))
    assert {"table account is gone", "table post is new"} <= set(named)
    for each in (one, two, other):
        each.close()


@pytest.mark.parametrize(("source", "artifact"), [("ledger/ledger.zig", "ledger"), ("auction/auction.zig", "auction")])
def test_a_quick_build_does_what_the_kept_module_does(source: str, artifact: str, tmp_path: Path) -> None:
    """Other bytes, the same manifest and root; compiled quickly as well."""
    pytest.importorskip("ziglang", reason="the Zig compiler is not installed: pip install 'scapp[zig]'")
    build_reducer(REPOSITORY / "reducers/library" / source, tmp_path / "quick.wasm", quick=True)
    quick = check_module((tmp_path / "quick.wasm").read_bytes(), quick=True)
    kept = checked(library.wasm_bytes(artifact))
    assert quick.wasm != kept.wasm
    assert quick.manifest == kept.manifest
    params: Any = {"balances": [[ALICE, str(10**30)]]}
    record = [opened(params), *(transfer(n, 7**n) for n in range(2, 22))]
    if artifact == "auction":
        record = [opened({"item": "x", "commit_ms": 5, "reveal_ms": 5})]
        record += [entry(Kind.MESSAGE, 1, 2, {"commit": {"hash": bytes(32)}}), entry(Kind.TICK, 0, 9, None)]
    one, two = Rederivation(quick, CHANNEL, record), Rederivation(kept, CHANNEL, record)
    assert (one.root, one.left_out) == (two.root, two.left_out)
    for each in (one, two):
        each.close()
