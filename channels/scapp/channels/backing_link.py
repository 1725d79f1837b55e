"""Between a node's virtual channels and its ledgers: states out, backings in. `node.py` owns one `BackingLink`.

As in `chain_link.py` nothing is kept here that a restart would miss: every channel that is not over is opened again,
and everything both sides say may be said again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping

from scapp.channels.backing import Backing, BackingSource
from scapp.channels.channel.engine import Engine
from scapp.channels.channel.events import ChannelCreated
from scapp.channels.channel.model import Backed, ChannelState
from scapp.channels.channel.session import NOTHING, Step
from scapp.channels.channel.setup import Setup
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.errors import LocalError
from scapp.channels.runner import ChannelRunner
from scapp.channels.types import Address, ChannelId

logger = logging.getLogger("scapp.node")


class BackingLink:
    """Belongs to the node's event loop. `runners` are the node's channels in memory by id, `archive` those that
    were left on the disk, `find` gives one of either."""

    def __init__(
        self,
        source: BackingSource | None,
        terms: ChainTerms,
        runners: Mapping[bytes, ChannelRunner],
        archive: Container[bytes],
        find: Callable[[ChannelId], ChannelRunner | None],
    ) -> None:
        self._archive = archive
        self._find = find
        self._source = source
        self._terms = terms
        self._runners = runners
        self._told: dict[ChannelId, tuple[Backed | None, str, str]] = {}  # what the ledgers know of each channel
        self._news: dict[ChannelId, Backing] = {}  # the newest one that its channel has not taken yet

    def start(self) -> None:
        """Listen to the ledgers, and tell them of every channel that is not over."""
        if self._source is not None:
            self._source.start(self._on_backing)
            for runner in list(self._runners.values()):
                if runner.engine.state.setup.virtual:
                    self.update(runner)

    # What may be opened

    def app_definition(self) -> Address:
        """The app definition of a virtual channel that this node opens. Raises LocalError when it has no ledgers."""
        return self._connected().app_definition

    def fault(self, setup: Setup) -> str:
        """Why this node cannot have such a virtual channel, or an empty string."""
        if self._source is None:
            return "this node has no ledgers: no virtual channel can be opened"
        if setup.fixed.app_definition != self._source.app_definition:
            return (
                f"app definition 0x{setup.fixed.app_definition.hex()} is not the app for two parties of this node's "
                f"chain, 0x{self._source.app_definition.hex()}"
            )
        return self._terms.duration_fault(setup.fixed.challenge_duration) or self._source.fault(setup.virtual_terms)

    def proposal_fault(self, created: ChannelCreated) -> str:
        """The same of a channel proposed to this node."""
        return self.fault(Setup(created))

    def _connected(self) -> BackingSource:
        if self._source is None:
            raise LocalError("this node has no ledgers")
        return self._source

    # Of one channel

    def leave(self, engine: Engine, reason: str) -> Step:
        """Leave a channel by way of the ledgers. Raises LocalError."""
        self._connected()
        return engine.leave(reason)

    def update(self, runner: ChannelRunner) -> None:
        """After an input of a virtual channel: tell the ledgers what has become of it, and it what they have said."""
        state = runner.engine.state
        channel = state.setup.channel_id
        if channel in self._news:  # its inbox was full
            self._show(channel)
        now = (state.backed, state.rejected or "", state.exit_reason)
        before = self._told.get(channel)
        if self._source is None or (before is not None and before[0] is now[0] and before[1:] == now[1:]):
            return
        self._told[channel] = now
        self._tell(self._source, runner.engine, before)

    def _tell(self, source: BackingSource, engine: Engine, before: tuple[Backed | None, str, str] | None) -> None:
        state = engine.state
        channel = state.setup.channel_id
        if not _is_begun(state) or (state.backed is not None and state.backed.stage == "released"):
            return
        if state.rejected is not None:
            source.give_up(channel, state.rejected)
            return
        states = engine.offered()
        if not states:
            return
        if before is None or not _has_prefund(before[0]):
            if states[0].turn == 0:
                source.open(state.setup.virtual_terms, states)
            else:  # restored to a later one: the neighbours tell the ledgers of the channel, with its prefund state
                source.offer(channel, states)
        elif before[0] is None or state.backed is None or _own(before[0]) != _own(state.backed):
            source.offer(channel, states)
        if state.exit_reason and (before is None or not before[2]):
            source.dispute(channel, state.exit_reason)

    # What the ledgers say

    def _on_backing(self, channel: ChannelId, backing: Backing) -> None:
        if backing.stage == "released" and channel in self._archive:
            return  # it knows that, or it would not be there
        self._news[channel] = backing
        self._show(channel)

    def has_news(self, channel: ChannelId) -> bool:
        """Have the ledgers said something that the channel has not taken yet?"""
        return channel in self._news

    def drop(self, channel: ChannelId) -> None:
        """The channel is over and leaves memory."""
        self._told.pop(channel, None)

    def _show(self, channel: ChannelId) -> None:
        runner = self._find(channel)
        if runner is not None:
            runner.try_input(lambda engine, _: self._take(engine))

    def _take(self, engine: Engine) -> Step:
        channel = engine.state.setup.channel_id
        backing = self._news.pop(channel, None)
        if backing is None:
            return NOTHING
        try:
            return engine.on_backing(backing)
        except LocalError as error:
            logger.error("channel 0x%s: what the ledgers say of it cannot be: %s", channel.hex(), error)
            return NOTHING


def _has_prefund(backed: Backed | None) -> bool:
    return backed is not None and bool(backed.signed)


def _is_begun(state: ChannelState) -> bool:
    """Have both app parties signed the prefund state, so that the ledgers may know the channel?"""
    return _has_prefund(state.backed)


def _own(backed: Backed) -> list[int]:
    """The turns that both app parties have signed."""
    return [turn for turn, signatures in backed.signed if signatures[0] and signatures[-1]]
