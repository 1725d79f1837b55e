"""Another try: which route comes next, what is told of those that failed, and how failures are forgotten."""

from __future__ import annotations

from scapp.channels.routing.attempts import HALF_LIFE_MS, HUBS_REMEMBERED_MAX, Attempts, Failures
from scapp.channels.routing.paths import Route
from scapp.channels.types import Address

A, B, C, D = (Address(letter * 20) for letter in (b"\xaa", b"\xbb", b"\xcc", b"\xdd"))
NOW = 1_000


def over(*hubs: Address) -> Route:
    return Route(hubs, (1,) * len(hubs), True, NOW)


def test_the_best_route_is_tried_first_and_never_twice():
    routes = [over(A), over(B)]
    attempts = Attempts()
    assert attempts.next(routes) == over(A)
    attempts = attempts.failed(over(A), "refused")
    assert attempts.next(routes) == over(B)
    assert attempts.failed(over(B), "refused").next(routes) is None


def test_a_hub_that_is_known_to_have_failed_is_in_no_further_route():
    attempts = Attempts().failed(over(A, B), "funds", B)
    assert attempts.avoid == {B}
    assert attempts.next([over(B), over(C, B), over(A, C)]) == over(A, C)


def test_after_a_failure_of_unknown_hubs_routes_with_other_hubs_go_first():
    attempts = Attempts().failed(over(A, B), "silent")
    assert attempts.avoid == frozenset()
    assert attempts.next([over(A), over(A, B), over(C, B), over(D)]) == over(D)
    assert attempts.next([over(A), over(B)]) == over(A), "better than none"


def test_after_so_many_tries_nothing_is_left():
    attempts = Attempts(tries_max=2).failed(over(A), "refused", A).failed(over(B), "silent")
    assert attempts.next([over(C)]) is None


def test_a_failed_own_ledger_leaves_the_hubs():
    attempts = Attempts().failed(over(), "funds")
    assert attempts.next([over(), over(A)]) == over(A)


def test_people_are_told_what_was_tried_and_why_it_failed():
    assert Attempts().account == "no route was tried"
    attempts = Attempts().failed(over(), "insufficient funds").failed(over(A, B), "a fee of 3", A)
    hubs = f"0x{'aa' * 20}, 0x{'bb' * 20}"
    assert attempts.account == f"over this node's ledger: insufficient funds; over {hubs}: a fee of 3 at 0x{'aa' * 20}"


def test_a_failing_hub_is_avoided_for_ten_minutes():
    failures = Failures()
    failures.failed(over(A, B), NOW, B)
    assert failures.avoided(NOW) == {B}
    assert failures.avoided(NOW + 2 * HALF_LIFE_MS - 1) == {B}
    assert failures.avoided(NOW + 2 * HALF_LIFE_MS) == frozenset()


def test_many_failures_are_remembered_longer_and_not_for_ever():
    failures = Failures()
    for _ in range(1_000):
        failures.failed(over(A), NOW, A)
    assert failures.avoided(NOW + 7 * HALF_LIFE_MS) == {A}
    assert failures.avoided(NOW + 8 * HALF_LIFE_MS) == frozenset()


def test_each_hub_of_a_route_is_a_little_suspect():
    """Three hubs that failed together once are not avoided, but the one that was there twice is."""
    failures = Failures()
    failures.failed(over(A, B, C), NOW)
    assert failures.avoided(NOW) == frozenset()
    failures.failed(over(C, D), NOW)
    assert failures.avoided(NOW) == {C, D}


def test_a_hub_that_stands_in_a_channel_is_forgiven():
    failures = Failures()
    failures.failed(over(A), NOW)
    failures.succeeded(over(B, A))
    assert failures.avoided(NOW) == frozenset()


def test_a_clock_that_is_set_back_forgets_nothing_and_breaks_nothing():
    failures = Failures()
    failures.failed(over(A), NOW)
    failures.failed(over(A), NOW - 1_000_000)
    assert failures.avoided(NOW - 2_000_000) == {A}


def test_only_so_many_hubs_are_remembered():
    failures = Failures()
    hubs = [Address(number.to_bytes(20, "big")) for number in range(HUBS_REMEMBERED_MAX + 10)]
    for hub in hubs:
        failures.failed(over(hub), NOW)
    assert failures.avoided(NOW) == frozenset(hubs[10:])
