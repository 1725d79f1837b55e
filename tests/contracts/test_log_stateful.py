"""Random histories over both adapters at once: whatever one shows, the other shows (Hypothesis machine)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scapp.channels.errors import ScappError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.log.port import Append, EventLog, Snapshot, StreamWrite
from scapp.channels.log.rocks import RocksLog
from tests.contracts.log_contract import contents

STREAMS = [bytes(32), bytes(31) + b"\x01", b"\x7f" * 32, b"\xff" * 32]
streams = st.sampled_from(STREAMS)
event_lists = st.lists(st.binary(max_size=40), max_size=5).map(tuple)
outboxes = st.dictionaries(st.sampled_from([b"a", b"b", b"b\xff"]), st.none() | st.binary(max_size=8), max_size=3)
# How far from the true version: mostly right, so that histories grow.
slips = st.sampled_from([0, 0, 0, 0, 1, -1])


class LogMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="scapp-log-"))
        self.memory: EventLog = MemoryLog()
        self.rocks: EventLog = RocksLog(self.root / "log")

    def both(self, call):
        """Run the same call on both logs and compare results and errors; returns the result."""
        outcomes = []
        for log in (self.memory, self.rocks):
            try:
                outcomes.append(("result", call(log)))
            except ScappError as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[0] == outcomes[1]
        return outcomes[0]

    def make(self, chosen: list[tuple[bytes, int, tuple[bytes, ...]]], outbox: dict[bytes, bytes | None]) -> Append:
        writes = [
            StreamWrite(stream, max(self.memory.version(stream) + slip, 0), events) for stream, slip, events in chosen
        ]
        return Append(writes, outbox)

    appends = st.tuples(
        st.lists(st.tuples(streams, slips, event_lists), max_size=3, unique_by=lambda item: item[0]), outboxes
    )

    @rule(append=appends, durable=st.booleans())
    def append(self, append, durable: bool) -> None:
        made = self.make(*append)
        self.both(lambda log: log.append(made, durable=durable))

    @rule(group=st.lists(appends, max_size=4))
    def append_group(self, group) -> None:
        made = [self.make(*append) for append in group]

        def call(log: EventLog) -> list[str]:
            return [str(outcome) for outcome in log.append_group(made)]

        self.both(call)

    @rule(stream=streams, from_version=st.integers(0, 30))
    def read(self, stream: bytes, from_version: int) -> None:
        self.both(lambda log: list(log.read(stream, from_version)))

    @rule(stream=streams, back=st.integers(-1, 3), data=st.binary(max_size=10))
    def save_snapshot(self, stream: bytes, back: int, data: bytes) -> None:
        version = self.memory.version(stream) - back
        self.both(lambda log: log.save_snapshot(stream, Snapshot(version, data)))

    @rule()
    def flush(self) -> None:
        self.both(lambda log: log.flush())

    @rule()
    def reopen(self) -> None:
        assert isinstance(self.memory, MemoryLog)
        self.memory.close()
        self.rocks.close()
        self.memory = self.memory.durable_copy()
        self.rocks = RocksLog(self.root / "log")

    @precondition(lambda self: hasattr(self, "rocks"))
    @invariant()
    def both_show_the_same(self) -> None:
        assert contents(self.memory) == contents(self.rocks)
        for stream in STREAMS:
            assert self.memory.version(stream) == self.rocks.version(stream)
            assert self.memory.load_snapshot(stream) == self.rocks.load_snapshot(stream)

    def teardown(self) -> None:
        if hasattr(self, "rocks"):
            self.rocks.close()
            shutil.rmtree(self.root)


class TestLogMachine(LogMachine.TestCase):
    settings = settings(
        max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )


@pytest.mark.slow
class TestLogMachineLong(LogMachine.TestCase):
    settings = settings(
        max_examples=300, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
