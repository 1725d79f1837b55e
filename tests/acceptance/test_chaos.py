"""Three nodes in network namespaces: processes killed or frozen, cables pulled, at moments drawn from the run's seed.

`SCAPP_CHAOS` sets how many faults (20 by default); every kind hits every node equally often, give or take one. After
each the channel must go on; in the end the same must hold as after kills (`test_kill.py`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest

from scapp.reducers import library
from tests.support.cluster import eventually
from tests.support.load import Sender, check, wait_progress
from tests.support.namespaces import WiredCluster, wired_cluster

FAULTS = int(os.environ.get("SCAPP_CHAOS", "20"))
SUPPLY = 10**18
NAMES = ["alice", "bob", "carol"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180 + 30 * FAULTS)]


def database_processes(nodes: WiredCluster, name: str) -> list[psutil.Process]:
    children = psutil.Process(nodes.nodes[name].pid).children(recursive=True)
    return [child for child in children if child.name().startswith("postgres")]


@contextlib.contextmanager
def frozen(processes: list[psutil.Process]) -> Iterator[None]:
    """SIGSTOP, and SIGCONT at the end: for everybody else they are silent, and do not close their connections."""
    try:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


def kill_node(nodes: WiredCluster, name: str, rng: random.Random) -> None:
    nodes.kill_node(name)
    time.sleep(rng.choice((0, rng.uniform(0, 0.5))))
    nodes.start(name)


def kill_database(nodes: WiredCluster, name: str, rng: random.Random) -> None:
    eventually(lambda: nodes.kill_database(name) or None, lambda: f"no database of {name}")


def freeze_node(nodes: WiredCluster, name: str, rng: random.Random) -> None:
    with frozen([psutil.Process(nodes.nodes[name].pid)]):
        time.sleep(rng.uniform(0.1, 2.5))


def freeze_database(nodes: WiredCluster, name: str, rng: random.Random) -> None:
    with frozen(database_processes(nodes, name)):
        time.sleep(rng.uniform(0.1, 2.5))


def pull_cable(nodes: WiredCluster, name: str, rng: random.Random) -> None:
    nodes.wiring.pull(name)
    time.sleep(rng.choice((rng.uniform(0, 0.3), rng.uniform(0.3, 4))))
    nodes.wiring.plug(name)


def pull_and_kill(nodes: WiredCluster, name: str, rng: random.Random) -> None:
    """It dies while it is alone, and starts alone."""
    nodes.wiring.pull(name)
    time.sleep(rng.uniform(0, 0.5))
    kill_node(nodes, name, rng)
    nodes.wiring.plug(name)


KINDS: tuple[Callable[[WiredCluster, str, random.Random], None], ...] = (
    kill_node,
    kill_database,
    freeze_node,
    freeze_database,
    pull_cable,
    pull_and_kill,
)


def test_frozen_cut_off_and_killed_at_any_moment(seed: str) -> None:
    """Whatever stops, for whatever reason, comes back: nothing is lost, nothing happens twice."""
    rng = random.Random(seed)
    print(f"seed {seed}, {FAULTS} faults")
    targets = list(itertools.product(KINDS, NAMES))
    rng.shuffle(targets)
    plan = [targets[index % len(targets)] for index in range(FAULTS)]
    with wired_cluster(NAMES) as nodes:
        nodes.deploy(library.wasm_bytes("ledger"))
        balances = [[address, SUPPLY] for address in nodes.addresses.values()]
        opened = nodes.client("alice").open_channel(NAMES[1:], "ledger", params={"balances": balances}, wait_s=60)
        channel = opened.channel_id
        for name in nodes.names:
            nodes.wait_derived(name, channel, 1)
        amounts = itertools.count(1)
        pairs = zip(NAMES, (*NAMES[1:], NAMES[0]), strict=True)
        senders = [Sender(nodes, name, other, channel, amounts) for name, other in pairs]
        for sender in senders:
            sender.start()
        done: Counter[str] = Counter()
        for break_it, name in plan:
            time.sleep(rng.uniform(0, 0.4))  # the drawn moment: load is running meanwhile
            break_it(nodes, name, rng)
            done[break_it.__name__] += 1
            wait_progress(nodes, channel, f"after fault {done.total()} ({break_it.__name__} of {name}) nothing goes on")
        for sender in senders:
            sender.finish()
        print(dict(done), "accepted", [len(sender.accepted) for sender in senders])
        check(nodes, channel, senders, accepted_min=FAULTS)
