"""The AssemblyScript SDK's arithmetic against Python's, through a reducer, and what the compiler refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scapp.reducers import assemblyscript, build
from tests.support.reducer_driver import Driver, Refused

pytestmark = pytest.mark.slow  # the compiler takes seconds

SOURCE = """
import { App, Context, Fields, OK, Opening, Row, Struct, U256, add, get, multiply, put, subtract } from "scapp";

class Found extends Row {
  id: i16 = 1;
  text: string = "";
  table(): string { return "found"; }
  fields(f: Fields): void {
    this.id = f.i16("id", this.id);
    this.text = f.text("text", this.text);
  }
}
class None extends Struct { fields(_: Fields): void {} }
class Wide extends Struct {
  a: U256 = new U256();
  b: U256 = new U256();
  fields(f: Fields): void {
    this.a = f.u256("a", this.a);
    this.b = f.u256("b", this.b);
  }
}
class Narrow extends Struct {
  a: i64 = 0;
  b: i64 = 0;
  fields(f: Fields): void {
    this.a = f.i64("a", this.a);
    this.b = f.i64("b", this.b);
  }
}
class Word extends Struct {
  a: u64 = 0;
  b: u64 = 0;
  fields(f: Fields): void {
    this.a = f.u64("a", this.a);
    this.b = f.u64("b", this.b);
  }
}

function tell(text: string): i32 {
  const found = new Found();
  found.text = text;
  put(found);
  return OK;
}
function shown(value: U256 | null): string {
  return value == null ? "none" : value.toString();
}

export function app(): App {
  return new App("sums", "1")
    .table<Found>()
    .open<None>((_ctx: Context, _o: Opening<None>) => OK)
    .message<Wide>("wide", (_ctx, m) => tell(
      `${shown(m.a.plus(m.b))} ${shown(m.a.minus(m.b))} ${shown(m.a.times(m.b))} ` +
      `${m.a.compare(m.b)} ${m.a < m.b} ${m.a > m.b}`,
    ))
    .message<Wide>("times", (_ctx, m) => tell((m.a * m.b).toString()))
    .message<Narrow>("add", (_ctx, m) => tell(add(m.a, m.b).toString()))
    .message<Narrow>("subtract", (_ctx, m) => tell(subtract(m.a, m.b).toString()))
    .message<Narrow>("multiply", (_ctx, m) => tell(multiply(m.a, m.b).toString()))
    .message<Word>("add_word", (_ctx, m) => tell(add(m.a, m.b).toString()))
    .message<Word>("subtract_word", (_ctx, m) => tell(subtract(m.a, m.b).toString()))
    .message<Word>("multiply_word", (_ctx, m) => tell(multiply(m.a, m.b).toString()));
}
"""
U256_MAX = 2**256 - 1


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    try:
        assemblyscript.compiler()
    except build.ToolchainMissing as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("sums")
    (folder / "sums.ts").write_text(SOURCE)
    build.build_reducer(folder / "sums.ts", folder / "sums.wasm")
    return Driver((folder / "sums.wasm").read_bytes())


def told(driver: Driver, message: Any) -> str:
    driver.send(0, message)
    return str(driver.rows("found")[0]["text"])


WIDE = (
    st.integers(0, U256_MAX)
    | st.integers(0, 256).map(lambda n: max(0, 2**n - 1))
    | st.integers(0, 77).map(lambda n: 10**n)
)


@settings(max_examples=max(300, settings.default.max_examples))
@given(WIDE, WIDE)
def test_amounts_are_pythons_integers_up_to_256_bits(driver: Driver, a: int, b: int) -> None:
    """Sum, difference, product, comparison; beyond the range there is none, and operators trap."""

    def within(value: int) -> str:
        return str(value) if 0 <= value <= U256_MAX else "none"

    order = (a > b) - (a < b)
    expected = f"{within(a + b)} {within(a - b)} {within(a * b)} {order} {str(a < b).lower()} {str(a > b).lower()}"
    assert told(driver, {"wide": {"a": str(a), "b": str(b)}}) == expected
    if a * b > U256_MAX:
        with pytest.raises(Refused) as refused:
            driver.send(0, {"times": {"a": str(a), "b": str(b)}})
        assert refused.value.code == "fault"


EDGES = st.sampled_from([-(2**63), -(2**63) + 1, -(2**32), -2, -1, 0, 1, 2, 2**31, 2**32, 2**63 - 1])
I64 = EDGES | st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=max(300, settings.default.max_examples))
@given(st.sampled_from(["add", "subtract", "multiply"]), I64, I64)
@example("multiply", -(2**63), -1)
@example("multiply", -1, -(2**63))
@example("subtract", 0, -(2**63))
def test_checked_sums_are_exact_or_trap(driver: Driver, name: str, a: int, b: int) -> None:
    """Signed and unsigned 64 bits."""
    exact = {"add": a + b, "subtract": a - b, "multiply": a * b}[name]
    check(driver, name, a, b, exact, -(2**63) <= exact < 2**63)
    a, b = a % 2**64, b % 2**64
    exact = {"add": a + b, "subtract": a - b, "multiply": a * b}[name]
    check(driver, f"{name}_word", a, b, exact, 0 <= exact < 2**64)


def check(driver: Driver, name: str, a: int, b: int, exact: int, fits: bool) -> None:
    if fits:
        assert told(driver, {name: [a, b]}) == str(exact)
        return
    with pytest.raises(Refused) as refused:
        driver.send(0, {name: [a, b]})
    assert refused.value.code == "fault"
    assert [line.text.partition(",")[0] for line in driver.logs] == ["integer overflow"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('f.i16("id", this.id)', 'f.text("id", this.id)', "is not assignable to type"),
        (
            '.message<Wide>("times", (_ctx, m)',
            '.message<Wide>("times", (_ctx: Context, m: Narrow)',
            "is not assignable to type",
        ),
        ("put(found);", 'put("found");', "is not assignable to type"),
    ],
)
def test_mistakes_are_compile_errors(driver: Driver, old: str, new: str, reason: str, tmp_path: Path) -> None:
    """A column of another type, a handler of another message, something that is no row."""
    assert old in SOURCE
    (tmp_path / "sums.ts").write_text(SOURCE.replace(old, new))
    with pytest.raises(build.BuildError, match=f"(?s)sums.ts does not compile:.*{reason}"):
        build.build_reducer(tmp_path / "sums.ts", tmp_path / "sums.wasm")
