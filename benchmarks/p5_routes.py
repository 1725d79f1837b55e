"""P5: three routes through a network of 10,000 announced ledgers, and what hearing an announcement costs."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.runner import Measure, Part, Result
from benchmarks.timing import median_seconds

NODES, LEDGERS, HEARD, QUESTIONS = 2_000, 10_000, 500, 50


def run() -> Result:
    """A network grown as networks grow: new nodes join those that have many ledgers already; rooms over a million fold,
    fees and amounts at random. Each question wants three routes, over three hubs at most, and then over five."""
    import random

    from scapp.channels.routing.fees import Schedule, Stake
    from scapp.channels.routing.paths import HUBS_SEARCHED_MAX, HUBS_USUAL, Query, View, find_routes
    from scapp.channels.routing.statements import Ledger, Room, Statement, least_room, network_of, sign_statement
    from scapp.channels.routing.table import Table
    from scapp.channels.signing import Signer
    from scapp.channels.types import Address

    draw, coin = random.Random(5), Address(bytes(20))
    nodes = [Address(number.to_bytes(20, "big")) for number in range(NODES)]
    rooms: dict[Address, dict[Address, tuple[int, int]]] = {node: {} for node in nodes}
    ends, made = [nodes[0]], 0

    def link(one: Address, other: Address) -> int:
        if one == other or other in rooms[one]:
            return 0
        for left, right in ((one, other), (other, one)):
            bits = draw.randint(20, 40)
            rooms[left][right] = (least_room(bits), (1 << bits) - 1)
        ends.extend((one, other))
        return 1

    for node in nodes[1:]:
        made += link(node, draw.choice(ends))
    while made < LEDGERS:
        made += link(draw.choice(nodes), draw.choice(ends))
    graph = {
        node: View((Schedule(coin, draw.randint(0, 1_000), draw.randint(0, 500)),), 1, 10**6, 10**6, {coin: links})
        for node, links in rooms.items()
    }

    def question(hubs_max: int) -> Callable[[], object]:
        me, to = draw.sample(nodes, 2)
        stakes = (Stake(coin, 10 ** draw.randint(5, 9), 0),)
        own = {coin: dict.fromkeys(rooms[me], (10**11, 10**11))}
        query = Query(me=me, to=to, stakes=stakes, challenge_duration_s=9, now_ms=1, fee_max=10**9, hubs_max=hubs_max)
        return lambda: find_routes(graph, own, query)

    def milliseconds(hubs_max: int) -> tuple[float, float]:
        """Of a middling question, and of the slowest of all; each is timed by itself."""
        asked = [question(hubs_max) for _ in range(QUESTIONS)]
        each = sorted(median_seconds(ask, clock="thread") for ask in asked)
        return 1e3 * each[len(each) // 2], 1e3 * each[-1]

    key, peer = Signer(b"\x01" * 32), Address(b"\xee" * 20)
    network = network_of(1, coin)
    signed = []
    for number in range(HEARD):
        origin = Signer((number + 2).to_bytes(32, "big"))
        ledgers = tuple(Ledger(other, (Room(coin, 30),)) for other in nodes[number : number + 2 * LEDGERS // NODES])
        statement = Statement(origin.address, 1, 10_000, 1, 2, (), ledgers)
        signed.append((sign_statement(statement, network, origin), statement))

    def hear() -> None:
        table = Table(key.address, network)
        for each, statement in signed:
            table.hear(peer, each, statement, 1)

    usual, usual_most = milliseconds(HUBS_USUAL)
    longest, longest_most = milliseconds(HUBS_SEARCHED_MAX)
    heard = 1e6 * median_seconds(hear, clock="thread") / HEARD
    parts = [
        Part(f"ms, {HUBS_USUAL} hubs at most", usual, 50, lower_is_better=True),
        Part(f"ms, {HUBS_SEARCHED_MAX} hubs at most", longest, 50, lower_is_better=True),
    ]
    notes = (
        f"the slowest of {QUESTIONS} questions: {usual_most:.1f} ms, and {longest_most:.1f} with the most hubs",
        f"an announcement of {2 * LEDGERS // NODES} ledgers, checked and kept: {heard:.0f} us",
    )
    return Result.of_parts(usual, "ms", parts, notes)


MEASURES = [Measure("P5", "three routes over 10,000 announced ledgers, under 50 ms", 1, run)]
