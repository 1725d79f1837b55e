"""Whole lives of ledgers and payment channels: many at once, killed nodes, a bad network, every order of closing.

Node processes over a real EVM. What is drawn follows from the run's seed.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from scapp.runtime.cli.amounts import COIN
from scapp.runtime.client import Client, ClientError, NodeUnreachable
from scapp.runtime.devchain import Chain
from scapp.runtime.ledger_documents import VirtualView
from tests.support.bad_network import FAULTS, bad_network
from tests.support.funded_cluster import FundedCluster, funded_cluster, quick_chain
from tests.support.ledger_cluster import DEPOSIT, restart, sent, settle, shown, wait_ledger, wait_virtual

WINDOW_S = 0.08  # within which what takes no transaction is killed: about as long as it takes
WAY = (("alice", "bob"), ("bob", "carol"), ("carol", "dave"))
pytestmark = pytest.mark.slow
T = TypeVar("T")


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with quick_chain() as found:
        yield found


def at_once(*calls: Callable[[], T]) -> list[T]:
    """What all of these calls, made side by side, return; raises what one of them raises."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [each.result() for each in [pool.submit(call) for call in calls]]


def own_client(nodes: FundedCluster, name: str) -> Client:
    """For a thread of its own: a client is one connection."""
    return nodes.nodes[name].client(timeout_s=60)


def open_ledgers(nodes: FundedCluster, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Running ledgers between these nodes, opened side by side."""

    def opened(left: str, right: str) -> str:
        with own_client(nodes, left) as client:
            return client.open_ledger(
                right, {COIN: DEPOSIT}, {COIN: DEPOSIT}, challenge_duration_s=3_600, wait_s=60
            ).channel_id

    found = at_once(*(lambda pair=pair: opened(*pair) for pair in pairs))
    for ledger, pair in zip(found, pairs, strict=True):
        for name in pair:
            wait_ledger(nodes, name, ledger, lambda now: now.phase == "running")
    return found


def balances(nodes: FundedCluster) -> dict[str, int]:
    return {who: nodes.balance(nodes.addresses[who]) for who in nodes.names}


def gained(nodes: FundedCluster, before: dict[str, int]) -> dict[str, int]:
    return {who: balance - before[who] for who, balance in balances(nodes).items()}


def free(nodes: FundedCluster, name: str, ledger: str) -> tuple[int, int, int]:
    """What the node has in the ledger, what the other has, and what is locked."""
    (asset,) = nodes.client(name).ledger(ledger).assets
    return int(asset.mine), int(asset.theirs), int(asset.locked)


def test_five_channels_at_once_over_two_hubs(chain: Chain, seed: str) -> None:
    """Five payment channels are opened side by side over the same three ledgers and used side by side; all nodes die
    at once and come back; either end closes them in a drawn order. Ledgers and payouts are exact, and the chain hears
    nothing in between."""
    rng = random.Random(seed)
    print(f"seed {seed}")
    fees = [[rng.randrange(50), rng.randrange(50)] for _ in range(5)]
    payments = [[rng.randrange(1, 1_000) for _ in range(5)] for _ in range(5)]
    with funded_cluster(4, chain) as nodes:
        before = balances(nodes)
        ledgers = open_ledgers(nodes, WAY)
        transactions = sent(nodes)
        channels = at_once(*(lambda fee=fee: _opened_to_dave(nodes, fee) for fee in fees))
        assert len(set(channels)) == 5
        locked = 5 * 5_000
        assert free(nodes, "alice", ledgers[0]) == (DEPOSIT - locked - sum(map(sum, fees)),
                                                    DEPOSIT + sum(map(sum, fees)), locked)  # fmt: skip
        at_once(*(lambda c=c, p=p: _paid(nodes, c, p) for c, p in zip(channels, payments, strict=True)))
        for name in nodes.names:
            nodes.kill_node(name)
        nodes.start()
        order = rng.sample(range(5), 5)
        for number in order:
            total = str(sum(payments[number]))
            assert nodes.client("alice").virtual(channels[number]).paid == total
            end = rng.choice(("alice", "dave"))
            assert nodes.client(end).close_virtual(channels[number], wait_s=30).phase == "released", shown(nodes)
        for channel in channels:
            wait_virtual(nodes, nodes.names, channel, lambda now: now.phase == "released")
        paid, first, second = sum(map(sum, payments)), sum(f[0] for f in fees), sum(f[1] for f in fees)
        moved = (paid + first + second, paid + second, paid)
        for ledger, (left, right), amount in zip(ledgers, WAY, moved, strict=True):
            assert free(nodes, left, ledger) == (DEPOSIT - amount, DEPOSIT + amount, 0)
            assert free(nodes, right, ledger) == (DEPOSIT + amount, DEPOSIT - amount, 0)
        assert sent(nodes) == transactions
        for ledger, pair in zip(ledgers, WAY, strict=True):
            settle(nodes, ledger, *pair)
        assert gained(nodes, before) == {
            "alice": DEPOSIT - paid - first - second, "bob": 2 * DEPOSIT + first,
            "carol": 2 * DEPOSIT + second, "dave": DEPOSIT + paid,
        }  # fmt: skip
        assert all(nodes.held(ledger) == 0 for ledger in ledgers)


def _opened_to_dave(nodes: FundedCluster, fees: list[int]) -> str:
    with own_client(nodes, "alice") as client:
        found = client.open_payments("dave", COIN, 5_000, via=["bob", "carol"], fees=fees, wait_s=40)
        assert found.phase == "running", found
        return found.channel_id


def _paid(nodes: FundedCluster, channel: str, amounts: list[int]) -> None:
    with own_client(nodes, "alice") as client:
        for amount in amounts:
            assert client.pay(channel, amount, wait_s=30).seen


def test_everybody_killed_at_a_drawn_moment_of_each_phase(chain: Chain, seed: str) -> None:
    """Payer, hub and payee die while ledgers open, while a channel opens, is paid in, and closes, and while ledgers
    close. All of it ends as if nobody had; what a payer was told is paid is paid."""
    rng = random.Random(seed)
    print(f"seed {seed}")
    with funded_cluster(3, chain) as nodes:
        before = balances(nodes)
        moments = {name: rng.uniform(0, 2.0) for name in nodes.names}
        pairs = WAY[:2]
        ledgers = [nodes.client(left).open_ledger(right, {COIN: DEPOSIT}, {COIN: DEPOSIT}).channel_id
                   for left, right in pairs]  # fmt: skip
        _killed_all(nodes, moments)
        for ledger, pair in zip(ledgers, pairs, strict=True):
            for name in pair:
                wait_ledger(nodes, name, ledger, lambda now: now.phase == "running")
        transactions = sent(nodes)
        total = sum(_life_with_kills(nodes, victim, rng) for victim in rng.sample(nodes.names, 3))
        for ledger, (left, right) in zip(ledgers, pairs, strict=True):
            assert free(nodes, left, ledger)[2] == free(nodes, right, ledger)[2] == 0
        assert sent(nodes) == transactions
        for ledger, (left, _) in zip(ledgers, pairs, strict=True):
            nodes.client(left).close_ledger(ledger)
        _killed_all(nodes, {name: rng.uniform(0, 2.0) for name in nodes.names})
        for ledger, pair in zip(ledgers, pairs, strict=True):
            for name in pair:
                wait_ledger(nodes, name, ledger, lambda now: now.phase == "settled")
        assert gained(nodes, before) == {
            "alice": DEPOSIT - total - 3 * 7, "bob": 2 * DEPOSIT + 3 * 7, "carol": DEPOSIT + total,
        }  # fmt: skip


def _killed_all(nodes: FundedCluster, moments: dict[str, float]) -> None:
    """Kill and restart every node at its own moment, in seconds from now."""
    print("killed at", moments)

    def life(name: str) -> None:
        time.sleep(moments[name])
        restart(nodes, name)

    at_once(*(lambda name=name: life(name) for name in moments))


def _killed_during(
    nodes: FundedCluster, victim: str, moment: float, call: Callable[[], object], gone: threading.Event | None = None
) -> None:
    """Kill and restart the victim so many seconds after the call has begun; its node may be the one that dies. `gone`
    is set between the two."""
    failed: list[Exception] = []

    def calling() -> None:
        try:
            call()
        except NodeUnreachable:
            if victim == "bob":  # whom nobody asks here
                raise
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=calling)
    thread.start()
    time.sleep(moment)
    nodes.kill_node(victim)
    if gone is not None:
        gone.set()
    nodes.start(victim)
    thread.join()
    print(f"{victim} killed {moment * 1000:.0f} ms after the beginning")
    assert not failed, failed


def _life_with_kills(nodes: FundedCluster, victim: str, rng: random.Random) -> int:
    """A payment channel from Alice to Carol, in each phase of which the victim dies; what was paid."""

    def opening() -> None:
        with own_client(nodes, "alice") as client:
            client.open_payments("carol", COIN, 1_000, via=["bob"], fees=[7])

    channel = _again_until(
        lambda until: _killed_during(nodes, victim, rng.uniform(0, until), opening), lambda: _standing(nodes, "alice")
    ).channel_id
    wait_virtual(nodes, nodes.names, channel, lambda now: now.phase == "running")
    told: list[int] = []
    begun: list[int] = []
    gone = threading.Event()

    def paying() -> None:
        with own_client(nodes, "alice") as client:
            for amount in itertools.repeat(1, 1_000):  # until the victim dies, so that the last one may be lost
                if gone.is_set():
                    return
                begun.append(amount)
                client.pay(channel, amount)
                told.append(amount)

    _killed_during(nodes, victim, rng.uniform(0, WINDOW_S), paying, gone)
    paid = int(nodes.client("alice").virtual(channel).paid)
    assert paid in (sum(told), sum(begun))
    wait_virtual(nodes, ["carol"], channel, lambda now: now.paid == str(paid))

    def closing() -> None:
        with own_client(nodes, "carol") as client:
            client.close_virtual(channel)

    def closed() -> bool | None:
        return nodes.client("carol").virtual(channel).phase != "running" or None

    _again_until(lambda until: _killed_during(nodes, victim, rng.uniform(0, until), closing), closed)
    wait_virtual(nodes, nodes.names, channel, lambda now: now.phase == "released")
    return paid


def _standing(nodes: FundedCluster, name: str) -> VirtualView | None:
    found = [each for each in nodes.client(name).virtuals() if each.phase not in ("released", "rejected", "failed")]
    assert len(found) <= 1
    return found[0] if found else None


def _again_until(do: Callable[[float], None], done: Callable[[], T | None]) -> T:
    """A node that was killed before it had stored a wish has to be told again; each time it may live longer."""
    for attempt in range(8):
        do(WINDOW_S * 2**attempt)
        if (found := done()) is not None:
            return found
    raise AssertionError("killed eight times before anything was stored")


def test_everything_completes_over_a_bad_network(chain: Chain, seed: str) -> None:
    """Connections are reset, held up and stalled at drawn moments from the first ledger to the last payout."""
    rng = random.Random(seed)
    print(f"seed {seed}")
    with (
        funded_cluster(3, chain, introduced=False) as nodes,
        bad_network(nodes, random.Random(rng.random())) as network,
    ):
        before = balances(nodes)
        network.turn_bad()
        pairs = WAY[:2]
        ledgers = open_ledgers(nodes, pairs)
        transactions = sent(nodes)
        total = 0
        for _ in range(4):
            opened = nodes.client("alice").open_payments("carol", COIN, 1_000, via=["bob"], fees=[7])
            channel = opened.channel_id
            wait_virtual(nodes, nodes.names, channel, lambda now: now.phase == "running")
            amounts = [rng.randrange(1, 100) for _ in range(5)]
            for amount in amounts:
                nodes.client("alice").pay(channel, amount)
                time.sleep(rng.uniform(0, 0.2))
            told = str(sum(amounts))
            wait_virtual(nodes, ["carol"], channel, lambda now, told=told: now.paid == told)  # type: ignore[misc]
            nodes.client(rng.choice(nodes.names)).close_virtual(channel)
            wait_virtual(nodes, nodes.names, channel, lambda now: now.phase == "released")
            total += sum(amounts)
        assert sent(nodes) == transactions
        for ledger, pair in zip(ledgers, pairs, strict=True):
            settle(nodes, ledger, *pair)
        print(dict(network.faults), network.passed)
        assert min(network.faults[kind] for kind in FAULTS) >= 5
        assert network.passed > 10_000
        assert gained(nodes, before) == {
            "alice": DEPOSIT - total - 28, "bob": 2 * DEPOSIT + 28, "carol": DEPOSIT + total,
        }  # fmt: skip


def test_channels_are_closed_by_anybody_and_by_all_at_once(chain: Chain) -> None:
    """By both ends, by the hub, by everybody; no ledger is closed before the last of them. Then both parties close
    both ledgers at once."""
    with funded_cluster(3, chain) as nodes:
        before = balances(nodes)
        pairs = WAY[:2]
        ledgers = open_ledgers(nodes, pairs)
        transactions = sent(nodes)
        for closers in (("alice", "carol"), ("bob",), ("carol", "bob", "alice")):
            opened = nodes.client("alice").open_payments("carol", COIN, 1_000, via=["bob"], fees=[7], wait_s=30)
            channel = opened.channel_id
            nodes.client("alice").pay(channel, 100)
            for ledger, pair in zip(ledgers, pairs, strict=True):
                for name in pair:
                    with pytest.raises(ClientError, match="close those first"):
                        nodes.client(name).close_ledger(ledger)
            at_once(*(lambda who=who, of=channel: nodes.client(who).close_virtual(of, wait_s=30) for who in closers))
            wait_virtual(nodes, nodes.names, channel, lambda now: now.phase == "released")
            for name in nodes.names:
                with pytest.raises(ClientError, match="has ended"):
                    nodes.client(name).close_virtual(channel)
            with pytest.raises(ClientError):
                nodes.client("alice").pay(channel, 1)
        assert sent(nodes) == transactions
        calls = [(name, ledger) for ledger, pair in zip(ledgers, pairs, strict=True) for name in pair]
        at_once(*(lambda call=call: _closed(nodes, *call) for call in calls))
        for name, ledger in calls:
            wait_ledger(nodes, name, ledger, lambda now: now.phase == "settled")
        assert gained(nodes, before) == {
            "alice": DEPOSIT - 300 - 21, "bob": 2 * DEPOSIT + 21, "carol": DEPOSIT + 300,
        }  # fmt: skip


def _closed(nodes: FundedCluster, name: str, ledger: str) -> None:
    """The other party may have closed it by the time that this one asks."""
    with own_client(nodes, name) as client:
        _close_unless(client, ledger, "cannot be closed")


def test_a_ledger_is_closed_while_a_channel_opens_over_it(chain: Chain, seed: str) -> None:
    """At a drawn moment, by a drawn party: the close is refused, or waits for the channel, or the channel fails. Either
    way all is paid out, and a channel that did not run has cost nothing."""
    rng = random.Random(seed)
    print(f"seed {seed}")
    pairs = WAY[:2]
    with funded_cluster(3, chain, more="\n[payments]\nfunding_timeout_s = 3\n") as nodes:
        for which in rng.sample((0, 1), 2):
            before = balances(nodes)
            ledgers = open_ledgers(nodes, pairs)
            closer, moment = rng.choice(pairs[which]), rng.uniform(0, 0.04)

            def opening() -> VirtualView:
                with own_client(nodes, "alice") as client:
                    return client.open_payments("carol", COIN, 1_000, via=["bob"], fees=[7], wait_s=40)

            def closing(who: str = closer, ledger: str = ledgers[which], after: float = moment) -> None:
                time.sleep(after)
                with own_client(nodes, who) as client:
                    _close_unless(client, ledger, "close those first")

            with ThreadPoolExecutor(1) as pool:
                opened = pool.submit(opening)
                closing()
                phase, channel = opened.result().phase, opened.result().channel_id
            print(f"{closer} closes after {moment * 1000:.0f} ms: the channel is {phase}")
            assert phase in ("running", "failed", "rejected"), shown(nodes)
            if phase == "running":
                nodes.client("carol").close_virtual(channel, wait_s=30)
                wait_virtual(nodes, nodes.names, channel, lambda now: now.phase == "released")
            for ledger, (left, right) in zip(ledgers, pairs, strict=True):
                wait_ledger(nodes, left, ledger, lambda now: not now.channels)
                wait_ledger(nodes, right, ledger, lambda now: not now.channels)
                _close_unless(nodes.client(left), ledger, "cannot be closed")
                for name in (left, right):
                    wait_ledger(nodes, name, ledger, lambda now: now.phase == "settled")
            fee = 7 if phase == "running" else 0
            assert gained(nodes, before) == {"alice": DEPOSIT - fee, "bob": 2 * DEPOSIT + fee, "carol": DEPOSIT}


def _close_unless(client: Client, ledger: str, reason: str) -> None:
    """Close the ledger; for this reason the node may refuse to."""
    try:
        client.close_ledger(ledger)
    except ClientError as error:
        if reason not in str(error):
            raise
