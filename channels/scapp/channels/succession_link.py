"""Between the channels of one node and their successors: each hears what it has to know of the other.

`node.py` owns one, the simulated node too. What is told is the state after an input whose events are stored, never one
that a crash could take back (safety rule 1).
"""

from __future__ import annotations

from collections.abc import Callable

from scapp.channels.channel.engine import Engine
from scapp.channels.channel.events import SuccessorCreated
from scapp.channels.channel.leaving import undecided
from scapp.channels.channel.retiring import retirement
from scapp.channels.channel.session import Step
from scapp.channels.channel.setup import Setup
from scapp.channels.channel.shares import Renews
from scapp.channels.channel.succession import over, proposal_fault, seen_by_old
from scapp.channels.channel.wishes import grants
from scapp.channels.types import ChannelId


class SuccessionLink:
    """`find` gives a channel's engine, `put` queues an input for one. Belongs to the node's event loop."""

    def __init__(
        self,
        find: Callable[[ChannelId], Engine | None],
        put: Callable[[ChannelId, Callable[[Engine, int], Step]], None],
    ) -> None:
        self._find = find
        self._put = put
        self._renewed: dict[ChannelId, dict[ChannelId, None]] = {}  # the channels that renew each

    def update(self, engine: Engine) -> None:
        """After an input of a funded channel, or when it begins here."""
        setup = engine.state.setup
        if setup.renews is not None:
            self._renewed.setdefault(setup.renews[0], {})[setup.channel_id] = None
            self._tell(engine)
        for channel in self._renewed.get(setup.channel_id, ()):
            successor = self._find(channel)
            if successor is not None:
                self._tell(successor)

    def needs(self, engine: Engine) -> bool:
        """Does the channel that this one renews, or one that renews it, still hear of it?"""
        setup = engine.state.setup
        others = [*self._renewed.get(setup.channel_id, ()), *(setup.renews[:1] if setup.renews is not None else ())]
        found = (self._find(each) for each in others)
        return any(each is not None and retirement(each.state) is None for each in found)

    def drop(self, engine: Engine) -> None:
        """The channel is over and leaves memory."""
        setup = engine.state.setup
        self._renewed.pop(setup.channel_id, None)
        if setup.renews is not None:
            self._renewed.get(setup.renews[0], {}).pop(setup.channel_id, None)

    def successor_of(self, channel: ChannelId) -> Engine | None:
        """The channel that renews this one and was not given up."""
        found = (self._find(each) for each in self._renewed.get(channel, ()))
        return next((each for each in found if each is not None and each.state.rejected is None), None)

    def proposal_fault(self, new: Setup) -> str:
        """Why a channel that is proposed here cannot take over what it says it does, or an empty string."""
        if new.renews is None:
            return ""
        old = self._find(new.renews[0])
        if old is None:
            return f"channel 0x{new.renews[0].hex()}, which it renews, is not here"
        other = self.successor_of(new.renews[0])
        if other is not None:
            return f"the channel that it renews is being renewed by 0x{other.state.setup.channel_id.hex()}"
        return proposal_fault(old.state, new)

    def asked_for(self, created: SuccessorCreated) -> Renews:
        """ "asked" for a proposed successor that is just what this node's operator has asked for, else "proposed"."""
        old = self._find(ChannelId(created.renews))
        granted = old is not None and grants(old.state, old.session, Setup(created), created.prefund.entries[0])
        return "asked" if granted else "proposed"

    def _tell(self, successor: Engine) -> None:
        """Both of them what has changed."""
        setup = successor.state.setup
        assert setup.renews is not None
        old = self._find(setup.renews[0])
        if old is None:
            return
        now, known = seen_by_old(successor.state, successor.session, old.state.setup), old.session.successor
        if now != known and (known is None or known.channel == setup.channel_id):  # one at a time
            self._put(setup.renews[0], lambda engine, _: engine.on_successor(now))
        reason = (over(old.state, successor.state) or undecided(old.session, now)) if now is not None else ""
        if reason:
            self._put(setup.channel_id, lambda engine, _: engine.on_renewed(reason))
