"""The real HTTP server over a fake node, in a thread, so that synchronous clients and the CLI can be tested."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from scapp.channels.admission import AdmissionError, ChannelContext
from scapp.channels.deployment import Limits
from scapp.channels.types import Address, ChannelId
from scapp.reducers.manifest import Manifest, parse_manifest
from scapp.runtime.api.auth import TokenStore
from scapp.runtime.api.context import ApiContext
from scapp.runtime.api.entries import EntryReader
from scapp.runtime.api.pages import Pages
from scapp.runtime.api.proving import Proving
from scapp.runtime.api.replaying import Replaying
from scapp.runtime.api.server import ApiServer
from scapp.runtime.client import NODE_FILE, Client
from scapp.runtime.config import ApiSettings
from scapp.runtime.deployments import App, DeploymentStore
from scapp.runtime.documents import NodeFile
from scapp.runtime.kernel import Kernel
from scapp.runtime.modules import Modules
from scapp.runtime.peerbook import PeerBook
from scapp.runtime.progress import Meters
from scapp.runtime.projections import Projections, Record
from scapp.runtime.prover import Prover
from scapp.runtime.recovery_documents import BackupView
from tests.support.fake_books import FakeBooks
from tests.support.fake_service import ALICE, BOB, NOW_MS, FakeDerived, FakeService

WASM = b"\x00asm-duel"
RAW_WASM = b"\x00asm-raw"


def manifest_of(name: str, encoding: str = "msgpack") -> Manifest:
    """A small app with one table."""
    document = {
        "name": name,
        "version": "1.2.0",
        "encoding": encoding,
        "tables": [
            {
                "name": "score",
                "key": 1,
                "columns": [
                    {"name": "player", "type": "address"},
                    {"name": "score", "type": "int8"},
                    {"name": "note", "type": "text", "nullable": True},
                ],
            }
        ],
    }
    return parse_manifest(msgspec.json.encode(document))


def inspect(wasm: bytes, limits: Limits) -> Manifest:
    """The check of modules, reduced to names: these tests are not about WebAssembly."""
    if not wasm.startswith(b"\x00asm-"):
        raise ValueError("not a WebAssembly module: it begins with other bytes than 00 61 73 6d")
    name = wasm[5:].decode()
    return manifest_of(name, name if name in ("raw", "json") else "msgpack")


class Harness:
    """A served node. Fields are the parts; `run` does something on the server's event loop."""

    def __init__(self, home: Path, settings: ApiSettings, pages: dict[str, str]) -> None:
        self.home = home
        self.pages = pages
        self.service = FakeService()
        self.books = FakeBooks(ALICE)
        self.derived = FakeDerived()
        self.apps = DeploymentStore(home / "deployments", inspect, lambda: NOW_MS)
        self.peers = PeerBook(home)
        self.tokens = TokenStore(home)
        self.operator = self.tokens.ensure_operator()
        self.settings = settings
        self.meters = Meters()
        projection = Record("duel", bytes(32), bytes(32))  # kept by an earlier start that had a database
        (home / "projections").mkdir(exist_ok=True)
        (home / "projections" / "duel.json").write_bytes(msgspec.json.encode(projection))
        self.modules = Modules(home / "deployments", home / "modules")
        self.log_failure = ""
        self.url = ""
        self.cleanup = ExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None

    def backup(self, target: Path, keys: bool) -> BackupView:
        """Of a node without a log: what was asked for is told back."""
        return BackupView(path=str(target), made_ms=NOW_MS, files=0, bytes=0, channels=0, has_keys=keys)

    @cached_property
    def client(self) -> Client:
        """With the operator's token; closed with the harness."""
        return self.with_token(self.operator)

    def with_token(self, token: str) -> Client:
        return self.cleanup.enter_context(Client(self.url, token, timeout_s=10))

    def deploy(self, wasm: bytes = WASM) -> App:
        return self.apps.add(wasm)

    def channel(self, phase: str = "running", *, number: int = 1, others: tuple[Address, ...] = (BOB,)) -> ChannelId:
        """A channel of the duel app between Alice (here) and Bob."""
        channel_id = ChannelId(bytes([number]) * 32)
        app = self.deploy()
        self.run(lambda: self.service.state(channel_id, (ALICE, *others), app.deployment, phase))
        return channel_id

    def run(self, function: Callable[[], Any]) -> Any:
        async def call() -> Any:
            return function()

        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    @staticmethod
    def _no_kernel(context: ChannelContext) -> Kernel:
        raise AdmissionError("these modules cannot run")

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        self._loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(4, "api") as threads:
            context = ApiContext(
                service=self.service, books=self.books, apps=self.apps, peers=self.peers, derived=self.derived,
                entries=EntryReader(self.service.source), meters=self.meters,
                proving=Proving(
                    Prover(self.service.source, self._no_kernel), self.service.source, self.apps, self.meters
                ),
                projections=Projections(
                    self.home / "projections", self.home / "modules", self.apps, self.service.source, None, ALICE
                ),
                replaying=Replaying(None, None, self.service.source, self.modules, self.meters),
                counters=lambda: self.service.counters(),
                backup=self.backup, log_failure=lambda: self.log_failure,
                home=self.home, listen="127.0.0.1:7420",
                policy="known-deployments", version="0.1.0", started_ms=NOW_MS, threads=threads,
            )  # fmt: skip
            server = ApiServer(context, self.settings, self.tokens, Pages(self.pages))
            await server.start()
            self.url = server.url
            node = NodeFile(pid=1, address="0x" + ALICE.hex(), api=self.url, listen="127.0.0.1:7420", started_ms=NOW_MS)
            (self.home / NODE_FILE).write_bytes(msgspec.json.encode(node))
            ready.set()
            await stop.wait()
            await server.stop()


@contextmanager
def served(home: Path, settings: ApiSettings | None = None, pages: dict[str, str] | None = None) -> Iterator[Harness]:
    """A running server over a fake node, at a free port; `pages` are those it serves."""
    home.mkdir(parents=True, exist_ok=True)
    harness = Harness(home, settings or ApiSettings(listen="127.0.0.1:0", body_bytes_max=200_000), pages or {})
    ready = threading.Event()
    stops: list[asyncio.Event] = []

    async def main() -> None:
        stops.append(asyncio.Event())
        await harness.serve(ready, stops[0])

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="api-harness")
    thread.start()
    try:
        assert ready.wait(10), "the server did not start"
        with harness.cleanup:
            yield harness
    finally:
        if stops and harness._loop is not None:
            harness._loop.call_soon_threadsafe(stops[0].set)
        thread.join(10)
