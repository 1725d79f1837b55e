"""What stands behind virtual channels in the simulated network: everybody's ledgers and the hubs, as one stand-in.

It knows the rules of docs/reference/virtual.md only as far as app channels feel them: when a guarantee is there, when
hubs sign, how it ends. What it knows is durable; what it says comes late, again, or with a step left out.
"""

from __future__ import annotations

import random

from scapp.channels.app_data import decode_app_data
from scapp.channels.backing import Backing, Stage
from scapp.channels.chain.calls import decode_outcome
from scapp.channels.channel.model import ChannelState
from scapp.channels.crypto import keccak256
from scapp.channels.deployment import Deployment
from scapp.channels.errors import LocalError
from scapp.channels.outcome import Allocation
from scapp.channels.reading import SignedState
from scapp.channels.signing import Signer, recover
from scapp.channels.state import FixedPart, channel_id, encode_state_of_outcome
from scapp.channels.types import Address, Hash
from tests.support.checkers import require
from tests.support.sim import Sim, SimNode

TWO_PARTY_APP = Address(b"\x2a" * 20)
HUB_FEE = 1


def hash_of(state: SignedState) -> Hash:
    """What its participants sign."""
    fixed = FixedPart(
        tuple(map(Address, state.participants)), state.nonce, Address(state.app_definition), state.challenge_duration
    )
    channel = channel_id(fixed)
    encoded = encode_state_of_outcome(channel, state.app_data, state.outcome, state.turn, is_final=state.is_final)
    return Hash(keccak256(encoded))


def signers_of(state: SignedState) -> set[int]:
    """Positions of the participants who signed it, each signature where it belongs."""
    state_hash = hash_of(state)
    found = set()
    for position, (participant, signature) in enumerate(zip(state.participants, state.signatures, strict=True)):
        if signature:
            require(recover(state_hash, signature) == participant, f"7: turn {state.turn} has a wrong signature")
            found.add(position)
    return found


def require_supported(candidate: SignedState, proof: tuple[SignedState, ...]) -> None:
    """TwoPartyApp in plain words: would the chain take it?"""
    everybody = set(range(len(candidate.participants)))
    if not proof:
        require(candidate.turn < 2 and signers_of(candidate) == everybody, f"7: turn {candidate.turn} needs a proof")
        return
    (postfund,) = proof
    require(postfund.turn == 1 and signers_of(postfund) == everybody, "7: the proof is no postfund of everybody")
    require(candidate.turn >= 2, f"7: turn {candidate.turn} has a proof and needs none")
    require({0, len(everybody) - 1} <= signers_of(candidate), f"7: turn {candidate.turn} lacks an app party")
    before, after = (_allocations(state) for state in (postfund, candidate))
    require(len(after) == 2, "7: not two allocations")
    require([a.destination for a in before] == [a.destination for a in after], "7: other destinations")
    require(sum(a.amount for a in before) == sum(a.amount for a in after), "7: another sum")


def _allocations(state: SignedState) -> tuple[Allocation, ...]:
    (exit_,) = decode_outcome(state.outcome)
    return exit_.allocations


def paid_by(state: SignedState) -> tuple[int, ...]:
    """What the two parties get."""
    return tuple(allocation.amount for allocation in _allocations(state))


class _Behind:
    """One channel's money and hubs."""

    def __init__(self) -> None:
        self.milestones: dict[int, SignedState] = {}
        self.guaranteed: set[int] = set()
        self.complete: set[int] = set()
        self.released: set[int] = set()
        self.given_up: set[int] = set()
        self.failed = ""
        self.disputed = False
        self.left = False
        self.settled: SignedState | None = None
        self.paid: tuple[int, ...] | None = None
        self.said: dict[int, Backing] = {}
        self.looked: dict[int, object] = {}


class SimBacking:
    """For virtual channels between nodes 0 and 1 of a `Sim`, through `hubs` who run no app."""

    def __init__(self, sim: Sim, hubs: int = 1, *, fickle: bool = False) -> None:
        self.sim = sim
        self.hubs = tuple(Signer(bytes([0x60 + i]) * 32) for i in range(hubs))
        self.fickle = fickle  # fundings fail, and hubs dispute
        self.behind: dict[bytes, _Behind] = {}
        sim.after_input = self.look

    def open(self, amounts: tuple[int, int] = (7, 3), *, deployment: Deployment | None = None) -> bytes:
        """Node 0 opens a channel with node 1."""
        opener, peer = self.sim.nodes
        hubs = tuple(hub.address for hub in self.hubs)
        return opener.open(
            [peer],
            slots=amounts,
            app_definition=TWO_PARTY_APP,
            hubs=hubs,
            fees=(HUB_FEE,) * len(hubs),
            deployment=deployment,
        )

    # What the app parties say

    def look(self, node: SimNode, channel: bytes) -> None:
        """After an input: what the node's ledgers learn of it."""
        engine = node.engine(channel)
        if engine.state.backed is None:
            return
        behind = self.behind.setdefault(channel, _Behind())
        now = (engine.state.backed, engine.state.head, engine.state.rejected, engine.state.exit_reason)
        if behind.looked.get(node.index) == now:
            return
        behind.looked[node.index] = now
        for state in engine.offered():
            signers = signers_of(state)
            require({0, len(state.participants) - 1} <= signers, f"7: turn {state.turn} is offered half signed")
            known = behind.milestones.setdefault(state.turn, state)
            require(hash_of(known) == hash_of(state), f"2: turn {state.turn} is offered in two ways")
        finals = {paid_by(state) for state in behind.milestones.values() if state.is_final}
        require(len(finals) <= 1, "5: two final states pay differently")
        if engine.state.rejected is not None and behind.milestones:
            require(engine.state.signed_turn <= 1, "8: given up after a batch was signed")
            behind.given_up.add(node.index)
            self.sim.saw("a virtual channel was given up")
        if engine.state.exit_reason and not behind.left:
            behind.left = True
            self._dispute(behind)
        stack = engine.enforceable_stack()
        if stack is not None:
            require_supported(*stack)
            decode_app_data(stack[0].app_data)
        if engine.state.backed.complete:
            require(stack is not None and stack[0].turn >= engine.state.turn, "7: the newest state is not enforceable")

    # What happens

    def step(self, draw: random.Random) -> None:
        """Something comes about in the ledgers, and a node hears how it stands, or does not."""
        for channel, behind in self.behind.items():
            self._happen(channel, behind, draw)
            for node in self.sim.nodes:
                if self.fickle and draw.random() < 0.005:
                    self._leave(node, channel)
                if draw.random() < 0.5:
                    self.tell(node, channel, again=draw.random() < 0.2)

    def tell(self, node: SimNode, channel: bytes, *, again: bool = False) -> None:
        """The node's ledgers say how they stand; `again`: what they said last."""
        if not node.up or channel not in node.drivers:
            return
        behind = self.behind[channel]
        before = behind.said.get(node.index)
        backing = before if again and before is not None else self._backing(behind, node.index)
        behind.said[node.index] = backing
        if again:
            self.sim.saw("a backing was repeated")
        node.input(channel, lambda e, _: e.on_backing(backing))

    def _backing(self, behind: _Behind, index: int) -> Backing:
        stage: Stage = "none"
        if behind.failed:
            stage = "failed"
        elif index in behind.released:
            stage = "released"
        elif behind.disputed:
            stage = "disputed"
        elif any(state.is_final for state in behind.milestones.values()):
            stage = "releasing"
        elif index in behind.complete:
            stage = "complete"
        elif index in behind.guaranteed:
            stage = "guaranteed"
        signatures = tuple((turn, state.signatures) for turn, state in sorted(behind.milestones.items()))
        return Backing(stage, behind.failed, signatures, behind.settled)

    def _leave(self, node: SimNode, channel: bytes) -> None:
        if not node.up or channel not in node.drivers:
            return
        try:
            node.input(channel, lambda e, _: e.leave("its owner says so"))
        except LocalError:
            return

    def _happen(self, channel: bytes, behind: _Behind, draw: random.Random) -> None:
        index = draw.randrange(2)
        final = next((state for state in behind.milestones.values() if state.is_final), None)
        is_complete = 1 in behind.milestones and b"" not in behind.milestones[1].signatures
        if behind.failed or 0 not in behind.milestones:
            return
        if behind.given_up and not is_complete:
            self._fail(behind, "a party gave up")
        elif behind.given_up == {0, 1}:
            self._fail(behind, "both parties gave up")
        elif behind.given_up or (self.fickle and is_complete and final is None and draw.random() < 0.01):
            self._dispute(behind)
        elif behind.disputed and behind.paid is None:
            if draw.random() < 0.3 and not behind.given_up and final is None and not behind.left:
                behind.disputed = False
                self.sim.saw("a dispute of the ledgers was cleared")
            elif draw.random() < 0.3:
                self._settle(channel, behind)
        elif behind.disputed:
            behind.released.add(index)
        elif final is not None:
            self._release(behind, final, index)
        elif is_complete:
            behind.complete.add(index)
        elif self.fickle and (self.hubs or len(behind.guaranteed) < 2) and draw.random() < 0.02:
            self._fail(behind, "a hub has no funds")
        elif index not in behind.guaranteed:
            behind.guaranteed.add(index)
        elif len(behind.guaranteed) == 2 and 1 in behind.milestones:
            behind.milestones[1] = self._with_hubs(behind.milestones[1])

    def _fail(self, behind: _Behind, why: str) -> None:
        behind.failed = why
        behind.paid = paid_by(behind.milestones[0])
        self.sim.saw("a virtual channel was not funded")

    def _dispute(self, behind: _Behind) -> None:
        behind.disputed = True
        self.sim.saw("the ledgers of a virtual channel were disputed")

    def _release(self, behind: _Behind, final: SignedState, index: int) -> None:
        behind.milestones[final.turn] = self._with_hubs(final)
        behind.paid = paid_by(final)
        behind.released.add(index)
        self.sim.saw("a virtual channel was released")

    def _settle(self, channel: bytes, behind: _Behind) -> None:
        """The chain pays what the newest state says that an app party can enforce there. Before a dispute ends
        everybody has heard of it and has shown what it has."""
        for node in self.sim.nodes:
            if not node.up or (channel in node.drivers and not _heard(node.engine(channel).state)):
                return
        stacks = [
            stack
            for node in self.sim.nodes
            if node.up and channel in node.drivers and (stack := node.engine(channel).enforceable_stack()) is not None
        ]
        if not stacks:
            return
        settled, _ = max(stacks, key=lambda stack: (stack[0].is_final, stack[0].turn))
        behind.paid = paid_by(settled)
        self.sim.saw("a virtual channel was settled on chain")
        behind.settled = settled

    def _with_hubs(self, state: SignedState) -> SignedState:
        import msgspec

        state_hash = hash_of(state)
        own = {hub.address: hub.sign(state_hash) for hub in self.hubs}
        pairs = zip(state.participants, state.signatures, strict=True)
        return msgspec.structs.replace(state, signatures=tuple(own.get(p, s) for p, s in pairs))  # type: ignore[call-overload]

    # The end

    def finish(self, honest: list[SimNode]) -> None:
        """Whoever is stuck leaves, and the ledgers settle it."""
        for channel in self.behind:
            for node in honest:
                if channel in node.drivers and node.engine(channel).phase == "closing":
                    self._leave(node, channel)
        self.calm()

    def calm(self, rounds: int = 40) -> None:
        """Nothing fails any more, and everybody hears everything."""
        fickle, self.fickle = self.fickle, False
        draw = random.Random(1)
        for _ in range(rounds):
            self.step(draw)
            self.sim.run()
            for channel in self.behind:
                for node in self.sim.nodes:
                    self.tell(node, channel)
            self.sim.run()
        self.fickle = fickle

    def check_paid(self, node: SimNode, channel: bytes) -> None:
        """Rule 7, in money: what the ledgers paid is what the node has signed and others may have."""
        behind = self.behind.get(channel)
        if behind is None or behind.paid is None or channel not in node.drivers:
            return
        state = node.engine(channel).state
        require(behind.paid in _outcomes(state), f"7: paid {behind.paid}, {node.name} signed {_outcomes(state)}")


def _heard(state: ChannelState) -> bool:
    return state.rejected is not None or (state.backed is not None and state.backed.stage == "disputed")


def _outcomes(state: ChannelState) -> list[tuple[int, ...]]:
    found = [state.setup.unpack(candidate.amounts) for candidate in state.candidates]
    found.append(state.setup.unpack(state.head.amounts) if state.head is not None else state.setup.start_amounts)
    return found
