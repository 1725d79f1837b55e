"""Hubs announce themselves, ways are found, another is taken when one stands still: node processes over a real EVM."""

from __future__ import annotations

import os
import signal

import pytest

from scapp.runtime.cli.amounts import COIN
from scapp.runtime.ledger_documents import RouteView
from tests.support.cluster import eventually
from tests.support.funded_cluster import FundedCluster, funded_cluster, quick_chain

DEPOSIT = 10**15
pytestmark = pytest.mark.slow

IMPATIENT = """
[payments]
funding_timeout_s = 3
"""


def open_ledger(nodes: FundedCluster, left: str, right: str) -> None:
    found = nodes.client(left).open_ledger(right, {COIN: DEPOSIT}, {COIN: DEPOSIT}, wait_s=60)
    assert found.phase == "running", found


def ways(nodes: FundedCluster) -> list[RouteView]:
    return nodes.client("alice").routes("dave", {COIN: (1_000, 0)})


def test_a_payment_finds_its_way_around_a_hub_that_stands_still() -> None:
    """Bob and Carol are hubs between Alice and Dave. The first choice is stopped in the middle of its life: its link
    stays, it says nothing. Alice gives it up after her time-out and pays over the other one."""
    with quick_chain() as chain, funded_cluster(4, chain, more=IMPATIENT) as nodes:
        for pair in (("alice", "bob"), ("alice", "carol"), ("dave", "bob"), ("dave", "carol")):
            open_ledger(nodes, *pair)
        found = eventually(lambda: both if len(both := ways(nodes)) == 2 else None, lambda: str(ways(nodes)))
        assert all(len(each.hubs) == 1 and each.sure for each in found)
        first, second = (next(n for n in nodes.names if nodes.addresses[n] == each.hubs[0]) for each in found)
        assert {first, second} == {"bob", "carol"}
        process = nodes.nodes[first].process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        try:
            opened = nodes.client("alice").open_payments("dave", COIN, 1_000, routed=True, wait_s=25)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        assert opened.phase == "running", opened
        assert opened.participants[1] == nodes.addresses[second]
        assert nodes.client("alice").pay(opened.channel_id, 400).paid == "400"
        assert [each.hubs for each in ways(nodes)] == [[nodes.addresses[second]]], "the other failed lately"
