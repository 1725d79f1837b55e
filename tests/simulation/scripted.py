"""A whole life of a funded channel as a script: open, fund, 100 messages, a stale challenge answered, close, payout.

`tests/scenarios/test_crash_everywhere.py` cuts the power at every write of it; `killed.py` kills a real process there.
Whatever happened, `finish` must bring it to its end and `verify` must find nothing missing.
"""

from __future__ import annotations

from scapp.channels.chain import calls
from scapp.channels.channel.full_set import for_contracts
from scapp.channels.driver import advances
from scapp.channels.entries import Kind, decode_entry
from scapp.channels.errors import LocalError
from tests.simulation.onchain import TERMS, LifeOnChain
from tests.support.checkers import check_log
from tests.support.plain_chain import challenger
from tests.support.sim_chain import ChainSim

ROUNDS = 10
PER_ROUND = 5  # messages of each of the two participants
DISPUTE_AFTER = 5  # rounds
MESSAGES = ROUNDS * PER_ROUND * 2


class Script:
    """Two participants on a simulated chain."""

    def __init__(self) -> None:
        self.sim = ChainSim(2, terms=TERMS)
        self.chain = LifeOnChain(self.sim, self.sim.nodes)
        self.said: dict[tuple[int, int], bytes] = {}

    def play(self) -> None:
        """Everything up to the close."""
        self.chain.open()
        self.wake()
        self.chain.until_running()
        for round_ in range(ROUNDS):
            for node in self.sim.nodes:
                self._say(node.index, [b"%d %d %d" % (node.index, round_, i) for i in range(PER_ROUND)])
            self.wake()
            if round_ == DISPUTE_AFTER:
                self._dispute()

    def _say(self, index: int, payloads: list[bytes]) -> None:
        node = self.sim.nodes[index]
        if node.up and self.chain.channel in node.drivers:
            try:
                counters = node.submit(self.chain.channel, *payloads, kind=Kind.MESSAGE)
            except LocalError:
                return
            self.said.update({(index, counter): payload for counter, payload in zip(counters, payloads, strict=True)})

    def _dispute(self) -> None:
        """The last participant takes its oldest state to the chain; the other one answers."""
        node, channel = self.sim.nodes[-1], self.chain.channel
        if channel not in node.drivers or node.engine(channel).state.turn < 2:
            return
        state = node.engine(channel).state
        candidate = for_contracts(state, next(advances(node.log, channel))[0])
        self.sim.raw(node, calls.Challenge((), candidate, challenger(node.signer, channel, candidate)))
        for _ in range(8):
            self.sim.block()
            self.wake()

    def wake(self) -> None:
        """Deliver, and start again whoever is down."""
        for _ in range(3):
            self.sim.run()
            for node in self.sim.nodes:
                if not node.up:
                    node.start()
            self.sim.tick(2_000)
        self.sim.run()

    def finish(self) -> None:
        """Close, pay out, and let everybody catch up."""
        self.sim.settle(rounds=3)
        self.chain.finish()
        self.sim.settle(rounds=3)

    def verify(self, *, whole: bool) -> None:
        """Logs are sound and equal, nothing is undecided, the money is where it belongs. `whole`: nothing was cut off,
        so every message is in the log and the channel is closed and paid out."""
        channel = self.chain.channel
        nodes = self.sim.nodes
        if any(channel not in node.drivers for node in nodes):
            assert not whole
            assert all(channel not in node.drivers for node in nodes), "somebody has a channel that its opener lost"
            return
        checks = [check_log(node.log, channel) for node in nodes]
        logs = [check.log for check in checks if check is not None]
        assert logs[0] == logs[1]
        self.chain.check_payouts()
        entries = [decode_entry(data) for data in logs[0]]
        for entry in entries:
            if entry.kind == Kind.MESSAGE and (entry.author, entry.counter) in self.said:
                assert self.said[entry.author, entry.counter] == entry.payload
        for node in nodes:
            state = node.engine(channel).state
            assert state.phase in ("settled", "rejected") or not state.chain, node.engine(channel).waiting_for
        if whole:
            assert sum(entry.kind == Kind.MESSAGE for entry in entries) == MESSAGES
            assert entries[-1].kind == Kind.CLOSE
