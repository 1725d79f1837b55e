"""A node with a twin, another process with its key, says so; one that runs alone never does."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from scapp.channels.transport.twins import (
    AGAIN_S,
    APART_MAX_S,
    IN_USE,
    LASTS_MIN_S,
    REPLACED,
    TIMES_MIN,
    Twins,
)
from scapp.channels.types import Address

PEER, OTHER = Address(b"\x0a" * 20), Address(b"\x0b" * 20)
TOLD = f"closed by the peer: {IN_USE!r}"


def made() -> Twins:
    return Twins(Counter())


def warnings(
    twins: Twins, times: list[float], ended: str = TOLD, peer: Address = PEER, *, known: bool = True
) -> list[float]:
    """When it warned, of links that ended so at these times."""
    counters, found = twins._counters, []
    for now_s in times:
        before = counters["twins_suspected"]
        twins.link_ended(peer, ended, now_s, known=known)
        found += [now_s] * (counters["twins_suspected"] - before)
    return found


@pytest.mark.parametrize("ended", [TOLD, f"closed by the peer: {REPLACED!r}"])
def test_who_is_turned_away_again_and_again_has_a_twin(ended: str) -> None:
    """However fast it happens, once an hour."""
    slow = [float(second) for second in range(0, 200, 20)]
    assert warnings(made(), slow, ended) == [slow[TIMES_MIN - 1]]
    fast = [second / 4 for second in range(300)]
    assert warnings(made(), fast, ended) == [LASTS_MIN_S]
    hours = [minute * 60.0 for minute in range(150)]
    assert warnings(made(), hours, ended) == [180.0, 180.0 + AGAIN_S, 180.0 + 2 * AGAIN_S]


def test_who_is_turned_away_now_and_then_has_none() -> None:
    assert not warnings(made(), [at * (APART_MAX_S + 1) for at in range(50)])


def test_any_other_end_of_a_link_begins_the_count_anew() -> None:
    twins = made()
    for round_ in range(10):
        start = round_ * 60.0
        assert not warnings(twins, [start, start + 20, start + 40])
        assert not warnings(twins, [start + 50], "the other end closed the connection")


def test_what_strangers_say_warns_nobody_and_takes_no_memory() -> None:
    """Anybody can have any number of keys, and end links with any reason."""
    twins = made()
    for number in range(100):
        peer = Address(number.to_bytes(20, "big"))
        assert not warnings(twins, [0, 10, 20, 30, 40], peer=peer, known=False)
    assert not twins._told
    assert warnings(twins, [0, 10, 20, 30, 40]) == [30]


def test_the_warning_names_the_peer_in_a_field(caplog: pytest.LogCaptureFixture) -> None:
    assert warnings(made(), [0, 10, 20, 30])
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.__dict__["peer"] == "0x" + PEER.hex()


def test_what_one_peer_says_does_not_count_for_another() -> None:
    twins = made()
    assert not warnings(twins, [0, 20]) + warnings(twins, [30, 50], peer=OTHER)
