"""How a subject is timed beside its reference; `runner.py` prints and stores what comes out.

Machines are noisy: absolute figures move by half when neighbours are busy, ratios taken in one interleaved run hold
to a few percent. So subject and reference run in alternating slots of one process, and a measure is the median of
the per-round ratios.
"""

from __future__ import annotations

import gc
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Clock = Literal["thread", "process", "wall"]
CLOCKS: dict[Clock, Callable[[], int]] = {
    "thread": time.thread_time_ns,
    "process": time.process_time_ns,
    "wall": time.perf_counter_ns,
}
ROUNDS_MIN = 9
SLOT_SECONDS = 0.05


@dataclass(frozen=True)
class Side:
    """One contender: `call()` does `units` units of work; `prepare()` runs before each slot, outside the clock."""

    call: Callable[[], object]
    units: int = 1
    prepare: Callable[[], object] | None = None


@dataclass(frozen=True)
class Comparison:
    """Medians over the rounds; rates are units per second, `ratio` is subject rate / reference rate."""

    rate: float
    reference_rate: float
    ratio: float
    ratios: tuple[float, ...]


def seconds_per_unit(side: Side, calls: int, clock: Clock) -> float:
    """Time of one slot of `calls` calls, divided by the units of work done in it."""
    if side.prepare is not None:
        side.prepare()
    gc.collect()
    now, call = CLOCKS[clock], side.call
    began = now()
    for _ in range(calls):
        call()
    return max(now() - began, 1) / 1e9 / (calls * side.units)


def calls_per_slot(side: Side, slot_seconds: float, clock: Clock) -> int:
    """How many calls fill a slot, at least one; also the warm-up of its side."""
    calls = 1
    while True:
        spent = seconds_per_unit(side, calls, clock) * calls * side.units
        if spent >= slot_seconds / 2:
            return max(1, round(calls * slot_seconds / spent))
        calls *= 2 if spent < slot_seconds / 100 else max(2, round(slot_seconds / spent / 2))


def compare(
    subject: Side,
    reference: Side,
    *,
    clock: Clock = "thread",
    rounds: int = ROUNDS_MIN,
    slot_seconds: float = SLOT_SECONDS,
) -> Comparison:
    """Alternate slots of both sides; which one goes first changes every round, so that drift cancels out."""
    if rounds < ROUNDS_MIN:
        raise ValueError(f"{rounds} rounds; a median needs at least {ROUNDS_MIN}")
    sides = (subject, reference)
    calls = [calls_per_slot(side, slot_seconds, clock) for side in sides]
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for index in (0, 1) if number % 2 == 0 else (1, 0):
            times[index].append(seconds_per_unit(sides[index], calls[index], clock))
    ratios = tuple(theirs / ours for ours, theirs in zip(*times, strict=True))
    ours, theirs = (statistics.median(column) for column in times)
    return Comparison(1 / ours, 1 / theirs, statistics.median(ratios), ratios)


def median_seconds(
    call: Callable[[], object],
    *,
    clock: Clock = "wall",
    rounds: int = ROUNDS_MIN,
    prepare: Callable[[], object] | None = None,
) -> float:
    """Median time of one call, for measures with an absolute goal; one unmeasured call warms up."""
    side = Side(call, 1, prepare)
    seconds_per_unit(side, 1, clock)
    return statistics.median(seconds_per_unit(side, 1, clock) for _ in range(rounds))


def child_cpu_seconds(arguments: Sequence[str]) -> float:
    """User and system CPU of one child process from its start to its end; raises if it fails."""
    child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    with child.stderr:
        errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, list(arguments), stderr=errors)
    return usage.ru_utime + usage.ru_stime


def processor_s() -> float:
    """Processor time of this process and of those that it has waited for, which a busy machine does not stretch."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)
