"""One watchtower process out of its parts: lock, chain key, log of its transactions, packages, HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

from scapp.channels.errors import LocalError
from scapp.channels.log.rocks import RocksLog
from scapp.runtime import logs
from scapp.runtime.api.auth import TokenStore
from scapp.runtime.chain_setup import chain_settings, no_challenges, open_chain
from scapp.runtime.config import Config
from scapp.runtime.disputes.packages import PackageStore
from scapp.runtime.home_lock import lock_home
from scapp.runtime.key_passwords import ask_password
from scapp.runtime.keys_file import CHAIN_KEY, require_key
from scapp.runtime.state_documents import as_text
from scapp.runtime.watchtower.tower import TowerServer, Watchtower, check_tokens

Ready = Callable[[str, str, int], None]


def run_watchtower(home: Path, config: Config, listen: str, channels_max: int, on_ready: Ready) -> None:
    """Run until SIGTERM or SIGINT; `on_ready` gets URL, account and number of channels. Raises LocalError, OSError."""
    logs.configure(config.log.level, config.log.format, config.log.levels)
    asyncio.run(_until_told(home.absolute(), config, listen, channels_max, on_ready))


async def _until_told(home: Path, config: Config, listen: str, channels_max: int, on_ready: Ready) -> None:
    told = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, told.set)
    async with contextlib.AsyncExitStack() as undo:
        tokens, log = _open(home, undo)
        chain = open_chain(config.chain, home, log, lambda: ask_password(config, CHAIN_KEY), no_challenges)
        if chain is None:
            raise LocalError(f"no chain to watch: chain.urls is empty (settings of {home})")
        apps = chain_settings(config.chain).apps
        store = PackageStore(home / "packages", chain.chain_id, chain.adjudicator, channels_max, apps)
        tower = Watchtower(chain, store)
        undo.push_async_callback(tower.stop)
        await tower.start()
        server = TowerServer(tower, tokens, listen)
        undo.push_async_callback(server.stop)
        await server.start()
        on_ready(server.url, as_text(chain.status().account), len(store.defences))
        await told.wait()


def _open(home: Path, undo: contextlib.AsyncExitStack) -> tuple[TokenStore, RocksLog]:
    """The directory, for this process alone. The log holds its transactions, so that each is sent once."""
    require_key(home, CHAIN_KEY)  # without one the directory need not be there, and is left as it is
    undo.callback(lock_home(home))
    tokens = TokenStore(home)
    check_tokens(tokens)
    (home / "log").mkdir(mode=0o700, exist_ok=True)
    log = RocksLog(home / "log")
    undo.callback(log.close)
    return tokens, log
