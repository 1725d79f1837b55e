"""The benchmark runner: verdicts, the file it writes, and what it does when something cannot be measured."""

from __future__ import annotations

import json

import pytest

from benchmarks import runner, timing
from benchmarks.runner import Measure, Part, Result, Unmeasured, reaches, run_measures
from benchmarks.timing import Side, compare


def measure(name="T1", goal=1.0, result=None, lower=False, error=None):
    """A measure that finds what it is told."""

    def run():
        if error is not None:
            raise error
        return result or Result(5.0, "things/s", 2.0)

    return Measure(name, f"title of {name}", goal, run, lower)


@pytest.mark.parametrize(
    ("result", "goal", "lower", "good"),
    [
        (Result(1, "u", 2.0), 2.0, False, True),
        (Result(100, "u", 1.9), 2.0, False, False),
        (Result(1, "u", 0.3), 0.35, True, True),
        (Result(1, "u", 0.36), 0.35, True, False),
        (Result(4.0, "ms"), 5, True, True),
        (Result(6.0, "ms"), 5, True, False),
        (Result(6.0, "1/s"), 5, False, True),
    ],
)
def test_a_goal_is_compared_with_the_ratio_or_else_with_the_value(result, goal, lower, good):
    """In the direction the measure names."""
    assert reaches(measure(goal=goal, lower=lower), result) is good


def test_several_goals_report_the_weakest():
    """measured/goal, or goal/measured where lower is better."""
    parts = [Part("a", 14, 7), Part("b", 30, 30), Part("c", 0.1, 0.2, lower_is_better=True)]
    assert Result.of_parts(3, "u", parts).ratio == 1
    assert Result.of_parts(3, "u", [*parts, Part("d", 0.4, 0.2, lower_is_better=True)]).ratio == 0.5
    assert len(Result.of_parts(3, "u", parts, ["note"]).notes) == 4


def test_lines_and_file_have_the_promised_form(tmp_path, capsys):
    """`NAME value ratio goal ok|SHORT`; the ratio left out of the file where the goal is absolute."""
    path = tmp_path / "out" / "latest.json"
    absolute = measure("S1", 100, Result(4.5, "ms"), lower=True)
    short = measure("T2", 9, Result(7, "u/s", 1.5, ("a part",)))
    assert run_measures([absolute, short], path, keep_others=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "S1 4.5 - 100 ok" in lines
    assert "T2 7 1.5 9 SHORT" in lines
    assert "    a part" in lines
    assert json.loads(path.read_text()) == {
        "S1": {"value": 4.5, "unit": "ms", "goal": 100, "lower_is_better": True},
        "T2": {"value": 7, "unit": "u/s", "ratio": 1.5, "goal": 9, "lower_is_better": False},
    }


@pytest.mark.parametrize("value", [0.000012345, 0.5, 12.0, 123456789.5, 1e15])
def test_every_line_has_five_words_whatever_the_size_of_the_figure(tmp_path, capsys, value):
    """A reader takes the lines that begin with a name; titles, parts and notes below them are indented."""
    parts = Result.of_parts(value, "u/s", [Part("a", value, 0.2, lower_is_better=True)], ["a note"])
    run_measures(
        [measure("S9", 5, Result(value, "s"), lower=True), measure("G99", 1, parts)], tmp_path / "f", keep_others=False
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("    ")]
    assert [line.split()[0] for line in lines] == ["S9", "G99"]
    for line in lines:
        _, figure, ratio, goal, verdict = line.split(" ")
        assert float(figure) == pytest.approx(value, rel=1e-5)
        assert ratio == "-" or float(ratio) > 0
        assert float(goal) in (1, 5)
        assert verdict in ("ok", "SHORT")


def test_one_measure_alone_keeps_the_others(tmp_path):
    """And a full run drops what is no longer there."""
    path = tmp_path / "latest.json"
    run_measures([measure("T1"), measure("T2")], path, keep_others=False)
    run_measures([measure("T2", result=Result(8, "u"))], path, keep_others=True)
    assert json.loads(path.read_text())["T2"]["value"] == 8
    assert "T1" in json.loads(path.read_text())
    run_measures([measure("T3")], path, keep_others=False)
    assert list(json.loads(path.read_text())) == ["T3"]


@pytest.mark.parametrize("error", [Unmeasured("no such program"), ZeroDivisionError("a bug")])
def test_what_could_not_be_measured_has_no_figure(tmp_path, capsys, error):
    """An old figure would pass for the latest one; the measures after it still run."""
    path = tmp_path / "latest.json"
    run_measures([measure("T1")], path, keep_others=False)
    assert run_measures([measure("T1", error=error), measure("T2")], path, keep_others=True) == 1
    assert list(json.loads(path.read_text())) == ["T2"]
    assert str(error) in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{broken"])
def test_a_damaged_file_is_written_anew(tmp_path, content):
    """It holds figures, nothing that could not be measured again."""
    path = tmp_path / "latest.json"
    path.write_text(content)
    run_measures([measure()], path, keep_others=True)
    assert list(json.loads(path.read_text())) == ["T1"]


@pytest.fixture
def catalogue(monkeypatch, tmp_path):
    """Two measures, one broken module, and a file of their own."""
    found = {"T1": measure("T1"), "T2": measure("T2", goal=99)}
    monkeypatch.setattr(runner, "LATEST", tmp_path / "latest.json")
    monkeypatch.setattr(runner, "discover", lambda: (found, {}))
    return tmp_path / "latest.json"


def test_the_command_succeeds_also_when_a_goal_is_missed(catalogue):
    """Measured is measured."""
    assert runner.main([]) == 0
    assert list(json.loads(catalogue.read_text())) == ["T1", "T2"]


def test_the_command_takes_names(catalogue, capsys):
    """One, several, or an empty text for all (`make bench ONLY=`)."""
    assert runner.main(["--only", "T2"]) == 0
    assert list(json.loads(catalogue.read_text())) == ["T2"]
    assert runner.main(["--only", ""]) == 0
    assert runner.main(["--only", "T1, T2"]) == 0
    assert runner.main(["--only", "T9"]) == 2
    assert "T9; there are T1, T2" in capsys.readouterr().err
    assert runner.main(["--list"]) == 0


def test_a_module_that_cannot_be_imported_fails_a_full_run_only(catalogue, monkeypatch, capsys):
    """A neighbour's mistake does not keep one from measuring."""
    monkeypatch.setattr(runner, "discover", lambda: ({"T1": measure("T1")}, {"g99_broken": "Traceback"}))
    assert runner.main(["--only", "T1"]) == 0
    assert runner.main([]) == 1
    assert "g99_broken" in capsys.readouterr().err


def test_every_module_here_can_be_imported():
    """And names do not collide."""
    found, broken = runner.discover()
    assert broken == {}
    assert {"G1", "G2", "G3", "G6", "G7", "G9", "G11", "G20", "S1", "S2", "S3", "S4"} <= set(found)
    numbers = [int(name[1:]) for name in found if name[0] == "G"]
    assert numbers == sorted(numbers)


def test_the_ratio_is_that_of_rates():
    """A clock that the sides themselves move: three times the time for the same work is a third of the rate."""
    now = [0]

    def spending(cost):
        def call():
            now[0] += cost

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(timing.CLOCKS, "wall", lambda: now[0])
        outcome = compare(Side(spending(3_000_000), 10), Side(spending(1_000_000), 10), clock="wall")
    assert outcome.ratio == pytest.approx(1 / 3)
    assert outcome.rate == pytest.approx(10 / 0.003)
    assert outcome.reference_rate == pytest.approx(10 / 0.001)
    assert len(outcome.ratios) == 9


def test_sides_take_turns_in_going_first():
    """So that a drift of the machine favours neither."""
    now, order = [0], []

    def side(name):
        def call():
            now[0] += 50_000_000

        return Side(call, prepare=lambda: order.append(name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(timing.CLOCKS, "wall", lambda: now[0])
        compare(side("a"), side("b"), clock="wall")
    assert order[-18:] == list("abba" * 4 + "ab")
    with pytest.raises(ValueError, match="at least 9"):
        compare(side("a"), side("b"), rounds=3)


def test_a_child_that_fails_is_an_error():
    """Its CPU time would say nothing."""
    with pytest.raises(Exception, match="returned non-zero exit status 3"):
        timing.child_cpu_seconds(["sh", "-c", "exit 3"])
    assert timing.child_cpu_seconds(["sh", "-c", "exit 0"]) >= 0
