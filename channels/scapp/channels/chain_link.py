"""Between a node's funded channels and its chain service: views in, wants out. `node.py` owns one `ChainLink`.

`chain_desk.py` keeps what is neither taken nor answered yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from scapp.channels.abi import group_slots
from scapp.channels.chain.port import ChainService
from scapp.channels.chain_desk import ChainDesk
from scapp.channels.channel.engine import Engine
from scapp.channels.channel.events import ChannelCreated
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.session import NOTHING, Step
from scapp.channels.channel.setup import Setup
from scapp.channels.channel.shares import Stakes, brought, put_up
from scapp.channels.channel.succession import redirected
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.errors import LocalError
from scapp.channels.runner import ChannelRunner
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId, Destination

logger = logging.getLogger("scapp.chain")

OVER = frozenset(("proposed", "rejected", "settled"))


def at_stake_in(state: ChannelState) -> dict[Address, int]:
    """What this node has in a funded channel, by asset."""
    setup, shares, head = state.setup, state.setup.shares, state.head
    if shares is None or head is None:
        return brought(setup.slots, setup.my_index)
    return put_up(shares, setup.my_index, setup.unpack(head.amounts), state.allowances)


class ChainLink:
    """Belongs to the node's event loop. `runners` gives the node's channels, each time it is asked."""

    def __init__(
        self,
        chain: ChainService | None,
        terms: ChainTerms,
        runners: Callable[[], Iterable[ChannelRunner]],
        clock_ms: Callable[[], int],
    ) -> None:
        self._chain = chain
        self.desk = ChainDesk(chain) if chain is not None else None
        self.terms = terms
        self._runners = runners
        self._clock_ms = clock_ms
        self._watched: dict[ChannelId, ChannelRunner] = {}
        self._warned = False

    @property
    def head_time_s(self) -> int:
        """Timestamp of the chain's newest block, 0 until it is known."""
        return self.desk.head_time_s if self.desk is not None else 0

    async def start(self) -> None:
        """Watch what is there and connect. Raises LocalError for a wrong chain."""
        for runner in self._runners():
            self.update(runner)
        if self.desk is not None:
            self.desk.on_head.append(self._on_head)
            await self.desk.start()

    async def stop(self) -> None:
        if self.desk is not None:
            await self.desk.stop()

    # What may be opened

    def app_definition(self, fund: str, challenge_duration_s: int) -> Address:
        """The app definition of a channel that this node opens. Raises LocalError when it cannot be funded so."""
        if fund == "none":
            return ZERO_ADDRESS
        if fund != "direct":
            raise LocalError(f"fund is {fund!r}; allowed are 'none', 'direct' and 'virtual'")
        fault = self._fault(challenge_duration_s)
        if fault:
            raise LocalError(fault)
        return self._connected().consensus_app

    def proposal_fault(self, created: ChannelCreated) -> str:
        """Why a channel proposed to this node cannot be funded here, or an empty string."""
        if created.app_definition == ZERO_ADDRESS:
            return ""
        if self._chain is not None and created.app_definition != self._chain.consensus_app:
            return (
                f"app definition 0x{created.app_definition.hex()} is not the app that this node's chain has, "
                f"0x{self._chain.consensus_app.hex()}"
            )
        return self._fault(created.challenge_duration)

    def stakes(self, created: ChannelCreated) -> Stakes:
        """What is to be known of a proposed funded channel before it is accepted."""
        setup = Setup(created)
        others = tuple(setup.participants[index] for index in setup.others)
        at_stake: dict[Address, dict[Address, int]] = {other: {} for other in others}
        for runner in self._runners():
            state = runner.engine.state
            if not state.setup.funded or state.phase in OVER or redirected(state):
                continue
            for asset, amount in at_stake_in(state).items():
                for other in set(others) & set(state.setup.participants):
                    at_stake[other][asset] = at_stake[other].get(asset, 0) + amount
        pays_to = tuple(
            Destination(destination)
            for _, group in group_slots(setup.slots)
            for _, destination, _ in group[setup.my_index : setup.my_index + 1]
        )
        return Stakes(brought(setup.slots, setup.my_index), pays_to, others, at_stake)

    def _fault(self, challenge_duration_s: int) -> str:
        if self._chain is None:
            return "this node has no chain: only unfunded channels can be opened"
        return self.terms.duration_fault(challenge_duration_s)

    def _connected(self) -> ChainService:
        if self._chain is None:
            raise LocalError("this node has no chain")
        return self._chain

    # Of one channel

    def leave(self, engine: Engine, reason: str) -> Step:
        """Leave a channel by a challenge. Raises LocalError."""
        self._connected()
        return engine.leave(reason)

    def update(self, runner: ChannelRunner) -> None:
        """After an input of a funded channel: watch it as long as it needs the chain, and say what it wants there."""
        state, desk = runner.engine.state, self.desk
        if desk is None or state.setup.shares is None or state.phase == "proposed":
            return
        channel = state.setup.channel_id
        if state.phase == "rejected" or (state.phase == "settled" and not desk.is_under_way(channel)):
            self._watched.pop(channel, None)
            desk.forget(channel)
            return
        if channel not in self._watched:
            self._watched[channel] = runner
            since = state.chain.confirmed.block if state.chain is not None else 0
            show = lambda: runner.try_input(lambda engine, _: self._take(engine))  # noqa: E731 - it closes over one
            renews = state.setup.renews
            desk.watch(channel, state.setup.shares.assets, since, show, renews[0] if renews is not None else None)
        if runner.engine.session.seen_at_s:  # silence, unlike wanting nothing, cancels nothing sent by an earlier run
            desk.want(channel, runner.engine.wanted(self.head_time_s, self._clock_ms()))

    def follows(self, channel: ChannelId) -> bool:
        """Is the channel watched on chain?"""
        return channel in self._watched

    # What the chain says

    def _take(self, engine: Engine) -> Step:
        channel, desk = engine.state.setup.channel_id, self.desk
        view = desk.view(channel) if desk is not None else None
        if desk is None or view is None:
            return NOTHING
        step = engine.on_chain(view, self.head_time_s)
        desk.taken(channel)
        return step

    def _on_head(self, head_time_s: int) -> None:
        self._check_delay()
        for runner in list(self._watched.values()):
            runner.try_input(lambda engine, now_ms: engine.tick(now_ms, head_time_s))

    def _check_delay(self) -> None:
        """Said once: who gives the others less time than a confirmation takes pays for transactions that are theirs,
        and takes an outcome for final while a reorganisation may still change it."""
        takes_s = self.desk.confirming_s if self.desk is not None else None
        if not self._warned and takes_s is not None and self.terms.conclude_delay_s < takes_s:
            self._warned = True
            logger.warning(
                "disputes.conclude_delay_s is %d; a block of this chain took %d s to be confirmed: take more than that",
                self.terms.conclude_delay_s, takes_s,
            )  # fmt: skip
