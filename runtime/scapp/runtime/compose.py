"""A whole node process from a configuration: the only place that knows all parts. `scapp node` runs it.

Start: lock, key, log, apps, transport, node, API, and last the derivation with its database, in a thread of its
own, because signing must neither wait for a database nor fail with it. Stop: the same backwards. A crash anywhere
is mended by the next start, since each part recovers from its own files.

The directory of a node:

    key or key.json   channel key            log/          event log        node.lock   one process at a time
    scapp.toml        settings, if any       deployments/  apps             node.json   where it answers, while it runs
    tokens.json       API tokens (hashes)    modules/      compiled code    peers.json  peers list
    api.token         operator's API token   pg/           embedded PostgreSQL
    projections/      projections and their modules
    chain-key[.json]  key of the chain account    disputes/  what defends each funded channel
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from scapp.channels.chain.port import ChainService
from scapp.channels.idle import IdleBound
from scapp.channels.log.rocks import RocksLog
from scapp.channels.node import Node
from scapp.channels.service import NodeEvent
from scapp.channels.signing import Signer
from scapp.channels.transport.limits import limits_for_frames
from scapp.channels.transport.tcp import TcpTransport
from scapp.channels.types import Address
from scapp.runtime import logs
from scapp.runtime.admission import ReducerAdmission
from scapp.runtime.api.auth import TokenStore
from scapp.runtime.api.context import ApiContext, Derived
from scapp.runtime.api.derived import DerivedData, NoDatabase
from scapp.runtime.api.entries import EntryReader
from scapp.runtime.api.pages import Pages
from scapp.runtime.api.proving import Proving
from scapp.runtime.api.replaying import Replaying
from scapp.runtime.api.server import ApiServer
from scapp.runtime.backup import backup_view, make_backup
from scapp.runtime.chain_setup import open_chain
from scapp.runtime.client import NODE_FILE
from scapp.runtime.config import Config, parse_listen
from scapp.runtime.database.open import open_backend
from scapp.runtime.database.port import Backend
from scapp.runtime.database.rejections import Rejection
from scapp.runtime.disk_watch import DiskWatch
from scapp.runtime.disputes.export import DisputeExport
from scapp.runtime.documents import NodeFile
from scapp.runtime.home_lock import lock_home
from scapp.runtime.key_passwords import ask_password
from scapp.runtime.keys_file import CHAIN_KEY, CHANNEL_KEY, load_key, require_key
from scapp.runtime.listening import listening
from scapp.runtime.modules import Modules
from scapp.runtime.node_parts import Commits, NodePolicy, books_setup, chain_terms, warnings
from scapp.runtime.peerbook import PeerBook
from scapp.runtime.policy import AcceptPolicy, FundingPolicy
from scapp.runtime.progress import Meters
from scapp.runtime.projections import Projections
from scapp.runtime.prover import Prover
from scapp.runtime.recording import RecordingAdmission
from scapp.runtime.recovery_documents import BackupView
from scapp.runtime.worker import Worker

API_THREADS = 8
_log = logging.getLogger("scapp.process")
_NEWS = frozenset({"opened", "supported", "closed"})


class NodeProcess:
    """One node in this process. `start` returns when everything but the database answers."""

    def __init__(self, home: Path, config: Config, password: Callable[[str], str]) -> None:
        """`password` is asked with the role of an encrypted key (`keys_file.CHANNEL_KEY`, `CHAIN_KEY`)."""
        self.home = home
        self.config = config
        self._password = password
        self._undo = contextlib.AsyncExitStack()
        self._worker: Worker | None = None
        self._backend: Backend | None = None

    async def start(self) -> NodeFile:
        """Raises LocalError, OSError or CorruptionError; what was started by then is stopped again."""
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop everything in reverse order. Idempotent."""
        await self._undo.aclose()

    async def _start(self) -> NodeFile:
        started_ms = now_ms()
        require_key(self.home)  # without one the directory need not be there, and is left as it is
        self._undo.callback(lock_home(self.home))
        secret = load_key(self.home, lambda: self._password(CHANNEL_KEY))
        logs.hide(secret)
        signer = Signer(secret)
        peers = PeerBook(self.home, self.config)
        modules = Modules(self.home / "deployments", self.home / "modules")
        frame_limits = limits_for_frames(self.config.node.frame_bytes_max)
        transport = TcpTransport(signer, *parse_listen(self.config.node.listen, "node.listen"), limits=frame_limits)
        log = self._open_log()
        chain = open_chain(self.config.chain, self.home, log, lambda: self._password(CHAIN_KEY), signer.sign)
        node = await self._start_node(signer, modules, peers, transport, log, chain)
        self._export_disputes(node, chain)
        for warning in warnings(self.config):
            _log.warning("%s", warning)
        disk = asyncio.create_task(DiskWatch(self.home).run(), name="scapp-disk")
        self._undo.callback(disk.cancel)
        meters = Meters()
        derived = self._derivation(node, modules, meters)
        prover = Prover(node.source, modules.admission_kernel)
        self._undo.callback(prover.close)
        replaying = Replaying(self._worker, self._backend, node.source, modules, meters)
        self._undo.callback(replaying.stop)
        projections = self._projections(node, modules)
        context = ApiContext(
            service=node,
            books=node.books,
            apps=modules.store,
            peers=peers,
            derived=derived,
            entries=EntryReader(node.source),
            proving=Proving(prover, node.source, modules.store, meters),
            replaying=replaying,
            projections=projections,
            meters=meters,
            chain=chain,
            counters=lambda: node.counters() | {f"transport_{name}": n for name, n in transport.counters.items()},
            home=self.home,
            listen=transport.endpoint,
            policy=self.config.policy.accept,
            version=own_version(),
            started_ms=started_ms,
            threads=self._threads(),
            log_failure=lambda: self._committer.failure,
            backup=lambda target, keys: self._backup(target, keys, signer.address, meters),
        )
        api = await self._start_api(context)
        if self._worker is not None:
            self._worker.start()
            projections.start()
        return self._announce(
            NodeFile(
                pid=os.getpid(),
                address="0x" + signer.address.hex(),
                api=api,
                listen=transport.endpoint,
                started_ms=started_ms,
            )
        )

    def _open_log(self) -> RocksLog:
        (self.home / "log").mkdir(mode=0o700, exist_ok=True)  # messages are between the participants
        log = self._log = RocksLog(self.home / "log")
        self._undo.callback(log.close)
        return log

    def _export_disputes(self, node: Node, chain: ChainService | None) -> None:
        if chain is None:
            return
        towers = self.config.disputes.watchtowers
        defences = node.books.defences if node.books is not None else None
        export = DisputeExport(node, defences, chain.chain_id, chain.adjudicator, self.home / "disputes", towers)
        export.start()
        self._undo.push_async_callback(export.stop)

    async def _start_node(
        self,
        signer: Signer,
        modules: Modules,
        peers: PeerBook,
        transport: TcpTransport,
        log: RocksLog,
        chain: ChainService | None,
    ) -> Node:
        """Committer, admission, policy and node. Refusals go to the worker as soon as there is one."""
        accounts = [signer.address] if chain is None else [signer.address, chain.status().account]
        committer = self._committer = Commits(log)
        self._undo.callback(committer.close)
        node = Node(
            signer=signer,
            log=log,
            committer=committer,
            transport=transport,
            admission=RecordingAdmission(ReducerAdmission(modules.admission_kernel), self._record),
            policy=NodePolicy(
                AcceptPolicy(self.config.policy, modules.store, peers, signer.address),
                FundingPolicy(self.config.funding, accounts),
            ),
            chain=chain,
            terms=chain_terms(self.config.disputes),
            books=books_setup(self.config, peers, accounts),
            clock_ms=now_ms,
            nonce=lambda: secrets.randbits(63),
            module_of=modules.store.wasm,
            frame_bytes_max=self.config.node.frame_bytes_max,
            idle=IdleBound(self.config.node.channels_in_memory_max, self.config.node.memory_mib_max * 2**20),
        )
        self._undo.push_async_callback(node.stop)
        with listening("node.listen", self.config.node.listen, "--listen"):
            await node.start()
        for peer in peers.all():
            if peer.raw != signer.address:
                node.add_peer(peer.raw, peer.endpoint)
        return node

    def _record(self, rejection: Rejection) -> None:
        if self._worker is not None:
            self._worker.record_rejection(rejection)

    def _derivation(self, node: Node, modules: Modules, meters: Meters) -> Derived:
        """The worker, not started yet, and the API's view of it."""
        backend = self._backend = _backend(self.config, self.home)
        if backend is None:
            return NoDatabase()
        self._worker = worker = Worker(
            node.source,
            backend,
            node.address,
            kernel_for=modules.derivation_kernel,
            manifest_for=modules.manifest_for,
            kernels_max=self.config.database.channels_in_memory_max,
            kernel_bytes_max=self.config.database.memory_mib_max * 2**20,
        )

        def news(event: NodeEvent) -> None:
            if event.kind in _NEWS:
                worker.notify()

        self._undo.push_async_callback(asyncio.to_thread, _stop_database, worker, backend)
        self._undo.callback(node.subscribe(news))
        return DerivedData(worker, backend, node.source, modules, meters)

    def _projections(self, node: Node, modules: Modules) -> Projections:
        """Not started yet; they end before the database does."""
        projections = Projections(
            self.home / "projections", self.home / "modules", modules.store, node.source, self._backend, node.address
        )
        self._undo.push_async_callback(asyncio.to_thread, projections.stop)

        def news(event: NodeEvent) -> None:
            if event.kind in _NEWS:
                projections.notify()

        self._undo.callback(node.subscribe(news))
        return projections

    def _backup(self, target: Path, keys: bool, address: Address, meters: Meters) -> BackupView:
        """On a thread of the API; the node goes on."""
        with meters.running("backup", str(target)) as meter:
            made = make_backup(
                self.home, self._log, target, address="0x" + address.hex(), keys=keys, now_ms=now_ms(),
                scapp=own_version(), meter=meter,
            )  # fmt: skip
        return backup_view(target, made)

    def _threads(self) -> ThreadPoolExecutor:
        """For what blocks in the API; a query that still runs must not hold up the stop."""
        threads = ThreadPoolExecutor(API_THREADS, "scapp-api")
        self._undo.callback(threads.shutdown, wait=False, cancel_futures=True)
        return threads

    async def _start_api(self, context: ApiContext) -> str:
        """Its URL."""
        tokens = TokenStore(self.home)
        logs.hide(tokens.ensure_operator())
        server = ApiServer(context, self.config.api, tokens, Pages(self.config.web))
        self._undo.push_async_callback(server.stop)
        with listening("api.listen", self.config.api.listen, "--api"):
            await server.start()
        return server.url

    def _announce(self, file: NodeFile) -> NodeFile:
        """Write `node.json`, whole or not at all: clients take it as "the node answers"."""
        path = self.home / NODE_FILE
        temporary = path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n")
        temporary.replace(path)
        self._undo.callback(path.unlink, missing_ok=True)
        return file


def _stop_database(worker: Worker, backend: Backend) -> None:
    worker.stop()
    backend.stop()


def _backend(config: Config, home: Path) -> Backend | None:
    database = config.database
    if database.backend == "none":
        return None
    return open_backend(database.url if database.backend == "url" else database.backend, home)


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


def own_version() -> str:
    """The installed version of scapp."""
    try:
        return version("scapp")
    except PackageNotFoundError:
        return "unknown"


def run_node(
    home: Path,
    config: Config,
    on_ready: Callable[[NodeFile], None] = lambda _: None,
    *,
    stop_with_stdin: bool = False,
) -> None:
    """Run a node until SIGTERM or SIGINT (or the end of standard input), then stop it in order. A second signal ends
    the process at once."""
    logs.configure(config.log.level, config.log.format, config.log.levels)
    process = NodeProcess(home.absolute(), config, lambda role: ask_password(config, role))
    asyncio.run(_until_told(process, on_ready, stop_with_stdin))


async def _until_told(process: NodeProcess, on_ready: Callable[[NodeFile], None], stop_with_stdin: bool) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def stop(why: str) -> None:
        _log.info("stopping", extra={"why": why})
        told.set()
        loop.remove_reader(0)
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)

    def read_stdin() -> None:
        if not os.read(0, 4096):
            stop("standard input ended")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    if stop_with_stdin:
        loop.add_reader(0, read_stdin)
    file = await process.start()
    _log.info("node ready", extra={"address": file.address, "api": file.api, "listen": file.listen})
    on_ready(file)
    try:
        await told.wait()
    finally:
        await process.stop()
    _log.info("stopped")
