"""Carries out what watcher and sender ask for: over a client, the log's node stream, and two keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from scapp.channels.chain import requests as ask
from scapp.channels.chain.client import Block, ChainClient, Refused
from scapp.channels.chain.events import ChainEvent, decode_event, encode_event
from scapp.channels.chain.key import ChainKey
from scapp.channels.chain.requests import Request, Steps
from scapp.channels.chain.settings import ChainSettings
from scapp.channels.log.port import NODE_STREAM, Append, EventLog, StreamWrite, VersionConflict
from scapp.channels.types import Hash, Signature

T = TypeVar("T")


class Performer:
    """`sign_challenge` signs a challenge hash with the channel key. `head` is the newest block that was seen."""

    def __init__(
        self,
        settings: ChainSettings,
        client: ChainClient,
        log: EventLog,
        key: ChainKey,
        sign_challenge: Callable[[Hash], Signature],
    ) -> None:
        self._settings = settings
        self._client = client
        self._log = log
        self._key = key
        self._sign_challenge = sign_challenge
        self.head: Block | None = None

    async def run(self, steps: Steps[T]) -> T:
        """Go through a computation. Raises what it raises, and Unavailable at the first request not answered."""
        try:
            request = next(steps)
            while True:
                request = steps.send(await self.perform(request))
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()

    async def perform(self, request: Request) -> Any:
        """The answer to a request; Refused is an answer where the request says so, else it is raised."""
        client = self._client
        match request:
            case ask.ReadHead():
                self.head = await client.head()
                return self.head
            case ask.ReadBlocks(numbers=numbers):
                return await client.blocks(numbers)
            case ask.ReadLogs(first=first, last=last, topics=topics):
                return await _answer(client.logs(self._settings.adjudicator, first, last, topics))
            case ask.ReadBlockLogs(block_hash=block_hash):
                return await _answer(client.block_logs(self._settings.adjudicator, block_hash))
            case ask.ReadViews(calls=calls):
                return await client.views(calls)
            case ask.ReadBalance():
                return await client.balance(self._key.address)
            case ask.ReadNonce(at=at):
                return await _answer(client.nonce(self._key.address, at))
            case ask.ReadFees():
                return await client.fees()
            case ask.ReadReceipts(transactions=transactions):
                return await client.receipts(transactions)
            case ask.ReadCalldata(transactions=transactions):
                return await client.calldata(transactions)
            case ask.Estimate(to=to, data=data, value=value):
                return await _answer(client.estimate(self._key.address, to, data, value))
            case ask.Sign():
                return self._key.sign(self._settings.chain_id, request)
            case ask.SignChallenge(challenge_hash=challenge_hash):
                return self._sign_challenge(challenge_hash)
            case ask.Store(events=events):
                writing = asyncio.ensure_future(asyncio.to_thread(store, self._log, events))
                try:
                    return await asyncio.shield(writing)
                except asyncio.CancelledError:
                    await writing  # who closes the log next must not find it in use
                    raise
            case ask.Broadcast(raw=raw):
                return await _answer(client.send(raw))


async def _answer(asked: Any) -> Any:
    try:
        return await asked
    except Refused as refused:
        return refused


def store(log: EventLog, events: tuple[ChainEvent, ...]) -> None:
    """Append to the node's stream, durably; others may append to it meanwhile."""
    encoded = [encode_event(event) for event in events]
    while True:
        try:
            log.append(Append([StreamWrite(NODE_STREAM, log.version(NODE_STREAM), encoded)]))
            return
        except VersionConflict:
            continue


def stored(log: EventLog) -> list[ChainEvent]:
    """The chain's events of the node's stream."""
    events = (decode_event(data) for page in log.read(NODE_STREAM) for data in page.events)
    return [event for event in events if event is not None]
