"""Channels that this node opens itself: those that a local caller asks for, and successors of channels that run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from scapp.channels.admission import AdmissionError
from scapp.channels.backing_link import BackingLink
from scapp.channels.chain_link import ChainLink
from scapp.channels.channel import wishes
from scapp.channels.channel.engine import Engine
from scapp.channels.channel.events import ChannelCreated
from scapp.channels.channel.opening import open_signed
from scapp.channels.channel.setup import Setup
from scapp.channels.drafting import draft, draft_successor
from scapp.channels.driver import ChannelDriver
from scapp.channels.errors import LocalError
from scapp.channels.proposals import Proposals
from scapp.channels.runner import ChannelRunner, Shared
from scapp.channels.service import OpenRequest
from scapp.channels.succession_link import SuccessionLink
from scapp.channels.types import Address, ChannelId
from scapp.channels.virtual.agreement import nonce_at

STANDSTILL_SECONDS = 30.0  # for what is in flight when a successor is asked for


class Openings:
    """Belongs to the node's event loop. `runners` are its channels, `begin` adds one, `nonce` gives fresh numbers."""

    def __init__(
        self,
        shared: Shared,
        chain: ChainLink,
        backing: BackingLink,
        proposals: Proposals,
        succession: SuccessionLink,
        runners: Mapping[bytes, ChannelRunner],
        begin: Callable[[ChannelDriver], ChannelRunner],
        nonce: Callable[[], int],
    ) -> None:
        self._shared = shared
        self._chain = chain
        self._backing = backing
        self._proposals = proposals
        self._succession = succession
        self._runners = runners
        self._begin = begin
        self._nonce = nonce

    async def open(self, request: OpenRequest) -> ChannelId:
        """Propose a channel; durable and on its way when it returns. Raises LocalError."""
        fault = self._proposals.frame_fault(request.deployment.limits)
        if fault:
            raise LocalError(fault)
        now = self._shared.clock_ms()
        nonce = self._nonce() if request.nonce is None else request.nonce
        if request.nonce is None and request.fund == "virtual":
            nonce = nonce_at(now, nonce)
        virtual = request.fund == "virtual"
        app = (
            self._backing.app_definition()
            if virtual
            else self._chain.app_definition(request.fund, request.challenge_duration)
        )
        return await self._open(draft(request, self._shared.signer.address, app, nonce, now))

    async def resize(self, old: ChannelRunner, withdrawn: Mapping[Address, int], params: Any) -> ChannelId | None:
        """Propose a successor of a channel that this node orders, in which everybody who has asked for it takes
        something out; in another's channel ask participant 0 for that, and return None. Raises LocalError."""
        me = old.engine.state.setup.my_index
        if me != 0:
            if params is not None:
                raise LocalError("params are the sequencer's to say, which proposes the successor")
            await old.input(lambda engine, _: wishes.ask(engine.state, engine.session, withdrawn))
            return None
        channel = old.channel_id
        await old.input(lambda engine, _: engine.stand_still(resizing=True))
        try:
            if not await old.wait_until(lambda engine: not engine.state.candidates, STANDSTILL_SECONDS):
                raise LocalError("what is in flight is not signed by everybody yet; try again later")
            state, asked = old.engine.state, old.engine.session.wishes
            wanted = {index: wish for index, wish in asked.items() if not wishes.fault(state, index, wish)}
            if withdrawn:
                wanted[me] = dict(withdrawn)
            other = self._succession.successor_of(channel)
            if other is not None:
                raise LocalError(f"channel 0x{other.state.setup.channel_id.hex()} is to renew it already")
            created = draft_successor(state, wanted, params, self._nonce(), self._shared.clock_ms())
            return await self._open(created)
        finally:  # the successor, if there is one, has told its channel before
            await old.input(lambda engine, _: engine.stand_still(resizing=False))

    async def _open(self, created: ChannelCreated) -> ChannelId:
        setup = Setup(created)
        fault = self._backing.fault(setup) if setup.virtual else ""
        if fault:
            raise LocalError(fault)
        if setup.channel_id in self._runners or self._shared.log.version(setup.channel_id):
            raise LocalError(f"channel 0x{setup.channel_id.hex()} exists already; choose another nonce")
        admission = self._shared.admission
        try:
            await asyncio.to_thread(admission.load, setup.context, ())
            result = await asyncio.to_thread(
                admission.try_batch, setup.channel_id, 0, created.prefund.entries, strict=True
            )
            created = open_signed(created, self._shared.signer, result)
        except (AdmissionError, LocalError) as error:
            await asyncio.to_thread(admission.unload, setup.channel_id)
            raise LocalError(str(error)) from error
        runner = self._begin(
            ChannelDriver(Engine.created(created, self._shared.signer, self._shared.terms), 0, unstored=created)
        )
        runner.base.loaded = True
        await runner.input(lambda engine, _: engine.opened())
        return setup.channel_id
