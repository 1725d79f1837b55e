"""What others propose: refused when it is not allowed, begun when policy accepts it, else left to the operator."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec

from scapp.channels.backing_link import BackingLink
from scapp.channels.chain_link import ChainLink
from scapp.channels.channel.engine import Engine
from scapp.channels.channel.events import ChannelCreated, SuccessorCreated, VirtualCreated, decode_event, encode_event
from scapp.channels.channel.messages import AnyMessage, Proposal, Rejected, encode_message
from scapp.channels.channel.opening import created_from_proposal
from scapp.channels.channel.setup import Setup
from scapp.channels.deployment import Deployment, Limits
from scapp.channels.driver import ChannelDriver
from scapp.channels.errors import PeerError
from scapp.channels.log.port import Append, StreamWrite
from scapp.channels.runner import ChannelRunner, Shared
from scapp.channels.service import Policy
from scapp.channels.succession_link import SuccessionLink
from scapp.channels.transport.limits import frame_bytes_for
from scapp.channels.types import ZERO_ADDRESS, Address

logger = logging.getLogger("scapp.node")

PROPOSALS_MAX = 256  # waiting for the operator; anybody with a key may propose, and each proposal is stored
PROPOSALS_PER_PEER_MAX = 16


class Proposals:
    """Belongs to the node's event loop. `runners` are the node's channels, `begin` adds one."""

    def __init__(
        self,
        shared: Shared,
        policy: Policy,
        chain: ChainLink,
        backing: BackingLink,
        succession: SuccessionLink,
        frame_bytes_max: int,
        runners: Mapping[bytes, ChannelRunner],
        begin: Callable[[ChannelDriver], ChannelRunner],
    ) -> None:
        self._shared = shared
        self._policy = policy
        self._chain = chain
        self._backing = backing
        self._succession = succession
        self._frame_bytes_max = frame_bytes_max
        self._runners = runners
        self._begin = begin
        self._creating: set[bytes] = set()  # proposals that are being checked
        self.restored_ms = 0  # when this node was restored from a backup; older openings are turned down (rule 9)

    async def receive(self, peer: Address, message: AnyMessage) -> None:
        """A message of a channel that is not here. Raises PeerError when it proposes none."""
        if not isinstance(message, Proposal):
            raise PeerError(f"{type(message).__name__} for unknown channel 0x{message.channel.hex()}")
        if message.participants[0] != peer:
            raise PeerError(f"proposes a channel of 0x{message.participants[0].hex()}")
        if message.channel in self._creating:
            raise PeerError(f"proposes channel 0x{message.channel.hex()} a second time, before the first is decided")
        self._creating.add(message.channel)
        try:
            await self._proposed(peer, message)
        finally:
            self._creating.discard(message.channel)

    async def _proposed(self, peer: Address, message: Proposal) -> None:
        shared = self._shared
        if shared.log.version(message.channel):
            raise PeerError(f"channel 0x{message.channel.hex()} was here before and cannot be opened")
        waiting = [r for r in self._runners.values() if r.engine.state.phase == "proposed"]
        if len(waiting) >= PROPOSALS_MAX or sum(r.participants[0] == peer for r in waiting) >= PROPOSALS_PER_PEER_MAX:
            raise PeerError(f"{len(waiting)} proposed channels wait for the operator already")
        created = created_from_proposal(message, shared.signer.address, shared.clock_ms())
        setup = Setup(created)
        deployment = setup.deployment
        fault = self.frame_fault(deployment.limits) or self._succession.proposal_fault(setup)
        if fault:  # a successor may be asked for before its channel stands here where it stands there: it comes again
            raise PeerError(f"proposed channel is not allowed: {fault}")
        virtual = isinstance(created, VirtualCreated)
        fault = self._backing.proposal_fault(created) if virtual else self._chain.proposal_fault(created)
        if not fault and message.time_ms <= self.restored_ms:
            # It may have lived here before, after the backup; a log without it must not sign its first turns again.
            fault = f"opened before this node was restored, at {self.restored_ms} ms"
        if fault:
            self._turn_down(peer, message, fault)
            return
        decision = self._decide(peer, deployment, created)
        if decision.startswith("reject"):
            self._turn_down(peer, message, _reason(decision) or "not accepted here")
            return
        await shared.store(Append((StreamWrite(message.channel, 0, (encode_event(created),)),)), durable=True)
        runner = self._begin(ChannelDriver(Engine.created(created, shared.signer, shared.terms), 1))
        runner.engine.session.asked = _reason(decision)
        runner.tell("proposed", f"by 0x{peer.hex()}")
        if decision == "accept":
            await runner.input(lambda engine, _: engine.accept())

    def _decide(self, peer: Address, deployment: Deployment, created: ChannelCreated) -> str:
        decision = self._policy.decide(peer, deployment, created)
        if decision == "accept" and created.app_definition != ZERO_ADDRESS:
            stakes = self._chain.stakes(created)
            if isinstance(created, SuccessorCreated):
                stakes = msgspec.structs.replace(stakes, renews=self._succession.asked_for(created))
            return self._policy.decide_funding(stakes)
        return decision

    async def explain(self, runner: ChannelRunner) -> None:
        """After a restart, of a channel that is proposed: why it waits, as policy says it now. What it would accept by
        now waits all the same: it was left to the operator, who may have begun to think about it."""
        setup = runner.engine.state.setup
        if runner.engine.state.phase != "proposed":
            return
        page = await asyncio.to_thread(lambda: next(iter(self._shared.log.read(setup.channel_id))))
        created = decode_event(page.events[0])
        assert isinstance(created, ChannelCreated)
        runner.engine.session.asked = _reason(self._decide(setup.participants[0], setup.deployment, created))

    def frame_fault(self, limits: Limits) -> str:
        """Why batches under these limits could not be sent, or an empty string."""
        needed = frame_bytes_for(limits)
        if needed <= self._frame_bytes_max:
            return ""
        return (
            f"a batch of {limits.batch_entries_max} entries and {limits.batch_bytes_max} bytes may need a message of "
            f"{needed} bytes; this node's frames hold {self._frame_bytes_max} (node.frame_bytes_max)"
        )

    def _turn_down(self, peer: Address, message: Proposal, reason: str) -> None:
        """Nothing is stored for a proposal that policy turns down: nothing was signed."""
        self._shared.counters["proposals_rejected"] += 1
        logger.warning("peer 0x%s: proposal rejected: %s", peer.hex(), reason)
        answer = encode_message(Rejected(message.channel, reason[:1024]))
        self._shared.send(peer, answer)


def _reason(decision: str) -> str:
    return decision.partition(":")[2].strip()
