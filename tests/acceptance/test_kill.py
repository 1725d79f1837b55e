"""Kill -9 a node or its database at moments drawn from the run's seed, while both sides keep sending; restart.

`SCAPP_KILLS` sets how many (30 by default); every process gets its equal share. After each kill the channel must go
on. In the end: both logs equal and without a gap, both databases equal to the co-signed root, every message whose
acceptance was reported in its place, and no message twice.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter

import pytest

from scapp.reducers import library
from tests.support.cluster import Cluster, cluster, eventually
from tests.support.load import Sender, check, wait_progress

KILLS = int(os.environ.get("SCAPP_KILLS", "30"))
SUPPLY = 10**18
TARGETS = [(name, what) for name in ("alice", "bob") for what in ("node", "database")]


@pytest.mark.timeout(120 + 20 * KILLS)
def test_killed_at_any_moment(seed: str) -> None:
    """Nodes and databases die at any moment and come back: nothing is lost, nothing happens twice."""
    rng = random.Random(seed)
    print(f"seed {seed}, {KILLS} kills")
    with cluster(2) as nodes:
        nodes.deploy(library.wasm_bytes("ledger"))
        balances = [[address, SUPPLY] for address in nodes.addresses.values()]
        opened = nodes.client("alice").open_channel(["bob"], "ledger", params={"balances": balances}, wait_s=30)
        channel = opened.channel_id
        for name in nodes.names:
            nodes.wait_derived(name, channel, 1)
        amounts = itertools.count(1)  # `next` on it is atomic: no amount is used twice
        senders = [Sender(nodes, a, b, channel, amounts) for a, b in (("alice", "bob"), ("bob", "alice"))]
        for sender in senders:
            sender.start()
        kills = kill_and_restart(nodes, channel, rng)
        for sender in senders:
            sender.finish()
        print(dict(kills), "accepted", [len(sender.accepted) for sender in senders])
        assert min(kills[target] for target in TARGETS) >= KILLS // len(TARGETS)
        check(nodes, channel, senders, accepted_min=KILLS)


def kill_and_restart(nodes: Cluster, channel: str, rng: random.Random) -> Counter[tuple[str, str]]:
    """The kills, in drawn order at drawn moments; how often each process was hit."""
    plan = [TARGETS[index % len(TARGETS)] for index in range(KILLS)]
    rng.shuffle(plan)
    kills: Counter[tuple[str, str]] = Counter()
    for name, what in plan:
        time.sleep(rng.uniform(0, 0.4))  # the drawn moment: load is running meanwhile
        if what == "database":
            kill_database(nodes, name)
        else:
            nodes.kill_node(name)
            time.sleep(rng.choice((0, 0, rng.uniform(0, 0.3))))
            nodes.start(name)
        kills[(name, what)] += 1
        wait_progress(nodes, channel, f"after kill {sum(kills.values())} ({name} {what}) nothing goes on")
    return kills


def kill_database(nodes: Cluster, name: str) -> None:
    """Between two kills it may not have come back yet, and then there is nothing to kill: wait until there is."""
    eventually(lambda: nodes.kill_database(name) or None, lambda: f"no database of {name}")
