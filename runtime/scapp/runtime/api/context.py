"""What the handlers of the API work on: the node, its apps, its peers, its database; `compose.py` fills it in."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from scapp.channels.books.info import BooksPort
from scapp.channels.chain.port import ChainService
from scapp.channels.service import NodeService
from scapp.channels.types import ChannelId
from scapp.runtime.api.entries import EntryReader
from scapp.runtime.api.proving import Proving
from scapp.runtime.api.replaying import Replaying
from scapp.runtime.changes import AppEvent
from scapp.runtime.deployments import App, DeploymentStore
from scapp.runtime.documents import DatabaseView, DerivedView, QueryAnswer, VerifyAnswer
from scapp.runtime.follow import Committed
from scapp.runtime.peerbook import PeerBook
from scapp.runtime.progress import Meters
from scapp.runtime.projections import Projections
from scapp.runtime.recovery_documents import BackupView

T = TypeVar("T")


class Derived(Protocol):
    """The database side of a node. `view`, `cursor`, `followed`, `has_all_of` and `schema_of` answer from memory; the
    rest block."""

    def view(self) -> DatabaseView: ...

    def cursor(self, channel_id: ChannelId) -> DerivedView | None: ...

    def followed(self) -> Collection[ChannelId]:
        """Channels with a cursor: those in memory, and those that are over and not in the database to the end."""
        ...

    def has_all_of(self, channel_id: ChannelId) -> bool:
        """Of a channel without a cursor here: is it over, and all of it in the database?"""
        ...

    def schema_of(self, deployment_id: bytes) -> str:
        """Name of the deployment's SQL schema, empty while it is not known."""
        ...

    def prepare(self, app: App) -> str:
        """Make the app's schema, if the database is up; returns its name, else an empty string."""
        ...

    def query(self, sql: str, params: Sequence[Any], rows_max: int, timeout_s: float) -> QueryAnswer:
        """Raises ApiError: bad_sql, timeout or database_down."""
        ...

    def verify(self, channel_id: ChannelId) -> VerifyAnswer:
        """Raises ApiError: refused (nothing derived yet) or database_down."""
        ...

    def app_events(self, channel_id: ChannelId, first_sequence: int, end_sequence: int) -> list[AppEvent]: ...

    def subscribe(self, listener: Callable[[Committed], None]) -> Callable[[], None]:
        """Call `listener`, on the worker's thread, after each commit; returns a function that ends it."""
        ...


class ApiContext(msgspec.Struct, frozen=True, kw_only=True):
    """`listen` is where peers reach the node; `policy` is the accept setting in force; `threads` run what blocks:
    not the loop's own, which the node needs for its log. `meters`: long work;
    `chain`: where channels are funded, if the node has one;
    `books`: its ledgers, which need one.
    `log_failure`: why the log takes no more writes, if so. `backup` writes one to a path, with the keys or without."""

    service: NodeService
    books: BooksPort | None = None
    apps: DeploymentStore
    peers: PeerBook
    derived: Derived
    entries: EntryReader
    proving: Proving
    replaying: Replaying
    projections: Projections
    counters: Callable[[], dict[str, int]]
    home: Path
    listen: str
    policy: str
    version: str
    started_ms: int
    threads: Executor
    meters: Meters
    chain: ChainService | None = None
    log_failure: Callable[[], str] = lambda: ""
    backup: Callable[[Path, bool], BackupView]
    pid: int = msgspec.field(default_factory=os.getpid)

    async def blocking(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a blocking function on the API's threads."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)
