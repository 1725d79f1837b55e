"""A node with a twin, another process with its key, says so; one that runs alone never does."""

from __future__ import annotations

import pytest

from scapp.channels.transport.twins import (
    AGAIN_S,
    APART_MAX_S,
    IN_USE,
    LASTS_MIN_S,
    PEERS_MAX,
    REPLACED,
    TIMES_MIN,
    Twins,
)
from scapp.channels.types import Address

PEER, OTHER = Address(b"\x0a" * 20), Address(b"\x0b" * 20)
TOLD = f"closed by the peer: {IN_USE!r}"


def warnings(twins: Twins, times: list[float], ended: str = TOLD, peer: Address = PEER) -> list[float]:
    return [now_s for now_s in times if twins.suspected(peer, ended, now_s)]


@pytest.mark.parametrize("ended", [TOLD, f"closed by the peer: {REPLACED!r}"])
def test_who_is_turned_away_again_and_again_has_a_twin(ended: str) -> None:
    """However fast it happens, once an hour."""
    slow = [float(second) for second in range(0, 200, 20)]
    assert warnings(Twins(), slow, ended) == [slow[TIMES_MIN - 1]]
    fast = [second / 4 for second in range(300)]
    assert warnings(Twins(), fast, ended) == [LASTS_MIN_S]
    hours = [minute * 60.0 for minute in range(150)]
    assert warnings(Twins(), hours, ended) == [180.0, 180.0 + AGAIN_S, 180.0 + 2 * AGAIN_S]


def test_who_is_turned_away_now_and_then_has_none() -> None:
    assert not warnings(Twins(), [at * (APART_MAX_S + 1) for at in range(50)])


def test_any_other_end_of_a_link_begins_the_count_anew() -> None:
    twins = Twins()
    for round_ in range(10):
        start = round_ * 60.0
        assert not warnings(twins, [start, start + 20, start + 40])
        assert not warnings(twins, [start + 50], "the other end closed the connection")


def test_strangers_with_many_keys_take_no_memory() -> None:
    twins = Twins()
    for number in range(3 * PEERS_MAX):
        assert not twins.suspected(Address(number.to_bytes(20, "big")), TOLD, 0.0)
    assert len(twins._told) == PEERS_MAX


def test_what_one_peer_says_does_not_count_for_another() -> None:
    twins = Twins()
    assert not warnings(twins, [0, 20]) + warnings(twins, [30, 50], peer=OTHER)
