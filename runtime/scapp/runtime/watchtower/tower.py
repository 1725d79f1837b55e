"""A process that answers stale challenges for others, with their dispute packages and no key of theirs.

It needs an account on the chain for the cost of its transactions. Packages come over HTTP (`POST /v1/packages`, with a
token that has the permission `send`) or as files put into its `packages` folder; docs/reference/watchtower.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from scapp.channels.adjudicator_status import Mode
from scapp.channels.chain.port import ChainService
from scapp.channels.errors import LocalError
from scapp.channels.onchain import ChainView
from scapp.channels.types import ChannelId
from scapp.runtime.api.auth import TokenStore
from scapp.runtime.config import parse_listen
from scapp.runtime.disputes.packages import PACKAGE_BYTES_MAX, PackageRefused, PackageStore, answer_to
from scapp.runtime.documents import Document, ErrorBody, ErrorDocument
from scapp.runtime.listening import listening
from scapp.runtime.state_documents import as_text

RESCAN_SECONDS = 5.0
_log = logging.getLogger("scapp.watchtower")


class WatchedView(Document, frozen=True, kw_only=True):
    """One channel: the turn this tower can defend, and how the chain has it (`mode`: open, challenge, finalized)."""

    channel_id: str
    turn: int
    is_final: bool
    mode: str = "unknown"
    turn_record: int | None = None
    finalizes_at_s: int | None = None
    transactions: list[str] = msgspec.field(default_factory=list)


class TowerStatus(Document, frozen=True, kw_only=True):
    """The tower at a glance; `fault` is empty while its chain answers. `balance` in wei, of `account`."""

    chain_id: int
    account: str
    balance: str | None
    head: int | None
    fault: str
    refused_files: dict[str, str]
    channels: list[WatchedView]


class Watchtower:
    """Belongs to one event loop. `chain` is started and stopped here."""

    def __init__(self, chain: ChainService, store: PackageStore) -> None:
        self._chain = chain
        self._store = store
        self._views: dict[ChannelId, ChainView] = {}
        self._told: dict[ChannelId, str] = {}  # what the log says of a challenge already
        self._penniless = False
        self._rescan: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Watch every channel there is a package of. Raises LocalError as `ChainService.start` does."""
        self._load()
        await self._chain.start(self._on_view, self._on_head)
        self._rescan = asyncio.create_task(self._rescan_forever(), name="scapp-packages")

    async def stop(self) -> None:
        """Idempotent."""
        if self._rescan is not None:
            self._rescan.cancel()
            self._rescan = None
        await self._chain.stop()

    def keep(self, data: bytes) -> bool:
        """Take a package; False when one as good is here. Raises PackageRefused."""
        kept = self._store.keep(data)
        if kept is None:
            return False
        known, defence = kept
        for channel in self._store.released(known, defence) if known is not None else ():
            _log.info("channel %s ended off chain: nothing is left to answer", as_text(channel))
            self._forget(channel)
        self._chain.watch(defence.channel, ())
        self._answer(defence.channel)
        return True

    def _load(self) -> None:
        before = dict(self._store.refused)
        self._store.load()
        for name, why in self._store.refused.items():
            if before.get(name) != why:
                _log.warning("packages/%s is not used: %s", name, why)
        for channel in list(self._store.defences):
            self._chain.watch(channel, ())
            self._answer(channel)

    async def _rescan_forever(self) -> None:
        """Files that somebody put into the folder count within seconds."""
        while True:
            await asyncio.sleep(RESCAN_SECONDS)
            try:
                self._load()
            except OSError as error:
                _log.error("the packages cannot be read: %s", error)

    def _on_view(self, channel: ChannelId, view: ChainView) -> None:
        self._views[channel] = view
        self._answer(channel)

    def _on_head(self, _: int) -> None:
        status = self._chain.status()
        if status.balance == 0 and not self._penniless:
            _log.warning("the account %s has no coin: no challenge can be answered", as_text(status.account))
        self._penniless = status.balance == 0
        for channel, view in list(self._views.items()):
            if view.latest.status.finalizes_at:
                self._answer(channel)

    def _answer(self, channel: ChannelId) -> None:
        view, defence, now = self._views.get(channel), self._store.defences.get(channel), self._chain.head_time_s
        if view is None or defence is None or now is None:
            return
        wanted = answer_to(defence, view, now)
        self._chain.want(channel, wanted)
        if wanted:
            self._tell(channel, view, defence.state.turn)
        if view.confirmed.mode(now) is Mode.FINALIZED:
            _log.info("channel %s is finalized: nothing is left to answer", as_text(channel))
            self._forget(channel)

    def _forget(self, channel: ChannelId) -> None:
        self._chain.unwatch(channel)
        self._views.pop(channel, None)
        self._told.pop(channel, None)
        self._store.drop(channel)

    def _tell(self, channel: ChannelId, view: ChainView, turn: int) -> None:
        """Log a challenge and what becomes of the answer, each once."""
        status, sent = view.latest.status, "; ".join(self._sent(channel))
        text = f"a challenge at turn {status.turn_record} stands until block time {status.finalizes_at}"
        text = f"{text}; turn {turn} refutes it" + (f"; {sent}" if sent else "")
        if self._told.get(channel) != text:
            self._told[channel] = text
            _log.warning("channel %s: %s", as_text(channel), text)

    def _sent(self, channel: ChannelId) -> list[str]:
        found = self._chain.transactions(channel)
        return [f"{t.purpose.kind}: {t.status}" + (f", {t.detail}" if t.detail else "") for t in found]

    def status(self) -> TowerStatus:
        """For `GET /v1/status`."""
        chain, now = self._chain.status(), self._chain.head_time_s or 0
        channels = []
        for channel, defence in sorted(self._store.defences.items()):
            view = self._views.get(channel)
            there = None if view is None else view.latest
            channels.append(
                WatchedView(
                    channel_id=as_text(channel),
                    turn=defence.state.turn,
                    is_final=defence.concludes,
                    mode="unknown" if there is None else there.mode(now).value,
                    turn_record=None if there is None else there.status.turn_record,
                    finalizes_at_s=None if there is None else there.status.finalizes_at,
                    transactions=self._sent(channel),
                )
            )
        return TowerStatus(
            chain_id=chain.chain_id,
            account=as_text(chain.account),
            balance=None if chain.balance is None else str(chain.balance),
            head=chain.head,
            fault=chain.fault,
            refused_files=dict(self._store.refused),
            channels=channels,
        )


class TowerServer:
    """The tower's HTTP side: two routes, a bearer token each (`scapp keys token`)."""

    def __init__(self, tower: Watchtower, tokens: TokenStore, listen: str) -> None:
        self._tower = tower
        self._tokens = tokens
        self._listen = listen
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Raises LocalError when the address is taken."""
        app = web.Application(client_max_size=PACKAGE_BYTES_MAX + 1)
        app.router.add_post("/v1/packages", self._guarded("send", self._keep))
        app.router.add_get("/v1/status", self._guarded("read", self._status))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        host, port = parse_listen(self._listen, "--listen")
        site = web.TCPSite(self._runner, host, port)
        with listening("listen", self._listen, "--listen"):
            await site.start()
        bound = self._runner.addresses[0]
        self.url = f"http://{bound[0]}:{bound[1]}"

    async def stop(self) -> None:
        """Idempotent."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _guarded(
        self, permission: str, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def guarded(request: web.Request) -> web.Response:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            record = self._tokens.find(token.strip()) if scheme.lower() == "bearer" else None
            if record is None:
                return _error(401, "unauthorized", "a bearer token of this watchtower is needed")
            if not record.permits(permission):  # type: ignore[arg-type]  # one of the known words
                return _error(403, "forbidden", f"the token lacks the permission {permission!r}")
            try:
                return await handler(request)
            except PackageRefused as error:
                return _error(422, "refused", str(error))

        return guarded

    async def _keep(self, request: web.Request) -> web.Response:
        try:
            data = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise PackageRefused(f"a package has at most {PACKAGE_BYTES_MAX} bytes") from None
        return _json({"kept": self._tower.keep(data)})

    async def _status(self, _: web.Request) -> web.Response:
        return _json(self._tower.status())


def _json(document: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json", status=status)


def _error(status: int, code: str, message: str) -> web.Response:
    return _json(ErrorDocument(error=ErrorBody(code=code, message=message)), status)


def check_tokens(tokens: TokenStore) -> None:
    """Raises LocalError when nobody could send a package."""
    if not any(record.permits("send") for record in tokens.records()):
        raise LocalError("no token may send packages here; make one with `scapp keys token NAME -p send`")
