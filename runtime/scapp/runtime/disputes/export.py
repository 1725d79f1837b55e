"""Keeps the dispute package of every funded channel current: as a file, and at watchtowers.

A package is made anew from the log whenever it is asked for, so nothing here is durable by itself: a tower that was
away gets the newest one, not those it missed.
"""

from __future__ import annotations

import asyncio
import logging
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path

import aiohttp

from scapp.channels.books.defending import Defences
from scapp.channels.chain.rpc_link import shown_endpoint
from scapp.channels.crypto import keccak256
from scapp.channels.errors import ScappError
from scapp.channels.service import NodeEvent, NodeService
from scapp.channels.types import Address, ChannelId
from scapp.runtime.disputes.packages import encode_package, make_package, make_stack_package
from scapp.runtime.keys_file import write_private
from scapp.runtime.state_documents import as_text

_NEWS = frozenset(("opened", "supported", "closed", "funded", "settled", "paid"))
_GATHER_S = 1.0
_RETRY_S, _RETRY_MAX_S = 5.0, 300.0
_TIMEOUT = aiohttp.ClientTimeout(total=30)
_log = logging.getLogger("scapp.disputes")


class DisputeExport:
    """Belongs to the node's event loop. `folder` gets one file per channel, gone once the channel is settled."""

    def __init__(
        self,
        service: NodeService,
        defences: Defences | None,
        chain_id: int,
        adjudicator: Address,
        folder: Path,
        towers: tuple[str, ...],
    ) -> None:
        """`defences`: of the node's ledgers; `towers`: `http(s)://TOKEN@host:port`."""
        self._service = service
        self._defences = defences
        self._chain = (chain_id, adjudicator)
        self._folder = folder
        self._towers = [_Tower(url) for url in towers]
        self._changed: set[ChannelId] = set()
        self._newest: dict[ChannelId, bytes] = {}  # what was written last, hashed
        self._wake = asyncio.Event()
        self._end: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with every funded channel that is not settled."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._end = self._service.subscribe(self._hear)
        self._changed |= {info.channel_id for info in self._service.channels() if info.chain is not None}
        archived = {as_text(channel): channel for channel in self._service.archived()}
        left = (archived.get(path.stem) for path in self._folder.glob("*.json"))
        self._changed |= {channel for channel in left if channel is not None}  # the node ended before it took them away
        if self._defences is not None:
            self._defences.on_change.append(self._changed_in_books)
            self._changed.update(self._defences.channels())
        self._wake.set()
        self._task = asyncio.create_task(self._export_forever(), name="scapp-disputes")
        for tower in self._towers:
            tower.start()

    async def stop(self) -> None:
        """What has not reached a tower by then reaches it after the next start. Idempotent."""
        if self._end is not None:
            self._end()
            self._end = None
        tasks = [task for task in (self._task, *(tower.task for tower in self._towers)) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._task = None

    def _hear(self, event: NodeEvent) -> None:
        if event.kind in _NEWS and event.channel_id is not None:
            self._changed.add(event.channel_id)
            self._wake.set()

    def _changed_in_books(self, channels: Iterable[ChannelId]) -> None:
        self._changed.update(channels)
        self._wake.set()

    async def _export_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, set()
            for channel in changed:
                await self._export(channel)
            await asyncio.sleep(_GATHER_S)  # a busy channel is exported once a second, not with every batch

    async def _export(self, channel: ChannelId) -> None:
        path = self._folder / f"{as_text(channel)}.json"
        try:
            data = self._package(channel)
            if data is None:
                await asyncio.to_thread(path.unlink, missing_ok=True)
                self._newest.pop(channel, None)
                return
            if not data or self._newest.get(channel) == (digest := keccak256(data)):
                return
            await asyncio.to_thread(write_private, path, data.decode(), replace=True)
            self._newest[channel] = digest
        except (ScappError, OSError) as error:
            _log.error("channel %s: no dispute package could be written: %s", as_text(channel), error)
            return
        for tower in self._towers:
            tower.push(channel, data)

    def _package(self, channel: ChannelId) -> bytes | None:
        """Its newest package, empty where there is none to write now; None where it needs none any more."""
        defences = self._defences
        if defences is not None and defences.knows(channel):
            if defences.is_over(channel):
                return None
            found = defences.of(channel)
            return encode_package(make_stack_package(*self._chain, found)) if found is not None else b""
        info = self._service.channel(channel)
        if info.chain is None:
            return b""
        if info.chain.settled:
            return None
        signed = self._service.enforceable_state(channel)
        return encode_package(make_package(*self._chain, signed)) if signed is not None else b""


class _Tower:
    """One watchtower; what it has not taken yet, the newest package of each channel."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self._url = urllib.parse.urlunsplit((parts.scheme, host, parts.path.rstrip("/") + "/v1/packages", "", ""))
        self._headers = {"Authorization": f"Bearer {urllib.parse.unquote(parts.username or '')}"}
        self.name = shown_endpoint(url)
        self.task: asyncio.Task[None] | None = None
        self._waiting: dict[ChannelId, bytes] = {}
        self._wake = asyncio.Event()
        self._fault = ""

    def start(self) -> None:
        self.task = asyncio.create_task(self._push_forever(), name=f"scapp-tower-{self.name}")

    def push(self, channel: ChannelId, data: bytes) -> None:
        self._waiting[channel] = data
        self._wake.set()

    async def _push_forever(self) -> None:
        pause = _RETRY_S
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if await self._push_all(session):
                    pause = _RETRY_S
                else:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _RETRY_MAX_S)
                    self._wake.set()

    async def _push_all(self, session: aiohttp.ClientSession) -> bool:
        while self._waiting:
            channel, data = next(iter(self._waiting.items()))
            fault = await self._send(session, data)
            if fault:
                if fault != self._fault:
                    _log.warning("watchtower %s does not take dispute packages: %s", self.name, fault)
                self._fault = fault
                return False
            if self._waiting.get(channel) is data:
                del self._waiting[channel]
        if self._fault:
            _log.info("watchtower %s takes dispute packages again", self.name)
            self._fault = ""
        return True

    async def _send(self, session: aiohttp.ClientSession, data: bytes) -> str:
        """Why it was not taken, or an empty string. A package that the tower refuses is not sent again: it would be
        refused again, and the others wait."""
        try:
            async with session.post(self._url, data=data, headers=self._headers) as response:
                if response.status == 200:
                    return ""
                text = (await response.text())[:500]
                if response.status == 422:
                    _log.error("watchtower %s refuses a dispute package: %s", self.name, text)
                    return ""
                return f"HTTP {response.status}: {text}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return str(error) or type(error).__name__
