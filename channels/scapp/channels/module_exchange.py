"""A channel's reducer, fetched from the participant that proposed the channel.

The deployment in the proposal names the module by hash, so what comes is either exactly that module or refused. What
it may do here is the operator's decision: fetching stores nothing and accepts nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from scapp.channels.channel.messages import ModulePart, ModuleWanted, encode_message
from scapp.channels.crypto import keccak256
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.runner import ChannelRunner, Shared

PART_BYTES = 262_144
MODULE_BYTES_MAX = 16_777_216
PROPOSER = 0

ModuleOf = Callable[[bytes], bytes | None]
"""Module bytes by their keccak256, or None; called in a worker thread."""


class _Download:
    def __init__(self) -> None:
        self.data = bytearray()
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()


class ModuleExchange:
    """Belongs to the node's event loop."""

    def __init__(self, shared: Shared, module_of: ModuleOf) -> None:
        self._shared = shared
        self._module_of = module_of
        self._downloads: dict[bytes, _Download] = {}

    async def fetch(self, runner: ChannelRunner, timeout: float) -> bytes:
        """The module of a channel's deployment, from participant 0. Raises LocalError when it does not come in time."""
        reducer = runner.engine.state.setup.deployment.reducer
        own = await asyncio.to_thread(self._module_of, reducer)
        if own is not None:
            return own
        if runner.engine.is_sequencer:
            raise LocalError("this node has proposed the channel itself, yet does not hold its module")
        download = self._downloads.setdefault(runner.channel_id, _Download())
        self._ask(runner, len(download.data))
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(download.done)
        except TimeoutError:
            proposer = runner.participants[PROPOSER]
            raise LocalError(
                f"0x{proposer.hex()} has sent {len(download.data)} bytes of the module in {timeout:g} s; "
                "is it connected? try again"
            ) from None
        finally:
            if not download.done.done() or download.done.exception() is not None:
                self._downloads.pop(runner.channel_id, None)

    def _ask(self, runner: ChannelRunner, first: int) -> None:
        self._shared.send(runner.participants[PROPOSER], encode_message(ModuleWanted(runner.channel_id, first)))

    async def serve(self, runner: ChannelRunner, index: int, message: ModuleWanted) -> None:
        """Send one part to a participant of the channel. Raises PeerError for a part that does not exist."""
        module = await asyncio.to_thread(self._module_of, runner.engine.state.setup.deployment.reducer)
        if module is None or not 0 <= message.first < len(module):
            raise PeerError(f"asks for byte {message.first} of a module that is not here or shorter")
        part = module[message.first : message.first + PART_BYTES]
        answer = ModulePart(runner.channel_id, message.first, len(module), part)
        self._shared.send(runner.participants[index], encode_message(answer))

    def receive(self, runner: ChannelRunner, index: int, message: ModulePart) -> None:
        """Take the next part of a download. Raises PeerError for anything we did not ask for."""
        download = self._downloads.get(runner.channel_id)
        if index != PROPOSER or download is None or message.first != len(download.data):
            raise PeerError("sends a part of a module that was not asked for")
        if not message.data or message.total > MODULE_BYTES_MAX or message.first + len(message.data) > message.total:
            self._fail(runner, download, f"the module would have {message.total} bytes, at most {MODULE_BYTES_MAX} may")
        download.data += message.data
        if len(download.data) < message.total:
            self._ask(runner, len(download.data))
            return
        module = bytes(download.data)
        if keccak256(module) != runner.engine.state.setup.deployment.reducer:
            self._fail(runner, download, f"the module sent is another one, keccak256 0x{keccak256(module).hex()}")
        del self._downloads[runner.channel_id]
        if not download.done.done():
            download.done.set_result(module)

    def _fail(self, runner: ChannelRunner, download: _Download, reason: str) -> None:
        self._downloads.pop(runner.channel_id, None)
        if not download.done.done():
            download.done.set_exception(LocalError(reason))
        raise PeerError(reason)
