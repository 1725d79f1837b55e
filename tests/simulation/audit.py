"""The checkers of a life, apart from what plays it: they look at disks, logs and databases only.

`look` is called after every act, `verdict` once everything is healed. What they demand of one log and of what leaves
a node stands in `tests/support/checkers.py`.
"""

from __future__ import annotations

from scapp.channels.channel.decided import keys
from scapp.channels.channel.events import ChannelCreated, decode_event
from scapp.channels.channel.full_set import supported_message
from scapp.channels.channel.messages import Supported, decode_message
from scapp.channels.channel.model import ChannelState
from scapp.channels.entries import HEADER, Kind, decode_entry
from scapp.channels.errors import CorruptionError
from scapp.channels.log.port import EventLog, Page
from tests.simulation.apps import App
from tests.support.checkers import LogCheck, Watch, require
from tests.support.sim import Sim, SimNode
from tests.support.sim_database import SimDatabase, fold

Said = dict[tuple[int, int], set[bytes]]


class _Reading:
    """How far one node's stream has been checked."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.version = 0
        self.check: LogCheck | None = None


class Audit:
    """Looks at the honest nodes of one channel."""

    def __init__(self, sim: Sim, channel: bytes, honest: list[SimNode], watch: Watch) -> None:
        self.sim, self.channel, self.honest = sim, channel, honest
        self._watch = watch
        self.unreadable: set[int] = set()  # nodes that run on a damaged log
        self._readings: dict[int, _Reading] = {}
        self._roots: dict[int, tuple[bytes, bytes, bytes]] = {}  # by turn: what everybody's log must say of it

    def check_of(self, node: SimNode) -> LogCheck | None:
        """What the node's log says, as far as it was looked at."""
        reading = self._readings.get(node.index)
        return reading.check if reading else None

    def turn_of(self, node: SimNode) -> int:
        """The highest turn that the node's log has as signed or supported, -1 for none."""
        self._read(node)
        check = self.check_of(node)
        if check is None:
            return -1
        return max([*check.signed, check.head.turn if check.head is not None else -1], default=-1)

    def told_by_others(self, node: SimNode) -> set[int]:
        """Counters of its entries that others have in their logs, or in a proposal with its signature."""
        counters: set[int] = set()
        for other in self.sim.nodes:
            check = self.check_of(other) if other is not node else None
            if check is None:
                continue
            counters |= {counter for author, counter in check.included if author == node.index}
            if other.up and self.channel in other.drivers:
                for held in other.engine(self.channel).state.candidates:
                    if held.signatures[node.index]:
                        counters |= {counter for author, counter in keys(held.entries) if author == node.index}
        return counters

    def look(self) -> None:
        """Rules 1 to 6 over every log, and no log a fork of another."""
        logs = []
        for node in self.honest:
            self._read(node)
            check = self.check_of(node)
            if check is not None:
                logs.append((node, check.log))
        if logs:
            _, longest = max(logs, key=lambda pair: len(pair[1]))
            for node, log in logs:
                require(log == longest[: len(log)], f"6: {node.name}'s log is no prefix of the longest")

    def _read(self, node: SimNode) -> None:
        reading = self._readings.get(node.index)
        if reading is None or reading.log is not node.log:
            reading = self._readings[node.index] = _Reading(node.log)
            self._compare_with_disk(node)
        if node.fault or self.channel in node.corrupt or node.index in self.unreadable:
            return
        for page in self._pages(node, reading.version):
            for data in page.events:
                event = decode_event(data)
                if reading.check is None:
                    require(isinstance(event, ChannelCreated), "6: the stream does not begin with its creation")
                    reading.check = LogCheck(event)
                else:
                    reading.check.feed(event)
                    self._compare_root(reading.check)
            reading.version = page.first_version + len(page.events)

    def _pages(self, node: SimNode, version: int) -> list[Page]:
        """A node that starts from a snapshot of its state does not read what lies before; damage there shows later."""
        try:
            return list(node.log.read(self.channel, version))
        except CorruptionError as error:
            require(node.log.disk.damaged, f"1: {node.name} cannot read a healthy disk: {error}")
            self.unreadable.add(node.index)
            return []

    def sound(self, node: SimNode) -> bool:
        """Does it have everything that it had?"""
        return node.healthy and node.index not in self.unreadable

    def _compare_root(self, check: LogCheck) -> None:
        head = check.head
        if head is not None:
            found = (bytes(head.log_root), head.state_root, head.amounts)
            require(self._roots.setdefault(head.turn, found) == found, f"6: turn {head.turn} is supported in two ways")

    def _compare_with_disk(self, node: SimNode) -> None:
        """After a start: everything acknowledged as durable is there, unaltered; or a damaged disk is refused."""
        disk = node.log.disk
        refused = node.fault or node.corrupt.get(self.channel, "")
        if refused:
            require(disk.damaged, f"1: {node.name} refuses a healthy disk: {refused}")
            return
        stored = [data for page in self._pages(node, 0) for data in page.events]
        if node.index in self.unreadable:
            return
        truth = disk.truth.get(self.channel, [])
        require(stored[: len(truth)] == truth, f"1: {node.name} lost or altered what was durable")
        if node.restores:
            return  # what the backup does not hold comes back from the others; the verdict asks for it
        for (channel, counter), entry in node.acknowledged.items():
            told = channel != self.channel or any(entry in decode_event(d).state.entries for d in truth if _states(d))
            require(told, f"1: {node.name} lost its acknowledged message {counter}")

    def compare_rows(self, node: SimNode, database: SimDatabase, app: App) -> None:
        """What stands in the database is the fold of the log up to where its cursor says."""
        derived = database.channels.get(self.channel)
        if derived is None or self.channel not in node.drivers:
            return
        batches = [s.entries for s in node.source.batches(self.channel) if s.end_sequence <= derived.sequence]
        context = node.engine(self.channel).state.setup.context
        rows = fold(app.admission(), context, [b for b in batches if b])
        require(rows == derived.rows, f"6: {node.name}'s rows are not the fold of its log")

    def exits(self, node: SimNode) -> None:
        """Rule 7: what it would take to the chain now is fully signed, in the form that the contracts take."""
        if self.channel not in node.drivers:
            return
        engine = node.engine(self.channel)
        data = supported_message(engine.state, engine.session)
        if data is not None:
            full = decode_message(data)
            assert isinstance(full, Supported)
            self._watch.check_full(engine.state.setup, full)
            require(full.turn >= engine.state.turn, f"7: {node.name} would leave with an older state than its own")

    def verdict(self, said: Said) -> None:
        """After healing: everybody agrees, nothing is undecided, every entry is what its author said, once."""
        nodes = self.honest
        states = [n.engine(self.channel).state for n in nodes]
        waiting = [n.engine(self.channel).waiting_for for n in nodes]
        if any(s.rejected is not None for s in states):
            require(all(s.rejected is not None for s in states), f"rejected by some only: {waiting}")
            return
        # A challenge may have ended it while somebody had signed a turn above the one that was paid out: that turn's
        # entries are then not in that log (docs/reference/simulation.md, "What it does not demand").
        left = any(_ended_by_the_chain(s) for s in states)
        require(left or len({s.log_root for s in states}) == 1, f"logs differ after healing: {waiting}")
        require(left or len({s.turn for s in states}) == 1, f"turns differ after healing: {waiting}")
        undecided = any(s.outstanding or s.candidates for s in states)
        require(left or not undecided, f"undecided after healing: {waiting}")
        log = [decode_entry(data) for data in nodes[0].supported(self.channel)]
        for entry in log[1:]:
            if entry.kind == Kind.MESSAGE and entry.author != 0:
                require(entry.payload in said[(entry.author, entry.counter)], "3: an entry is not what was said")
        included = {(e.author, e.counter) for e in log}
        for node in nodes:
            check = self.check_of(node)
            assert check is not None
            for counter in check.submitted:
                key = (check.me, counter)
                if left and key not in included and key not in check.refused:
                    continue
                require((key in included) != (key in check.refused), f"{key} is not decided exactly once")
            for (channel, counter), data in node.acknowledged.items():
                author = HEADER.unpack_from(data)[1]
                require(channel != self.channel or (author, counter) in included, f"1: acknowledged {counter} is gone")


def _ended_by_the_chain(state: ChannelState) -> bool:
    """May it have ended with another state than the newest one?"""
    if not state.setup.funded or (state.head is not None and state.head.is_final):
        return False
    return state.backed is None or state.backed.stage in ("disputed", "released")


def _states(data: bytes) -> bool:
    return hasattr(decode_event(data), "state")
