"""The Python client of a node's local API, synchronous and over the standard library only.

    with Client.at_home(Path("~/.scapp").expanduser()) as node:
        channel = node.open_channel(["bob"], "duel", wait_s=10)
        receipt, = node.send(channel.channel_id, {"move": [3, 4]})

Answers are the documents of `scapp.runtime.documents`; every failure is a `ClientError`. A client belongs to one
thread at a time.
"""

from __future__ import annotations

import base64
import http.client
import select
import socket
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from scapp.channels.errors import LocalError
from scapp.runtime.chain_documents import ChainStatusView
from scapp.runtime.client_answers import ClientError as ClientError
from scapp.runtime.client_answers import NodeFailed as NodeFailed
from scapp.runtime.client_answers import NodeTimeout as NodeTimeout
from scapp.runtime.client_answers import NodeUnreachable as NodeUnreachable
from scapp.runtime.client_answers import NotAllowed as NotAllowed
from scapp.runtime.client_answers import Refused as Refused
from scapp.runtime.client_answers import decoded, error_of, sse
from scapp.runtime.client_calls import quoted
from scapp.runtime.client_derived import DerivedCalls
from scapp.runtime.client_invoices import InvoiceCalls
from scapp.runtime.client_ledgers import LedgerCalls
from scapp.runtime.documents import (
    AppList,
    AppView,
    ChannelList,
    ChannelView,
    Counters,
    EntryPage,
    EntryView,
    Health,
    NodeFile,
    PeerList,
    PeerView,
    QueryAnswer,
    ReceiptView,
    SendAnswer,
    SlotView,
    Status,
    StreamItem,
)
from scapp.runtime.keys_file import check_private
from scapp.runtime.recovery_documents import BackupView
from scapp.runtime.work_documents import WorkList, WorkView

CHANNELS_PER_PAGE = 1_000  # of those that the node reads from its disk, a quarter of a millisecond each
T = TypeVar("T")
NODE_FILE = "node.json"
LOCK_FILE = "node.lock"
TOKEN_FILE = "api.token"  # noqa: S105  # the file's name, not a token


class Client(LedgerCalls, InvoiceCalls, DerivedCalls):
    """Talks to the node at `url` ("http://host:port") with a token. `timeout_s` bounds each answer."""

    def __init__(self, url: str, token: str, *, timeout_s: float = 60.0) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LocalError(f"{url!r} is not the URL of a node; allowed is http://host:port")
        self.url = url.rstrip("/")
        self._https = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._base = parts.path.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None

    @classmethod
    def at_home(cls, home: Path, *, token: str = "", timeout_s: float = 60.0) -> Client:
        """The node that runs in this directory, with its operator's token unless another is given. Raises
        NodeUnreachable, LocalError."""
        try:
            node = decoded((home / NODE_FILE).read_bytes(), NodeFile)
        except FileNotFoundError:
            hint = f"start it with `scapp -C {home} node`"
            raise NodeUnreachable(f"no node runs in {home}", hint=hint) from None
        except msgspec.MsgspecError as error:
            raise NodeUnreachable(f"{home / NODE_FILE} is damaged: {error}", hint="restart the node") from None
        if token:
            return cls(node.api, token, timeout_s=timeout_s)
        path = home / TOKEN_FILE
        if not path.exists():
            raise LocalError(f"{path} does not exist; restart the node to make a new operator's token")
        check_private(path)
        return cls(node.api, path.read_text("ascii").strip(), timeout_s=timeout_s)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection; the next call makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def health(self) -> Health:
        return self._get("/v1/health", Health)

    def status(self) -> Status:
        return self._get("/v1/status", Status)

    def chain(self) -> ChainStatusView:
        return self._get("/v1/chain", ChainStatusView)

    def counters(self) -> dict[str, int]:
        return self._get("/v1/counters", Counters).counters

    def peers(self) -> list[PeerView]:
        return self._get("/v1/peers", PeerList).peers

    def add_peer(self, address: str, endpoint: str, name: str | None = None) -> PeerView:
        return self._post("/v1/peers", PeerView, {"address": address, "endpoint": endpoint, "name": name})

    def remove_peer(self, peer: str) -> PeerView:
        """By address or name: policies trust it no longer."""
        return self._post(f"/v1/peers/{quoted(peer)}/remove", PeerView, {})

    def deployments(self) -> list[AppView]:
        return self._get("/v1/deployments", AppList).deployments

    def deployment(self, app: str) -> AppView:
        return self._get(f"/v1/deployments/{quoted(app)}", AppView)

    def deploy(self, wasm: bytes, limits: dict[str, int] | None = None) -> AppView:
        """Check and keep a module at the node; `limits` are those that differ from the defaults."""
        query = "?" + urllib.parse.urlencode({"limits": msgspec.json.encode(limits).decode()}) if limits else ""
        return self._call("POST", f"/v1/deployments{query}", AppView, wasm, "application/wasm")

    def module(self, app: str) -> tuple[bytes, dict[str, int]]:
        """The bytes of a deployed module, and its limits."""
        known = self.deployment(app)
        return self._get(f"/v1/deployments/{quoted(known.deployment_id)}/module", bytes), known.limits

    def deploy_of_channel(self, channel: str, wait_s: float = 30.0) -> AppView:
        """Fetch a proposed channel's module from its proposer, check and keep it at the node."""
        return self._post(f"/v1/channels/{quoted(channel)}/deploy", AppView, {"wait_s": wait_s}, wait_s)

    def channels(self, phase: str | None = None, *, over: bool = True) -> list[ChannelView]:
        wanted = (f"&phase={quoted(phase)}" if phase else "") + ("" if over else "&over=no")
        page = self._get(f"/v1/channels?limit={CHANNELS_PER_PAGE}{wanted}", ChannelList)
        found = page.channels
        while page.next is not None:
            page = self._get(f"/v1/channels?limit={CHANNELS_PER_PAGE}&after={page.next}{wanted}", ChannelList)
            found += page.channels
        return found

    def channel(self, channel: str) -> ChannelView:
        return self._get(f"/v1/channels/{quoted(channel)}", ChannelView)

    def open_channel(
        self,
        peers: Sequence[str],
        app: str,
        *,
        params: Any = None,
        slots: Sequence[SlotView] = (),
        fund: str = "none",
        via: Sequence[str] = (),
        fees: Sequence[int] = (),
        routed: bool = False,
        fee_max: int | None = None,
        stakes: Mapping[str, int] | None = None,
        headroom: Mapping[str, int] | None = None,
        payouts: Mapping[str, str] | None = None,
        challenge_duration_s: int = 86_400,
        wait_s: float = 0.0,
    ) -> ChannelView:
        """Propose a channel to `peers` (addresses or names); waits up to `wait_s` for it to run.

        With `fund` "direct" everybody deposits `stakes` (asset to amount, in place of `slots`), paid out as `payouts`
        (participant to account) say; `headroom` (by asset) is room for top-ups. With "virtual" the ledgers of this
        node, the hubs in `via` and the one peer put the stakes up, without a transaction; each hub gets its item of
        `fees`; with `routed` the node finds hubs and fees, and other ones while it waits and a way fails."""
        staked, room = stakes or {}, headroom or {}
        body = {
            "peers": list(peers),
            "app": app,
            "params": params,
            "slots": [msgspec.structs.asdict(slot) for slot in slots],
            "fund": fund,
            "via": list(via),
            "fees": [str(fee) for fee in fees],
            "routed": routed,
            "fee_max": None if fee_max is None else str(fee_max),
            "stakes": [{"asset": a, "amount": str(n), "headroom": str(room.get(a, 0))} for a, n in staked.items()],
            "payouts": dict(payouts or {}),
            "challenge_duration_s": challenge_duration_s,
            "wait_s": wait_s,
        }
        return self._post("/v1/channels", ChannelView, body, wait_s)

    def accept(self, channel: str, wait_s: float = 0.0) -> ChannelView:
        return self._post(f"/v1/channels/{quoted(channel)}/accept", ChannelView, {"wait_s": wait_s}, wait_s)

    def reject(self, channel: str, reason: str = "rejected by the operator") -> ChannelView:
        return self._post(f"/v1/channels/{quoted(channel)}/reject", ChannelView, {"reason": reason})

    def close_channel(self, channel: str, wait_s: float = 0.0) -> ChannelView:
        return self._post(f"/v1/channels/{quoted(channel)}/close", ChannelView, {"wait_s": wait_s}, wait_s)

    def top_up(self, channel: str, asset: str, amount: int) -> ChannelView:
        body = {"asset": asset, "amount": str(amount)}
        return self._post(f"/v1/channels/{quoted(channel)}/top-up", ChannelView, body)

    def resize(
        self, channel: str, withdraw: Mapping[str, int], params: object = None, wait_s: float = 0.0
    ) -> ChannelView:
        """Take so much of each asset out of a running channel. Participant 0's node answers with the successor that it
        proposes, any other one, which asks it to, with the channel itself."""
        amounts = [{"asset": asset, "amount": str(amount)} for asset, amount in withdraw.items()]
        body = {"withdraw": amounts, "params": params, "wait_s": wait_s}
        return self._post(f"/v1/channels/{quoted(channel)}/resize", ChannelView, body, wait_s)

    def challenge(self, channel: str, wait_s: float = 0.0) -> ChannelView:
        """Leave a funded channel without the others, by a challenge."""
        return self._post(f"/v1/channels/{quoted(channel)}/challenge", ChannelView, {"wait_s": wait_s}, wait_s)

    def checkpoint(self, channel: str) -> ChannelView:
        """Record a funded channel's newest co-signed state on chain."""
        return self._post(f"/v1/channels/{quoted(channel)}/checkpoint", ChannelView, {})

    def withdraw(self, channel: str, wait_s: float = 0.0) -> ChannelView:
        """Have a closed or finalized channel paid out now."""
        return self._post(f"/v1/channels/{quoted(channel)}/withdraw", ChannelView, {"wait_s": wait_s}, wait_s)

    def send(self, channel: str, *messages: Any, timeout_s: float = 30.0) -> list[ReceiptView]:
        """Submit messages in order and wait for their decisions. Bytes go as they are; anything else is JSON in the
        app's encoding (bytes inside: `{"$hex": "0x…"}`)."""
        items = [
            {"base64": base64.b64encode(message).decode()} if isinstance(message, bytes) else {"json": message}
            for message in messages
        ]
        return self._submit(channel, {"messages": items, "timeout_s": timeout_s}, timeout_s)

    def tick(self, channel: str, timeout_s: float = 30.0) -> list[ReceiptView]:
        """Submit the passing of time."""
        return self._submit(channel, {"tick": True, "timeout_s": timeout_s}, timeout_s)

    def _submit(self, channel: str, body: dict[str, Any], wait_s: float) -> list[ReceiptView]:
        return self._post(f"/v1/channels/{quoted(channel)}/messages", SendAnswer, body, wait_s).receipts

    def entries(self, channel: str, from_sequence: int = 0, limit: int = 100) -> EntryPage:
        """One page of the co-signed log."""
        return self._get(f"/v1/channels/{quoted(channel)}/entries?from={from_sequence}&limit={limit}", EntryPage)

    def log(self, channel: str, from_sequence: int = 0) -> Iterator[EntryView]:
        """The co-signed log from a sequence to its present end, page by page."""
        following: int | None = from_sequence
        while following is not None:
            page = self.entries(channel, following, 1_000)
            yield from page.entries
            following = page.next

    def query(
        self, sql: str, params: Sequence[Any] = (), *, rows_max: int = 1_000, timeout_s: float = 10.0
    ) -> QueryAnswer:
        """One read-only SQL statement over the derived tables; `params` fill its places `$1`, `$2` and so on."""
        body = {"sql": sql, "params": list(params), "rows_max": rows_max, "timeout_s": timeout_s}
        return self._post("/v1/query", QueryAnswer, body, timeout_s)

    def work(self) -> list[WorkView]:
        """Long work that goes on at the node; ask on a connection of its own while another call waits."""
        return self._get("/v1/work", WorkList).work

    def recover(self, channel: str) -> ChannelView:
        """End the recovery of a restored channel without the others' answers: it may contradict what was signed."""
        return self._post(f"/v1/channels/{quoted(channel)}/recover", ChannelView, {"override": True})

    def backup(self, path: str, *, keys: bool = False, timeout_s: float = 86_400.0) -> BackupView:
        """Write a backup on the node's machine: a new directory, or a file that ends with `.tar`."""
        return self._post("/v1/backup", BackupView, {"path": path, "keys": keys}, timeout_s)

    def stream(
        self,
        *,
        channels: Sequence[str] = (),
        start: Sequence[str] = (),
        kinds: Sequence[str] = (),
        idle_s: float = 60.0,
    ) -> Iterator[StreamItem]:
        """Follow the node, on a connection of its own. `start`: `CHANNEL:ENTRIES[:DERIVED]`, the sequences to go on
        from. Ends when the node stops; raises NodeUnreachable when it falls silent for `idle_s` (it never does by
        itself: it writes a comment every 15 seconds)."""
        query = [("channel", c) for c in channels] + [("from", text) for text in start]
        if kinds:
            query.append(("kinds", ",".join(kinds)))
        connection = self._connect(idle_s)
        try:
            connection.request(
                "GET", f"{self._base}/v1/stream?{urllib.parse.urlencode(query)}", headers=self._headers()
            )
            response = connection.getresponse()
            if response.status != 200:
                raise error_of(response.status, response.read())
            for name, data in sse(response):
                if name == "error":
                    raise error_of(500, data)
                yield decoded(data, StreamItem)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def _get(self, path: str, kind: type[T]) -> T:
        return self._call("GET", path, kind)

    def _post(self, path: str, kind: type[T], body: Any, wait_s: float = 0.0) -> T:
        return self._call("POST", path, kind, msgspec.json.encode(body), "application/json", wait_s)

    def _call(
        self, method: str, path: str, kind: type[T], body: bytes | None = None, media: str = "", wait_s: float = 0.0
    ) -> T:
        headers = self._headers()
        if body is not None:
            headers["Content-Type"] = media
        connection = self._usable(self._timeout_s + wait_s)
        try:
            connection.request(method, self._base + path, body=body, headers=headers)
            response = connection.getresponse()
            data = response.read()
        except TimeoutError as error:
            self.close()
            late = f"{self.url} did not answer within {self._timeout_s + wait_s:g} s"
            raise NodeTimeout(late, code="timeout") from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unreachable(error) from error
        if response.status != 200:
            raise error_of(response.status, data)
        if issubclass(kind, bytes):
            return kind(data)
        try:
            return decoded(data, kind)
        except msgspec.MsgspecError as error:
            raise NodeFailed(f"{self.url} answered with something else than {kind.__name__}: {error}") from error

    def _usable(self, timeout_s: float) -> http.client.HTTPConnection:
        """The kept connection, unless the node has closed it meanwhile: a request sent into a closed connection
        would leave open whether it was carried out."""
        connection = self._connection
        if connection is not None:
            if connection.sock is None or select.select([connection.sock], [], [], 0)[0]:
                self.close()
            else:
                connection.sock.settimeout(timeout_s)
                return connection
        self._connection = self._connect(timeout_s)
        return self._connection

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=timeout_s)
        try:
            connection.connect()
        except OSError as error:
            raise self._unreachable(error) from error
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}

    def _unreachable(self, error: Exception) -> NodeUnreachable:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return NodeUnreachable(f"the node at {self.url} does not answer: {reason}", hint="is `scapp node` running?")
