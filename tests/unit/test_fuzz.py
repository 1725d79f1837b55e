"""The fuzzing itself: what was once found stays mended, good inputs are taken, and a decoder that fails is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.mutate import inputs
from tests.fuzz.one import corpus
from tests.fuzz.targets import Target, checked, targets
from tests.support.tree import ROOT

TARGETS = targets()
# Inputs beside the corpus; SCAPP_SEED moves on to others.
SAMPLE = 300
FIRST = int(os.environ.get("SCAPP_SEED", "0")) % 10**9


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_decoders_answer_with_a_value_or_a_documented_error(target: Target) -> None:
    """Inputs that once were findings, good ones, and a few hundred mutations of both."""
    decode, seeds = target.make()
    call = checked(target, decode)
    for data in (*corpus(target.name), *inputs([*seeds, *corpus(target.name)], SAMPLE, FIRST, target.bytes_max)):
        call(data)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_good_inputs_are_taken(target: Target) -> None:
    """Mutations of what is refused at once would try nothing but the first check."""
    decode, seeds = target.make()
    taken = 0
    for data in seeds:
        try:
            decode(data)
            taken += 1
        except target.allowed:
            continue
    assert taken, "no seed is taken"


def test_the_mutator_repeats_itself() -> None:
    """Input number N is the same in every run: a finding can be had again by its number."""
    seeds = [b"one", b"another"]
    first = list(inputs(seeds, 50, 0, 4096))
    assert list(inputs(seeds, 20, 30, 4096)) == first[30:]
    assert len(set(first)) > 40
    assert all(len(data) <= 5 for data in inputs(seeds, 50, 0, 5))


def fuzz(tmp_path: Path, body: str, engine: str, seconds: int = 60) -> subprocess.CompletedProcess[str]:
    """One run over a decoder that does `body` when it meets the byte 0x2a; `seconds` of processor time are a hang."""
    program = f"""
import sys, time
from pathlib import Path
import tests.fuzz.targets as all_targets
from tests.fuzz.one import main

def decode(data):
    if b"*" in data:
        {body}

planted = all_targets.Target("planted", lambda: (decode, [b"seed"]), (ValueError,), seconds={seconds})
all_targets.targets = lambda: [planted]
main("planted", 100000, 0, Path(sys.argv[1]), {engine!r})
"""
    return subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, errors="replace"
    )


@pytest.mark.parametrize("engine", ["plain", "atheris"])
@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ("raise KeyError('undocumented')", 60),
        ("while True: pass", 1),
        pytest.param("time.sleep(600)", 1, marks=pytest.mark.slow),
    ],
    ids=["another error", "a loop without end", "a wait without end"],
)
def test_a_decoder_that_fails_is_found(tmp_path: Path, body: str, seconds: int, engine: str) -> None:
    """By either engine, with the input kept."""
    if engine == "atheris":
        pytest.importorskip("atheris", reason="atheris is not installed: the plain mutator alone was tried")
    done = fuzz(tmp_path, body, engine, seconds)
    assert done.returncode != 0
    kept = [path.read_bytes() for path in tmp_path.iterdir()]
    assert kept
    assert all(b"*" in data for data in kept)


def test_memory_without_end_is_found(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "hold = bytearray(4 << 30)", "plain")
    assert done.returncode != 0
    assert "MemoryError" in done.stderr


def test_documented_errors_are_answers(tmp_path: Path) -> None:
    """They end nothing, and nothing is kept."""
    done = fuzz(tmp_path, "raise ValueError('documented')", "plain")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
