"""Load for tests that break things while it runs, and what must hold afterwards."""

from __future__ import annotations

import itertools
import threading

from scapp.runtime.client import Client, NodeTimeout, NodeUnreachable
from tests.support.cluster import Cluster, eventually


class Sender(threading.Thread):
    """Sends transfers of unique amounts through one node for as long as the test lasts, across its restarts.

    `accepted`: amount to the sequence its receipt named. `unknown`: amounts whose fate was never told."""

    def __init__(self, nodes: Cluster, name: str, other: str, channel: str, amounts: itertools.count[int]) -> None:
        super().__init__(name=f"sender-{name}", daemon=True)
        self._nodes = nodes
        self._name = name
        self._recipient = nodes.addresses[other]
        self._channel = channel
        self._amounts = amounts
        self._end = threading.Event()
        self.accepted: dict[int, int] = {}
        self.unknown: set[int] = set()
        self.failure: BaseException | None = None

    def finish(self) -> None:
        self._end.set()
        self.join(60)
        assert not self.is_alive()
        if self.failure:
            raise self.failure

    def run(self) -> None:
        try:
            while not self._end.is_set():
                self._connected()
        except BaseException as error:
            self.failure = error

    def _connected(self) -> None:
        """Send until the node goes away; it is looked for again after a moment."""
        try:
            with self._nodes.nodes[self._name].client(timeout_s=20) as node:
                while not self._end.is_set():
                    self._send(node)
        except (NodeUnreachable, NodeTimeout):
            self._end.wait(0.02)

    def _send(self, node: Client) -> None:
        amounts = [next(self._amounts) for _ in range(3)]
        self.unknown.update(amounts)
        messages = [{"transfer": {"to": self._recipient, "amount": amount}} for amount in amounts]
        for amount, receipt in zip(amounts, node.send(self._channel, *messages, timeout_s=2), strict=True):
            assert receipt.status != "refused", receipt
            if receipt.status == "accepted":
                assert receipt.sequence is not None
                self.accepted[amount] = receipt.sequence
                self.unknown.discard(amount)


def wait_progress(nodes: Cluster, channel: str, what: str) -> None:
    """Both nodes go beyond where the channel is now."""
    before = nodes.client("alice").channel(channel).sequence
    for each in nodes.names:
        eventually(
            lambda each=each: nodes.client(each).channel(channel).sequence > before or None,
            lambda each=each: f"{what}\n{nodes.state(each, channel)}",
        )


def check(nodes: Cluster, channel: str, senders: list[Sender], accepted_min: int) -> None:
    """Logs, tables and receipts must tell one story."""

    def settled() -> int | None:
        views = [nodes.client(name).channel(channel) for name in nodes.names]
        quiet = all(view.pending == 0 for view in views) and len({view.log_root for view in views}) == 1
        return views[0].sequence if quiet else None

    def where() -> str:
        return "\n".join(nodes.state(name, channel) for name in nodes.names)

    end = eventually(settled, where)
    for name in nodes.names:
        nodes.wait_derived(name, channel, end)
    logs = {name: list(nodes.client(name).log(channel)) for name in nodes.names}
    assert all(log == logs["alice"] for log in logs.values())
    assert [entry.sequence for entry in logs["alice"]] == list(range(end))
    found = {entry.payload["transfer"]["amount"]: entry.sequence for entry in logs["alice"][1:]}
    assert len(found) == end - 1, "an amount stands twice in the log"
    sent: set[int] = set()
    for sender in senders:
        for amount, sequence in sender.accepted.items():
            assert found.get(amount) == sequence, (
                f"amount {amount} was accepted at {sequence}, log: {found.get(amount)}"
            )
        sent |= sender.accepted.keys() | sender.unknown
    assert found.keys() <= sent, "the log has what nobody sent"
    tables = []
    for name in nodes.names:
        verdict = nodes.client(name).verify(channel)
        assert verdict.ok, (name, verdict)
        rows = nodes.rows(
            name, "select sequence, amount from ledger.transfer where channel_id = $1::bytea order by sequence",
            "\\x" + channel[2:],
        )  # fmt: skip
        assert {int(amount): sequence for sequence, amount in rows} == found
        tables.append(verdict.found_root)
    assert len(set(tables)) == 1
    assert sum(len(sender.accepted) for sender in senders) > accepted_min, "hardly anything was sent in between"
