"""`ChainService` over any client: one task that looks at the chain, tells what changed, and sends what is wanted.

`connect` makes one over JSON-RPC. The decisions stand in `watcher.py`, `sender.py` and `tending.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from scapp.channels.abi import WORD
from scapp.channels.chain import calls
from scapp.channels.chain.client import ChainClient, Refused, Unavailable, ViewCall, WrongChain
from scapp.channels.chain.key import ChainKey
from scapp.channels.chain.performing import Performer, store, stored
from scapp.channels.chain.port import DISPUTE_GAS, OLD_HEAD_S, ChainStatus, TransactionInfo
from scapp.channels.chain.protection import Found, protection
from scapp.channels.chain.rpc import RpcClient
from scapp.channels.chain.sender import Sender
from scapp.channels.chain.sending import Account
from scapp.channels.chain.settings import ChainSettings
from scapp.channels.chain.watcher import Moved, Watcher
from scapp.channels.errors import LocalError, ScappError
from scapp.channels.log.port import EventLog, LogClosed
from scapp.channels.onchain import ChainView, Protection, Revealed, Transaction
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId, Hash, Signature, coin_text

logger = logging.getLogger("scapp.chain")

PAUSE_S_MAX = 60.0
MOVES_QUIET = 3  # so often the chain may move under a look before that counts as a fault


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class LiveChain:
    """`sign_challenge` signs a challenge hash with the channel key (`signing.Signer.sign`); `key` is the account's.
    `clock_ms` gives milliseconds since 1970: unlike a monotonic clock it goes on while a machine sleeps."""

    def __init__(
        self,
        settings: ChainSettings,
        client: ChainClient,
        log: EventLog,
        key: ChainKey,
        sign_challenge: Callable[[Hash], Signature],
        clock_ms: Callable[[], int] = _now_ms,
    ) -> None:
        self._settings = settings
        self._client = client
        self._log = log
        self._key = key
        account = Account().fold(stored(log))
        self._watcher = Watcher(settings, account.cursor)
        self._sender = Sender(settings, key.address, account, self._watcher.canonical)
        self._clock_ms = clock_ms
        self._followed_ms: int | None = None
        self._performer = Performer(settings, client, log, key, sign_challenge)
        self._on_view: Callable[[ChannelId, ChainView], None] = lambda channel, view: None
        self._on_head: Callable[[int], None] = lambda time_s: None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._sending = asyncio.Lock()
        self._told_head: Hash | None = None
        self._protection: Protection | None = None
        self._balance: int | None = None
        self._gas_price = 0
        self._fault = ""
        self._failures = 0
        self._moves = 0
        self._behind_s: int | None = None
        self._told_old = self._told_poor = False

    @property
    def chain_id(self) -> int:
        return self._settings.chain_id

    @property
    def adjudicator(self) -> Address:
        return self._settings.adjudicator

    @property
    def consensus_app(self) -> Address:
        return self._settings.consensus_app

    @property
    def head_time_s(self) -> int | None:
        head = self._watcher.head
        return None if head is None else head.time_s

    @property
    def followed_ms(self) -> int | None:
        return self._followed_ms

    @property
    def confirming_s(self) -> int | None:
        head, confirmed = self._watcher.head, self._watcher.confirmed
        if head is None or confirmed is None or head.number - confirmed.number < self._settings.confirmations:
            return None
        return head.time_s - confirmed.time_s

    @property
    def gas_price(self) -> int:
        return self._gas_price

    @property
    def protection(self) -> Protection | None:
        return self._protection

    async def start(self, on_view: Callable[[ChannelId, ChainView], None], on_head: Callable[[int], None]) -> None:
        self._on_view, self._on_head = on_view, on_head
        try:
            await self._check()
        except Unavailable as error:
            self._fault = str(error)
        self._task = asyncio.create_task(self._run(), name="chain")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._client.close()

    async def funds(self, asset: Address) -> int:
        if asset == ZERO_ADDRESS:
            return await self._client.balance(self._key.address)
        head = await self._client.head()
        asked = ViewCall(asset, calls.encode_call(calls.BalanceOf(self._key.address)), head.hash)
        (answer,) = await self._client.views([asked])
        if isinstance(answer, Refused) or len(answer) != 32:
            raise LocalError(f"0x{asset.hex()} is no token on chain {self._settings.chain_id}")
        return calls.decode_number(answer)

    def watch(
        self, channel: ChannelId, assets: Sequence[Address], since_block: int = 0, fed_by: ChannelId | None = None
    ) -> None:
        self._watcher.watch(channel, assets, since_block, fed_by)
        self._wake.set()

    def unwatch(self, channel: ChannelId) -> None:
        self._watcher.unwatch(channel)

    def want(self, channel: ChannelId, wanted: Sequence[Transaction]) -> None:
        self._sender.want(channel, wanted)
        self._wake.set()

    async def quiet(self) -> None:
        async with self._sending:
            return

    async def revealed(self, hashes: Sequence[bytes]) -> Revealed:
        app, block = self._settings.hash_lock_app, self._watcher.confirmed
        if app == ZERO_ADDRESS:
            raise LocalError("this node knows no contract of hash locks (chain.hash_lock_app)")
        if block is None:
            raise Unavailable("the chain has not been seen yet")
        asked = [ViewCall(app, calls.encode_call(calls.RevealedAt(each)), block.hash) for each in hashes]
        times = []
        for answer in await self._client.views(asked):
            if isinstance(answer, Refused):
                raise Unavailable(f"the contract of hash locks at 0x{app.hex()} cannot be read: {answer}")
            if len(answer) != WORD:
                raise LocalError(f"0x{app.hex()} is no contract of hash locks (chain.hash_lock_app)")
            times.append(calls.decode_number(answer))
        return Revealed(block.time_s, tuple(times))

    def transactions(self, channel: ChannelId) -> list[TransactionInfo]:
        return self._sender.infos(channel)

    def status(self) -> ChainStatus:
        seen, processed = self._performer.head, self._watcher.processed
        known = self._watcher.head
        return ChainStatus(
            chain_id=self._settings.chain_id,
            adjudicator=self._settings.adjudicator,
            consensus_app=self._settings.consensus_app,
            account=self._key.address,
            balance=self._balance,
            head=None if seen is None else seen.number,
            head_time_s=None if seen is None else seen.time_s,
            processed=None if known is None else known.number,
            confirmations=self._settings.confirmations,
            lag_blocks=0 if seen is None or processed is None else max(0, seen.number - processed),
            endpoints=self._client.endpoints,
            endpoint=self._client.endpoint,
            watched=len(self._watcher.watched),
            pending=self._sender.pending,
            fault=self._fault,
            protection=self._protection,
            behind_s=self._behind_s,
        )

    async def _check(self) -> None:
        """The chain is the configured one, and has the contracts. Raises LocalError, Unavailable."""
        wanted = self._settings
        try:
            found = await self._client.chain_id()
            codes = {
                "adjudicator": await self._found(wanted.adjudicator),
                "consensus app": await self._found(wanted.consensus_app),
            }
            named = (wanted.virtual_payment_app, wanted.two_party_app, wanted.hash_lock_app)
            apps = [await self._found(address) for address in named]
        except (WrongChain, Refused) as error:
            raise LocalError(str(error)) from error
        if found != wanted.chain_id:
            raise LocalError(f"{self._client.endpoint} is of chain {found}; configured is chain {wanted.chain_id}")
        for name, (address, code) in codes.items():
            if not code:
                raise LocalError(f"chain {found} has no contract at 0x{address.hex()}, the configured {name}")
        self._protection = found_there = protection(codes["adjudicator"], apps[0], apps[1], apps[2])
        if any(address != ZERO_ADDRESS for address, _ in apps):
            for fault in sorted({found_there.payment, found_there.app, found_there.locks} - {""}):
                logger.warning("chain %d: %s", found, fault)

    async def _found(self, address: Address) -> Found:
        return address, await self._client.code(address) if address != ZERO_ADDRESS else b""

    async def _run(self) -> None:
        while True:
            try:
                if self._protection is None:
                    await self._check()
                await self._look()
            except LogClosed:
                self._fault = "the log is closed; the chain is not followed any more"
                logger.info("chain %d: %s", self._settings.chain_id, self._fault)
                return
            except Moved as error:
                self._moves += 1
                if self._moves > MOVES_QUIET:
                    self._fault = str(error)
            except ScappError as error:
                self._failures += 1
                if str(error) != self._fault:  # once for each reason, not for each attempt
                    logger.warning("chain %d: %s", self._settings.chain_id, error)
                self._fault = str(error)
            except Exception as error:
                self._failures += 1
                self._fault = f"internal error: {error!r}"
                logger.exception("chain %d: looking at it failed", self._settings.chain_id)
            else:
                if self._fault:
                    logger.info("chain %d: %s answers again", self._settings.chain_id, self._client.endpoint)
                self._failures = self._moves = 0
                self._fault = ""
            await self._pause()

    async def _look(self) -> None:
        began_ms = self._clock_ms()
        changed = await self._performer.run(self._watcher.follow())
        head, confirmed = self._watcher.head, self._watcher.confirmed
        assert head is not None
        assert confirmed is not None
        new = head.hash != self._told_head
        if new:
            self._told_head = head.hash
            if head.base_fee is not None:
                self._gas_price = head.base_fee
            self._tell(self._on_head, head.time_s)
        self._note_age(head.time_s)
        for channel, view in changed:
            self._sender.hold_deposits(channel)
            self._tell(self._on_view, channel, view)
        self._followed_ms = began_ms
        cursor = self._watcher.next_cursor()
        if cursor is not None:
            await asyncio.to_thread(store, self._log, (cursor,))
            self._watcher.cursor_stored(cursor)
        async with self._sending:
            await self._performer.run(self._sender.round(head, confirmed))
        if new:
            self._balance = await self._client.balance(self._key.address)
            self._note_balance(self._balance, head.base_fee or 0)
            if head.base_fee is None:
                self._gas_price = (await self._client.fees()).base

    def _note_age(self, head_time_s: int) -> None:
        """An endpoint that is stuck, or of another chain with the same id, answers from the past, and no dispute shows
        there. Only said: a chain may have nothing to say for long, and clocks are wrong."""
        self._behind_s = self._clock_ms() // 1_000 - head_time_s
        if (self._behind_s > OLD_HEAD_S) != self._told_old:
            self._told_old = not self._told_old
            if self._told_old:
                logger.warning(
                    "chain %d: the newest block of %s is %d s old: is it stuck?",
                    self._settings.chain_id, self._client.endpoint, self._behind_s,
                )  # fmt: skip

    def _note_balance(self, balance: int, base_fee: int) -> None:
        """Whoever has something to defend and cannot pay for it is told before it is too late."""
        enough = DISPUTE_GAS * max(1, 2 * base_fee)
        if (bool(self._watcher.watched) and balance < enough) != self._told_poor:
            self._told_poor = not self._told_poor
            if self._told_poor:
                logger.warning(
                    "chain %d: the account 0x%s has %s, and a dispute may take %s: send it some",
                    self._settings.chain_id, self._key.address.hex(), *map(coin_text, (balance, enough)),
                )  # fmt: skip

    @staticmethod
    def _tell(listener: Callable[..., None], *values: object) -> None:
        """A listener's fault is its own: the chain is followed all the same."""
        try:
            listener(*values)
        except Exception:
            logger.exception("a listener to the chain failed")

    async def _pause(self) -> None:
        """Until there may be a new block, something is wanted, or the time to poll has come: later after failures."""
        seconds = min(self._settings.poll_seconds * 2 ** min(self._failures, 10), PAUSE_S_MAX)
        waits = [asyncio.ensure_future(self._client.changed(seconds)), asyncio.ensure_future(self._wake.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=seconds)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        self._wake.clear()


def connect(
    settings: ChainSettings, log: EventLog, key: ChainKey, sign_challenge: Callable[[Hash], Signature]
) -> LiveChain:
    """A service over the JSON-RPC endpoints of the settings."""
    return LiveChain(settings, RpcClient(settings.endpoints, settings.chain_id), log, key, sign_challenge)
