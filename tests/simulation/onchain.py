"""The chain in a seeded life: blocks, transactions that wait, reorganisations, blindness, Mallory's challenges.

An exit presumes something of an honest node, and that is granted here and nothing else: some minutes before a challenge
ends it runs, sees the chain, and gets its transactions into blocks that stay. `finish` brings every channel to its
end, and `check_payouts` counts the money.
"""

from __future__ import annotations

from scapp.channels.chain import calls
from scapp.channels.channel.full_set import for_contracts
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.driver import advances, load
from scapp.channels.entries import Kind
from scapp.channels.errors import LocalError
from scapp.channels.types import ZERO_ADDRESS, ChannelId
from tests.simulation.plan import Act
from tests.support.checkers import require
from tests.support.plain_chain import challenger
from tests.support.sim import SimNode
from tests.support.sim_chain import ChainSim

TERMS = ChainTerms(margin_s=60, conclude_delay_s=120, funding_timeout_s=3_000, silence_timeout_s=0)
AWAKE_S = 240
BLOCK_S = 12
REORG_BLOCKS_MAX = 3  # no deeper than what counts as confirmed
FINISH_BLOCKS_MAX = 260
LEAVE_AFTER_BLOCKS = 30
BROUGHT = ((7,), (3,), (2,), (1,))


class LifeOnChain:
    """What the chain does in one life; `channel` is set once it is open."""

    def __init__(self, sim: ChainSim, honest: list[SimNode]) -> None:
        self.sim, self.honest = sim, honest
        self.channel = b""
        self.kept_back = False  # Mallory's signature under a final state that all others have signed
        self._shown: dict[int, tuple[object, object]] = {}  # by node: its process, and what that was shown
        self._possible: dict[int, list[tuple[int, ...]]] = {}  # by node, when the last challenge ended
        self._waking = False
        sim.tap = None  # `mute` here means: hears and says nothing on the chain

    def open(self) -> bytes:
        self.channel = self.sim.fund(*BROUGHT[: len(self.sim.nodes)])
        return self.channel

    def until_running(self) -> None:
        """Everybody brings what it promised, and the postfund state is signed."""
        for _ in range(60):
            phases = set(self.sim.phases(self.channel))
            if "proposed" in phases or not phases & {"opening", "funding"}:
                return
            self.sim.block()

    def act(self, node: SimNode, act: Act) -> None:
        match act.kind:
            case "block":
                self._block(BLOCK_S, keep_out=act.number == 0)
            case "later":
                self._block(act.number)
            case "reorganisation":
                self._reorganise(act.number)
            case "blind":
                self._blind(node, node.index not in self.sim.mute)
            case "leave":
                self._leave(node)
            case _:
                raise AssertionError(f"no such act: {act.kind}")

    def _present(self, node: SimNode) -> bool:
        return node.up and self.channel in node.drivers

    def _leave(self, node: SimNode) -> None:
        if self._present(node):
            try:
                node.input(self.channel, lambda e, _: e.leave("its owner says so"))
            except LocalError:
                return

    def _blind(self, node: SimNode, blind: bool) -> None:
        node.blind = blind
        if blind:
            self.sim.mute.add(node.index)
        elif node.index in self.sim.mute:
            self.sim.mute.discard(node.index)
            if self._present(node):
                before = node.engine(self.channel).state.chain
                self._show()
                if self._present(node) and node.engine(self.channel).state.chain != before:
                    self.sim.saw("an event of the chain was missed")

    # Blocks

    def _block(self, seconds: int, *, keep_out: bool = False) -> None:
        """What everybody wants goes out, a block comes, everybody who hears of it sees it."""
        sim = self.sim
        ends = self._ends()
        if ends and not self._waking and sim.chain.head.time_s + seconds > ends - AWAKE_S:
            self._wake(ends)
        sim.send_wants()
        leave = [item.hash for item in sim.chain.mempool if keep_out and sim.random.random() < 0.5]
        if leave:
            sim.saw("a transaction waited in the mempool")
        if ends and sim.chain.head.time_s + seconds >= ends:
            self._remember()
        sim.chain.mine(sim.chain.head.time_s + seconds, leave=leave)
        sim.now_ms += 1_000 * seconds
        self._show()
        self._note()

    def _remember(self) -> None:
        """A challenge ends with the next block: what is signed by then is what its payout can be about."""
        for node in self.honest:
            if not node.log.version(self.channel):
                continue
            driver = node.drivers.get(self.channel) or load(node.log, self.channel, node.signer, self.sim.terms)
            self._possible[node.index] = _outcomes(driver.engine.state)

    def _show(self) -> None:
        """As `ChainLink` does: each new block's time, and a view whenever anything in it but the block has changed."""
        view = self.sim.view(self.channel)
        values = [(at.holdings, at.status, at.registered) for at in (view.latest, view.confirmed)]
        time_s = self.sim.chain.head.time_s
        for node in self.sim.nodes:
            if not self._present(node) or node.index in self.sim.mute:
                continue
            node.input(self.channel, lambda e, now: e.tick(now, time_s))
            if self._present(node) and self._shown.get(node.index) != (node.source, values):
                self._shown[node.index] = (node.source, values)
                node.input(self.channel, lambda e, _: e.on_chain(view, time_s))

    def _ends(self) -> int:
        """When the challenge that stands now ends, in seconds; 0 without one."""
        ends = self.sim.chain.world.status_of(ChannelId(self.channel)).finalizes_at
        return ends if ends > self.sim.chain.head.time_s else 0

    def _wake(self, ends: int) -> None:
        """Before a challenge ends, everybody honest is there; see the module's docstring."""
        self._waking = True
        while self.sim.chain.head.time_s < min(ends, self._ends() or 0) - AWAKE_S // 3:
            for node in self.honest:
                node.crash_in = None
                self._blind(node, False)
                if not node.up:
                    node.start()
            self._show()
            self._block(BLOCK_S)
            if self.sim.chain.head.time_s + AWAKE_S < ends:
                continue
        self._waking = False

    def _reorganise(self, depth: int) -> None:
        """Blocks are taken back, unless the end of a challenge is near."""
        sim = self.sim
        blocks = sim.chain.blocks
        depth = min(depth, len(blocks) - 1, REORG_BLOCKS_MAX)
        ends = [b.world.status_of(ChannelId(self.channel)).finalizes_at for b in blocks[-depth - 1 :]]
        if depth < 1 or any(end and abs(end - sim.chain.head.time_s) < AWAKE_S for end in ends):
            return
        before = self._held()
        sim.chain.reorganise(depth, drop=sim.random.random() < 0.5)
        sim.saw("the chain was reorganised")
        if self._held() < before and not any(ends):
            sim.saw("a reorganisation undid a deposit")
        if ends[-1] and not self._ends():
            sim.saw("a reorganisation undid a challenge")
        self._show()

    def _held(self) -> int:
        return self.sim.chain.world.held(ZERO_ADDRESS, ChannelId(self.channel))

    def _note(self) -> None:
        """What has come to stand on the chain."""
        sim, record = self.sim, self.sim.chain.world.status_of(ChannelId(self.channel))
        names = {type(log.event).__name__ for log in sim.chain.head.logs}
        if "ChallengeRegistered" in names:
            sim.saw("a dispute was raised")
        if "Concluded" in names:
            sim.saw("a channel was concluded on chain")
            if self.kept_back:
                sim.saw("a refused final state was concluded later")
        if {"ChallengeCleared", "Checkpointed"} & names:
            sim.saw("a stale challenge was answered")
        if "AllocationUpdated" in names:
            sim.saw("a payout was withdrawn")
        present = [n.engine(self.channel).state for n in self.honest if self._present(n)]
        if record.finalizes_at and any(state.outstanding for state in present):
            sim.saw("a challenge came during play")

    # Mallory

    def challenge(self, node: SimNode) -> bool:
        """Her account takes one of her states to the chain; False when she has none."""
        state = node.engine(self.channel).state
        known = [state for state, _ in advances(node.log, self.channel)]
        if not known or not self._held():
            return False
        candidate = for_contracts(state, known[self.sim.random.randrange(len(known))])
        self.sim.raw(node, calls.Challenge((), candidate, challenger(node.signer, self.channel, candidate)))
        return True

    # The end

    def finish(self) -> None:
        """Everybody is there, and each channel comes to its end: by a close, or by those who leave."""
        sim = self.sim
        for node in sim.nodes:
            self._blind(node, False)
        for number in range(FINISH_BLOCKS_MAX):
            for node in sim.nodes:
                if not node.up:
                    node.start()
            if all(self._over(node) for node in self.honest):
                return
            if number == 2:
                self._close()
            if number == LEAVE_AFTER_BLOCKS:
                for node in self.honest:
                    self._leave(node)
            sim.run()
            self._block(BLOCK_S if number < LEAVE_AFTER_BLOCKS + 10 else 5 * BLOCK_S)
        stuck = [n.engine(self.channel).waiting_for for n in self.honest if not self._over(n)]
        require(not stuck, f"7: the channel does not come to its end: {stuck}")

    def _close(self) -> None:
        for node in self.honest:
            if self._present(node) and node.engine(self.channel).phase == "running":
                node.submit(self.channel, b"", kind=Kind.CLOSE)
                return

    def _over(self, node: SimNode) -> bool:
        """Is there nothing left that the node could do or get?"""
        if self.channel not in node.drivers:
            return True
        state = node.engine(self.channel).state
        if state.phase in ("settled", "rejected", "proposed"):
            return True
        if self._held() or (state.chain is not None and state.chain.ended):
            return False  # a payout is to come, or to be confirmed
        return state.exit_reason != "" or state.turn < 0

    def check_payouts(self) -> None:
        """Rule 7, in money: an honest participant has lost nothing but what it signed away."""
        for node in self.honest:
            if self.channel not in node.drivers:
                continue
            (gain,) = self.sim.paid(node)
            deposited = self._deposited(node)
            state = node.engine(self.channel).state
            outcomes = _outcomes(state) + self._possible.get(node.index, [])
            brought = BROUGHT[node.index][0]
            allowed = {paid[node.index] - brought for paid in outcomes} if deposited else {0}
            require(gain in allowed, f"7: {node.name} has gained {gain}, allowed is {sorted(allowed)}")

    def _deposited(self, node: SimNode) -> int:
        account = self.sim.account(node)
        return sum(
            item.value
            for block in self.sim.chain.blocks
            for item, receipt in zip(block.transactions, block.receipts, strict=True)
            if item.sender == account and receipt.reason is None
        )


def _outcomes(state: ChannelState) -> list[tuple[int, ...]]:
    """What is supported, and what was signed since (rule 4)."""
    found = [state.setup.unpack(candidate.amounts) for candidate in state.candidates]
    return found + ([state.setup.unpack(state.head.amounts)] if state.head is not None else [])
