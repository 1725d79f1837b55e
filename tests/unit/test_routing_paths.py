"""Fees and routes: exact prices, and the best way beside trying every way on small networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scapp.channels.errors import LocalError
from scapp.channels.routing.fees import Schedule, Stake, price, quote
from scapp.channels.routing.paths import ALWAYS_FRESH, Query, Rooms, Route, View, find_routes
from scapp.channels.types import U256_MAX, Address

COIN, TOKEN = Address(bytes(20)), Address(b"\x70" * 20)
NODES = [Address(bytes([n]) * 20) for n in range(1, 8)]
ME, TO, *HUBS = NODES
NOW, DURATION = 1_000, 600
PLENTY = (10**6, 10**6)


def view(links: Mapping[Address, Rooms], *schedules: Schedule, **changes: int) -> View:
    terms = {"duration_min_s": 0, "duration_max_s": 10_000, "expires_ms": NOW + 100, **changes}
    return View(schedules, rooms=links, **terms)


def line(*nodes: Address, room: tuple[int, int] = PLENTY, ppm: int = 0, base: int = 1) -> dict[Address, View]:
    """Nodes in a row, each with the next."""
    links: dict[Address, dict[Address, tuple[int, int]]] = {node: {} for node in nodes}
    for left, right in pairwise(nodes):
        links[left][right] = links[right][left] = room
    return {node: view({COIN: links[node]}, Schedule(COIN, base, ppm)) for node in nodes}


USUAL = (Stake(COIN, 100, 0),)


def ask(graph, own, stakes=USUAL, **changes) -> list[Route]:
    usual = {"challenge_duration_s": DURATION, "now_ms": NOW, "fee_max": 10**9, "hubs_max": 3, "routes_max": 3}
    return find_routes(graph, own, Query(me=ME, to=TO, stakes=tuple(stakes), **{**usual, **changes}))


def own(*peers: Address, mine: int = 10**6, theirs: int = 10**6):
    return {COIN: dict.fromkeys(peers, (mine, theirs))}


# Prices


@given(st.integers(0, U256_MAX), st.integers(0, 2**200), st.integers(0, 10**6))
def test_a_price_is_exact_and_rounded_up(amount, base, ppm):
    assert price(Schedule(COIN, base, ppm), amount) == math.ceil(base + Fraction(amount * ppm, 10**6))


@pytest.mark.parametrize("amount", [-1, U256_MAX + 1])
def test_a_price_of_no_amount_is_refused(amount):
    with pytest.raises(LocalError, match=str(amount)):
        price(Schedule(COIN, 1, 1), amount)


def test_a_quote_covers_what_both_parties_lock():
    assert quote([Schedule(COIN, 5, 100_000)], [Stake(COIN, 70, 31)]) == 5 + 11


def test_a_hub_forwards_only_assets_and_amounts_of_its_schedule():
    coin = Schedule(COIN, 1, 0, least=10, most=20)
    assert [quote([coin], [Stake(COIN, amount, 0)]) for amount in (9, 10, 20, 21)] == [None, 1, 1, None]
    assert quote([coin], [Stake(TOKEN, 15, 0)]) is None
    assert quote([coin], []) is None


def test_a_dear_asset_does_not_hide_behind_a_cheap_one():
    """A fee is paid in the first asset; a great stake in another must not pass for nothing."""
    coin, token = Schedule(COIN, 1, 10), Schedule(TOKEN, 0, 10)
    both = [Stake(COIN, 1, 0), Stake(TOKEN, 10**9, 0)]
    assert quote([coin, token], both) is None
    assert quote([coin, Schedule(TOKEN, 0, 0)], both) == 2


# Routes


def test_an_own_ledger_needs_no_hub_and_no_announcement():
    assert ask({}, own(TO)) == [Route((), (), True, ALWAYS_FRESH)]


def test_own_balances_count_to_the_last_unit():
    assert ask({}, own(TO, mine=100)) != []
    assert ask({}, own(TO, mine=99)) == []
    assert ask({}, own(TO, theirs=7), [Stake(COIN, 1, 8)]) == []


def test_a_ledger_that_only_one_end_announces_does_not_count():
    graph = line(ME, HUBS[0], TO)
    assert [route.hubs for route in ask(graph, own(HUBS[0]))] == [(HUBS[0],)]
    for liar, silent in ((HUBS[0], TO), (TO, HUBS[0])):
        said = view({COIN: {ME: PLENTY}}, Schedule(COIN, 1, 0))
        assert ask({**graph, silent: said}, own(HUBS[0])) == [], f"0x{liar.hex()} alone announces it"


def test_each_ledger_on_the_way_has_room_for_the_fees_to_its_right():
    """The payer's ledger carries both fees, the next one the second hub's."""
    first, second = HUBS[:2]
    graph = line(ME, first, second, TO, base=10)
    assert ask(graph, own(first, mine=120))[0].fees == (10, 10)
    assert ask(graph, own(first, mine=119)) == []
    tight = {**graph, first: view({COIN: {second: (110, 110)}}, Schedule(COIN, 10, 0))}
    assert ask(tight, own(first)) != []
    tight = {**graph, first: view({COIN: {second: (109, 109)}}, Schedule(COIN, 10, 0))}
    assert ask(tight, own(first)) == []


def test_the_right_party_of_each_ledger_has_its_part():
    hub = HUBS[0]
    graph = line(ME, hub, TO)
    poor = {**graph, TO: view({COIN: {hub: (4, 4)}})}
    assert ask(poor, own(hub), [Stake(COIN, 1, 4)]) != []
    assert ask(poor, own(hub), [Stake(COIN, 1, 5)]) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_ms": NOW},
        {"duration_min_s": DURATION + 1},
        {"duration_max_s": DURATION - 1},
    ],
)
def test_hubs_and_ends_that_are_stale_or_take_no_such_duration_are_left_out(changes):
    hub = HUBS[0]
    graph = line(ME, hub, TO)
    for node in (hub, TO):
        changed = view(graph[node].rooms, *graph[node].schedules, **changes)
        assert ask({**graph, node: changed}, own(hub)) == []


def test_a_node_without_a_schedule_is_reached_and_forwards_for_nobody():
    graph = line(ME, HUBS[0], TO)
    assert ask({**graph, HUBS[0]: view(graph[HUBS[0]].rooms)}, own(HUBS[0])) == []
    assert ask({**graph, TO: view(graph[TO].rooms)}, own(HUBS[0])) != []


def test_coarse_rooms_are_hoped_for_after_those_that_are_sure():
    sure, maybe = HUBS[:2]
    graph = {
        sure: view({COIN: {TO: (128, 255)}}, Schedule(COIN, 9, 0)),
        maybe: view({COIN: {TO: (64, 127)}}, Schedule(COIN, 1, 0)),
        TO: view({COIN: {sure: PLENTY, maybe: PLENTY}}),
    }
    found = ask(graph, own(sure, maybe))
    assert [(route.hubs, route.sure) for route in found] == [((sure,), True), ((maybe,), False)]


def test_routes_end_at_the_fee_and_the_number_of_hubs_that_are_allowed():
    graph = line(ME, *HUBS[:2], TO, base=10)
    assert ask(graph, own(HUBS[0]), fee_max=20) != []
    assert ask(graph, own(HUBS[0]), fee_max=19) == []
    assert ask(graph, own(HUBS[0]), hubs_max=1) == []


def test_a_dear_short_way_is_kept_where_the_cheap_one_has_too_many_hubs():
    """The last hub before the fork hears of the cheap way first; over it, six hubs would be needed."""
    *lead, dear, cheap, cheaper = [Address(bytes([n]) * 20) for n in range(10, 17)]
    graph = line(ME, *lead, dear, TO, base=0)
    fork = lead[-1]
    around = line(fork, cheap, cheaper, TO, base=0)
    graph[dear] = view(graph[dear].rooms, Schedule(COIN, 9, 0))
    for node in (fork, TO):
        both = {**graph[node].rooms[COIN], **around[node].rooms[COIN]}
        graph[node] = view({COIN: both}, Schedule(COIN, 0, 0))
    graph.update({cheap: around[cheap], cheaper: around[cheaper]})
    assert [(route.hubs, route.fee) for route in ask(graph, own(lead[0]), hubs_max=5)] == [((*lead, dear), 9)]


def test_among_equal_fees_fewer_hubs_win_then_fresher_ones():
    a, b, c, d = HUBS[:4]
    graph = {
        a: view({COIN: {b: PLENTY}}, Schedule(COIN, 0, 0)),
        b: view({COIN: {a: PLENTY, TO: PLENTY}}, Schedule(COIN, 2, 0)),
        c: view({COIN: {TO: PLENTY}}, Schedule(COIN, 2, 0), expires_ms=NOW + 50),
        d: view({COIN: {TO: PLENTY}}, Schedule(COIN, 2, 0), expires_ms=NOW + 60),
        TO: view({COIN: {b: PLENTY, c: PLENTY, d: PLENTY}}),
    }
    assert [route.hubs for route in ask(graph, own(a, c, d))] == [(d,), (c,), (a, b)]


def test_alternatives_go_around_each_hub_that_can_be_gone_around():
    """All ways end with the same hub; the others still differ."""
    a, b, last = HUBS[:3]
    graph = {
        a: view({COIN: {last: PLENTY}}, Schedule(COIN, 1, 0)),
        b: view({COIN: {last: PLENTY}}, Schedule(COIN, 2, 0)),
        last: view({COIN: {a: PLENTY, b: PLENTY, TO: PLENTY}}, Schedule(COIN, 1, 0)),
        TO: view({COIN: {last: PLENTY}}),
    }
    assert [route.hubs for route in ask(graph, own(a, b))] == [(a, last), (b, last)]


def test_several_assets_must_all_fit():
    hub = HUBS[0]
    rooms = {COIN: {TO: PLENTY, ME: PLENTY}, TOKEN: {TO: (50, 50), ME: PLENTY}}
    graph = {
        hub: view(rooms, Schedule(COIN, 1, 0), Schedule(TOKEN, 0, 0)),
        TO: view({COIN: {hub: PLENTY}, TOKEN: {hub: (7, 7)}}),
    }
    mine = {COIN: {hub: PLENTY}, TOKEN: {hub: (60, 60)}}
    for left, right, fits in ((50, 7, True), (51, 7, False), (50, 8, False)):
        assert bool(ask(graph, mine, [Stake(COIN, 9, 9), Stake(TOKEN, left, right)])) == fits


# Beside trying everything

SMALL = st.integers(0, 40)
ROOMS = st.integers(0, 6).map(lambda bits: ((1 << bits) >> 1, (1 << bits) - 1))


@st.composite
def networks(draw):
    """Up to seven nodes; few fees and rooms, so that ties and shortages happen."""
    nodes = NODES[: draw(st.integers(3, len(NODES)))]
    links: dict[Address, dict[Address, tuple[int, int]]] = {node: {} for node in nodes}
    balances = {}
    for place, one in enumerate(nodes):
        for other in nodes[place + 1 :]:
            kind = draw(st.sampled_from(["none", "none", "one end", "both", "both", "both"]))
            if kind != "none":
                links[one][other] = draw(ROOMS)
            if kind == "both":
                links[other][one] = draw(ROOMS)
            if kind == "both" and one == ME:
                balances[other] = (draw(SMALL), draw(SMALL))
    graph = {}
    for node in nodes[1:]:
        terms = Schedule(COIN, draw(st.integers(0, 3)), draw(st.sampled_from([0, 50_000, 300_000])), draw(st.just(0)))
        schedules = (terms,) if draw(st.integers(0, 5)) else ()
        expires = draw(st.sampled_from([NOW, NOW + 1, NOW + 2, NOW + 3, NOW + 3]))
        if draw(st.integers(0, 9)):
            graph[node] = view({COIN: links[node]}, *schedules, expires_ms=expires)
    return graph, {COIN: balances}


def tried(graph, balances, stake: Stake, hubs, end: int, fee_max: int) -> Route | None:
    """The route over these hubs, worked out from the payee's side without any search."""
    if not hubs:
        mine, theirs = balances.get(TO, (-1, -1))
        return Route((), (), True, ALWAYS_FRESH) if mine >= stake.left and theirs >= stake.right else None
    views = [graph.get(hub) for hub in (*hubs, TO)]
    if any(v is None or v.expires_ms <= NOW for v in views) or any(not v.schedules for v in views[:-1]):
        return None
    fees = tuple(math.ceil(v.schedules[0].base + Fraction(stake.total * v.schedules[0].ppm, 10**6)) for v in views[:-1])
    if sum(fees) > fee_max:
        return None
    for place, (left, right) in enumerate(pairwise((ME, *hubs, TO))):
        if left == ME:
            mine, theirs = balances.get(right, (-1, -1))
        else:
            mine = graph[left].rooms[COIN].get(right, (-1, -1))[end]
            theirs = graph[right].rooms[COIN].get(left, (-1, -1))[end]
        if mine < stake.left + sum(fees[place:]) or theirs < stake.right:
            return None
    return Route(hubs, fees, end == 0, min(v.expires_ms for v in views))


def rank(route: Route):
    return not route.sure, route.fee, len(route.hubs), -route.expires_ms


@settings(max_examples=300)
@given(networks(), st.integers(0, 20), st.integers(0, 20), st.sampled_from([0, 3, 5, 100]), st.integers(0, 4))
def test_routes_are_the_best_of_all_there_are(network, left, right, fee_max, hubs_max):
    graph, balances = network
    stake = Stake(COIN, left, right)
    everything: dict[tuple[Address, ...], Route] = {}
    for number in range(hubs_max + 1):
        for hubs in permutations([node for node in graph if node != TO], number):
            possible = (tried(graph, balances[COIN], stake, hubs, end, fee_max) for end in (0, 1))
            route = next(filter(None, possible), None)
            if route is not None:
                everything[hubs] = route

    found = ask(graph, balances, [stake], fee_max=fee_max, hubs_max=hubs_max)
    assert all(everything.get(route.hubs) == route for route in found), "each is possible, and told as it is"
    assert len({route.hubs for route in found}) == len(found)
    assert found == sorted(found, key=rank)
    assert bool(found) == bool(everything)
    if found:
        assert rank(found[0]) == min(map(rank, everything.values()))
        apart = [r for r in everything.values() if set(r.hubs).isdisjoint(found[0].hubs) and r.hubs != found[0].hubs]
        second = min(apart, key=rank, default=None)
        if second is not None and (second.sure or len(found) < 3):  # what is sure goes before what is apart
            assert any(set(r.hubs).isdisjoint(found[0].hubs) and rank(r) == rank(second) for r in found[1:])
