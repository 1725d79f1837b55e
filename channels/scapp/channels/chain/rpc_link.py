"""One JSON-RPC endpoint: batches of calls over HTTP or WebSocket, and hints of new blocks over the latter."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scapp.channels.chain.rpc_answers import Answer

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession, ClientWebSocketResponse

ANSWER_BYTES_MAX = 64 * 2**20
REST_S_MIN = 1.0


class Link:
    """Connects when it is first asked. `fault` is the last failure, `rests_until` when it may be asked again."""

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        self.shown = shown_endpoint(url)
        if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
            raise ValueError(f"{self.shown} is no endpoint; it must begin with http://, https://, ws:// or wss://")
        self.fault = ""
        self.rests_until = float("-inf")
        self.rest_s = REST_S_MIN
        self.checked = False
        self.wrong_chain = False
        self._url = url
        self._timeout_s = timeout_s
        self._web_socket = parts.scheme in ("ws", "wss")
        self._numbers = itertools.count(1)
        self._session: ClientSession | None = None
        self._socket: ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._hint = asyncio.Event()

    async def ask(self, calls: Sequence[tuple[str, list[Any]]]) -> list[Answer]:
        """Answers in the order of the calls. Raises OSError (TimeoutError is one) or ValueError when there is none;
        the connection is then given up."""
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await self._exchange(self._numbered(calls))
        except (OSError, ValueError):
            await self.close()
            raise
        except Exception as error:  # aiohttp's own
            await self.close()
            raise OSError(f"{type(error).__name__}: {error}") from error
        return answers

    def _numbered(self, calls: Sequence[tuple[str, list[Any]]]) -> list[dict[str, Any]]:
        return [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
            for number, (method, parameters) in zip(self._numbers, calls, strict=False)
        ]

    async def _exchange(self, questions: list[dict[str, Any]]) -> list[Answer]:
        session = await self._connected()
        # Some nodes know no batches of one.
        text = json.dumps(questions[0] if len(questions) == 1 else questions)
        if self._socket is not None:
            return await self._exchange_messages(self._socket, questions, text)
        headers = {"Content-Type": "application/json"}
        async with session.post(self._url, data=text, headers=headers) as response:
            if response.status != 200:
                raise OSError(f"HTTP status {response.status}")
            body = json.loads(await _bounded(response))
        answers = {answer["id"]: answer for answer in _answers(body)}
        missing = [question["method"] for question in questions if question["id"] not in answers]
        if missing:
            raise ValueError(f"no answer to {missing[0]}, but {str(body)[:200]}")
        return [answers[question["id"]] for question in questions]

    async def _exchange_messages(
        self, socket: ClientWebSocketResponse, questions: list[dict[str, Any]], text: str
    ) -> list[Answer]:
        loop = asyncio.get_running_loop()
        futures = {question["id"]: loop.create_future() for question in questions}
        self._waiting |= futures
        try:
            await socket.send_str(text)
            return list(await asyncio.gather(*futures.values()))
        finally:
            for number, future in futures.items():
                self._waiting.pop(number, None)
                future.cancel()

    async def _connected(self) -> ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession()
        if self._web_socket and self._socket is None:
            self._socket = await self._session.ws_connect(self._url, max_msg_size=ANSWER_BYTES_MAX, heartbeat=20)
            self._reader = asyncio.create_task(self._read(self._socket), name=f"answers of {self.shown}")
            subscribe = self._numbered([("eth_subscribe", ["newHeads"])])[0]  # refused: then it is polled
            await self._socket.send_str(json.dumps(subscribe))
        return self._session

    async def _read(self, socket: ClientWebSocketResponse) -> None:
        """Gives answers to those who wait, and hints of what else comes, until the connection ends."""
        fault: Exception = OSError("the connection was closed")
        try:
            async for message in socket:
                for answer in _answers(json.loads(message.data)):
                    future = self._waiting.pop(answer.get("id", 0), None)
                    if future is not None and not future.done():
                        future.set_result(answer)
                    elif answer.get("method") == "eth_subscription":
                        self._hint.set()
        except (ValueError, TypeError) as error:
            fault = ValueError(f"no JSON-RPC: {error}")
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(fault)
            self._waiting.clear()
            if self._socket is socket:
                self._socket = None  # the next question connects again
                self._hint.set()

    async def changed(self, timeout_s: float) -> None:
        """Returns at a hint of a new block, or after the time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hint.wait(), timeout_s)
        self._hint.clear()

    async def close(self) -> None:
        session, self._session = self._session, None
        socket, self._socket = self._socket, None
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        if socket is not None:
            await socket.close()
        if session is not None:
            await session.close()


async def _bounded(response: ClientResponse) -> bytes:
    """The body. Raises ValueError for one that is too long, whatever it is packed in."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > ANSWER_BYTES_MAX:
            raise ValueError(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
    return bytes(body)


def _answers(body: Any) -> list[Answer]:
    """One answer or a batch. Raises ValueError for what is neither."""
    answers = body if isinstance(body, list) else [body]
    if not all(isinstance(answer, dict) and ("id" in answer or "method" in answer) for answer in answers):
        raise ValueError(f"no JSON-RPC: {str(body)[:200]}")
    return answers


def shown_endpoint(url: str) -> str:
    """An address without what may be a secret: user, password, path and query."""
    parts = urlsplit(url)
    if not parts.hostname:
        return "an address without scheme or host"  # nobody knows where its secrets end
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"{parts.scheme}://{parts.hostname}{port}"
