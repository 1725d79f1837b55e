"""A network of routers over links that lose, cut, and come back, with nodes that restart: all end with one picture."""

from __future__ import annotations

import random
from collections import deque

import pytest

from scapp.channels.errors import PeerError
from scapp.channels.routing.fees import Schedule, Stake
from scapp.channels.routing.gossip import ASK_MS
from scapp.channels.routing.messages import decode_message, encode_message
from scapp.channels.routing.own import LIFETIME_MS, HubTerms, OwnLedger
from scapp.channels.routing.router import Router
from scapp.channels.routing.statements import network_of
from scapp.channels.signing import Signer
from scapp.channels.types import Address

COIN = Address(bytes(20))
NETWORK = network_of(1, COIN)
START_MS, TICK_MS = 1_700_000_000_000, 500
KEYS = [Signer(bytes([number + 1]) * 32) for number in range(9)]
QUIET_MS = 2 * (ASK_MS + 256_000)  # every link asks at least once in that time, however its questions were placed


class Network:
    """Nodes with ledgers at random, all connected; everything is drawn from one seed."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self.now_ms = START_MS
        self.loss = 0.0
        self.pipes: dict[tuple[Address, Address], deque[bytes]] = {}
        self.refused: list[str] = []
        pairs = [(self.random.randrange(n), n) for n in range(1, len(KEYS))]
        pairs += [tuple(sorted(self.random.sample(range(len(KEYS)), 2))) for _ in KEYS]
        self.ledgers = {(KEYS[a].address, KEYS[b].address): [1_000, 1_000] for a, b in pairs}
        self.skew = {key.address: self.random.randrange(-60_000, 60_000) for key in KEYS}
        self.routers: dict[Address, Router] = {}
        for key in KEYS:
            self.restart(key)

    def restart(self, key: Signer) -> None:
        """A node that has forgotten everything: nothing of this is stored."""
        for link in [link for link in self.pipes if key.address in link]:
            self.cut(*link)
        terms = HubTerms(announce=True, schedules=(Schedule(COIN, key.address[0], 0),), duration_min_s=1)
        self.routers[key.address] = Router(key, NETWORK, terms)
        self.tell(key.address)
        for one, other in self.ledgers:
            if key.address in (one, other):
                self.connect(one, other)

    def tell(self, node: Address) -> None:
        """The node's ledgers as they stand."""
        mine = [OwnLedger(b, ((COIN, x, y),)) for (a, b), (x, y) in self.ledgers.items() if a == node]
        mine += [OwnLedger(a, ((COIN, y, x),)) for (a, b), (x, y) in self.ledgers.items() if b == node]
        self.routers[node].announce(mine, self.clock(node))

    def clock(self, node: Address) -> int:
        return self.now_ms + self.skew[node]

    def cut(self, one: Address, other: Address) -> None:
        """What was on its way is lost."""
        for link in ((one, other), (other, one)):
            if self.pipes.pop(link, None) is not None:
                self.routers[link[0]].on_link(link[1], False)

    def connect(self, one: Address, other: Address) -> None:
        for link in ((one, other), (other, one)):
            if link not in self.pipes and other in self.routers and one in self.routers:
                self.pipes[link] = deque()
                self.routers[link[0]].on_link(link[1], True)

    def connect_all(self) -> None:
        for one, other in self.ledgers:
            self.connect(one, other)

    def step(self) -> None:
        self.now_ms += TICK_MS
        for node, router in self.routers.items():
            for send in router.tick(self.clock(node)):
                if (node, send.peer) in self.pipes and self.random.random() >= self.loss:
                    self.pipes[node, send.peer].append(encode_message(send.message))
        for (sender, receiver), pipe in list(self.pipes.items()):
            for _ in range(self.random.randrange(4) if pipe else 0):
                if pipe:
                    self.deliver(sender, receiver, pipe.popleft())

    def deliver(self, sender: Address, receiver: Address, data: bytes) -> None:
        try:
            self.routers[receiver].on_message(sender, decode_message(data), self.clock(receiver))
        except PeerError as error:
            self.refused.append(str(error))

    def run(self, milliseconds: int) -> None:
        for _ in range(milliseconds // TICK_MS):
            self.step()

    def pay(self) -> None:
        """Balances move in a ledger."""
        pair = self.random.choice(list(self.ledgers))
        both = sum(self.ledgers[pair])
        self.ledgers[pair][0] = self.random.randrange(both + 1)
        self.ledgers[pair][1] = both - self.ledgers[pair][0]
        for node in pair:
            self.tell(node)

    def statements(self, node: Address) -> dict[Address, int]:
        return {entry.origin: entry.sequence for entry in self.routers[node]._table.known(Address(bytes(20)), 100)}


def pictures(network: Network) -> tuple[dict[Address, int], list[dict[Address, int]]]:
    """What each node says of itself, and what each node knows."""
    known = {node: network.statements(node) for node in network.routers}
    return {node: known[node][node] for node in known}, list(known.values())


def assert_one_picture(network: Network) -> None:
    """A renewal may be on its way right now, so there are ten seconds for it to arrive."""
    for _ in range(20):
        newest, known = pictures(network)
        if known == [newest] * len(known):
            return
        network.step()
    newest, known = pictures(network)
    assert known == [newest] * len(known)


@pytest.mark.parametrize("run", range(3))
def test_after_losses_cuts_and_restarts_everybody_knows_the_newest_of_everybody(seed, run):
    network = Network(f"{seed}/{run}")
    network.loss = 0.3
    for _ in range(40):
        network.run(network.random.randrange(60) * 1_000)
        what = network.random.randrange(4)
        if what == 0 and network.pipes:
            network.cut(*network.random.choice(list(network.pipes)))
        elif what == 1:
            network.restart(network.random.choice(KEYS))
        elif what == 2:
            network.connect_all()
        else:
            network.pay()
    network.loss = 0.0
    network.connect_all()
    network.run(QUIET_MS)
    assert_one_picture(network)


def test_both_sides_of_a_partition_go_on_and_agree_when_it_heals(seed):
    network = Network(seed)
    network.run(20_000)
    assert_one_picture(network)
    left = {key.address for key in KEYS[: len(KEYS) // 2]}
    for pair in list(network.ledgers):
        if len(left.intersection(pair)) == 1:
            network.cut(*pair)
    for _ in range(10):
        network.pay()
        network.run(60_000)
    network.connect_all()
    network.run(30_000)  # at once, not with the next questions
    assert_one_picture(network)


def test_who_is_gone_is_forgotten_by_all(seed):
    network = Network(seed)
    network.run(20_000)
    gone = KEYS[0].address
    for link in [link for link in network.pipes if gone in link]:
        network.cut(*link)
    del network.routers[gone]
    network.run(LIFETIME_MS + 2 * 60_000 + 60_000)
    assert all(gone not in network.statements(node) for node in network.routers)


def test_statements_stop_when_nothing_happens(seed):
    """Each passes each link once or twice, then only renewals and questions are left."""
    network = Network(seed)
    network.run(60_000)
    before = [message for pipe in network.pipes.values() for message in pipe]
    assert before == []
    sent = 0
    for _ in range(60):
        network.step()
        sent += sum(map(len, network.pipes.values()))
    assert sent == 0


def test_a_route_that_was_found_has_the_money_it_needs(seed):
    """Sure routes are checked against the real balances, which no announcement tells exactly."""
    network = Network(seed)
    for _ in range(5):
        network.pay()
    network.run(QUIET_MS)
    found = 0
    for me in network.routers:
        for to in network.routers:
            if me == to:
                continue
            stake = Stake(COIN, network.random.randrange(1, 400), network.random.randrange(100))
            routes = network.routers[me].routes(to, [stake], network.clock(me), challenge_duration_s=10)
            for route in (route for route in routes if route.sure):
                found += 1
                places = (me, *route.hubs, to)
                for place in range(len(places) - 1):
                    left, right = places[place], places[place + 1]
                    one, other = network.ledgers.get((left, right)) or network.ledgers[right, left][::-1]
                    assert one >= stake.left + sum(route.fees[place:])
                    assert other >= stake.right
    assert found
