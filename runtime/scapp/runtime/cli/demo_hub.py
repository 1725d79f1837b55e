"""The hub of `scapp demo --fund virtual`: one more node, which has a ledger with each player and no game."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scapp.channels.errors import LocalError
from scapp.channels.routing.fees import Schedule, price
from scapp.channels.types import ZERO_ADDRESS
from scapp.runtime.cli.amounts import COIN
from scapp.runtime.cli.demo_chain import account_of, funded_children
from scapp.runtime.cli.processes import NodeChild
from scapp.runtime.client import Client
from scapp.runtime.devchain import Chain, hexed

HUB = "hub"
FEE_PPM = 1_000
WITHIN_S = 60.0
SETTINGS = """
[ledgers]
accept = "limits"
deposit_max = {{ coin = "{deposit}" }}

[hub]
forward = true
announce = true
fee_ppm = {fee_ppm}
amount_max = {{ coin = "{locked}" }}
"""


def hub_settings(deposit: int, locked: int) -> str:
    """Of a node that opens ledgers with whoever it knows, and stands in channels that lock up to `locked`."""
    return SETTINGS.format(deposit=deposit, fee_ppm=FEE_PPM, locked=locked)


class HubLedgers:
    """A ledger between each player and the hub, on nodes of their own. `children` are the players and the hub, which
    is the last; `deposit` is what both put into each ledger."""

    def __init__(self, chain: Chain, names: Sequence[str], home: Path, stake: int) -> None:
        self.deposit = 2 * stake  # of which a half stays free: fees come from there
        self.fee = price(Schedule(ZERO_ADDRESS, 0, FEE_PPM), 2 * stake)
        more = {HUB: hub_settings(self.deposit, 2 * stake)}
        self.children: list[NodeChild] = funded_children(chain, [*names, HUB], home, stake, stake, more)
        self._chain = chain
        self._ledgers: list[str] = []

    @property
    def deposited(self) -> list[int]:
        """By node, what it has put into its ledgers."""
        players = len(self.children) - 1
        return [self.deposit] * players + [players * self.deposit]

    def open(self, clients: Sequence[Client]) -> None:
        """Return when all deposits are confirmed and every ledger runs at both its nodes."""
        funds = {COIN: self.deposit}
        self._ledgers = [node.open_ledger(HUB, funds, funds).channel_id for node in clients[:-1]]
        self._wait(clients, "running")

    def settle(self, clients: Sequence[Client]) -> None:
        """Close every ledger; return when the chain has paid."""
        for node, ledger in zip(clients, self._ledgers, strict=False):
            node.close_ledger(ledger)
        self._wait(clients, "settled")

    def wait_free(self, clients: Sequence[Client]) -> None:
        """Return when nothing is locked for a channel any more, at players and hub."""
        self._until(clients, lambda found: not found.channels, "still locked")

    def balances(self, clients: Sequence[Client]) -> list[int]:
        """By node, what it has free in its ledgers."""
        return [sum(int(asset.mine) for found in node.ledgers() for asset in found.assets) for node in clients]

    def sent(self) -> int:
        """Transactions that the nodes' accounts have sent so far."""
        accounts = (hexed(account_of(child)) for child in self.children)
        return sum(int(self._chain.rpc("eth_getTransactionCount", account, "latest"), 16) for account in accounts)

    def _wait(self, clients: Sequence[Client], phase: str) -> None:
        self._until(clients, lambda found: found.phase == phase, f"not {phase}")

    def _until(self, clients: Sequence[Client], done: Callable[[Any], bool], what: str) -> None:
        deadline = time.monotonic() + WITHIN_S
        for child, node in zip(self.children, clients, strict=True):
            while late := [found for found in node.ledgers() if not done(found)]:
                if time.monotonic() > deadline:
                    raise LocalError(
                        f"a ledger of {child.name} is {what} after {WITHIN_S:g} s, {late[0].phase}: "
                        f"{late[0].waiting_for or late[0].reason}"
                    )
                time.sleep(0.1)
