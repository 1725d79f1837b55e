"""The JSON documents of the local API, both ways; `api/routes.py` says where each is used.

Bytes are `0x` and lower-case hexadecimal, amounts are decimal strings (they exceed what JSON numbers keep), times
are milliseconds since 1970 UTC. The OpenAPI document and the Python client are made from these types.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from scapp.runtime.chain_documents import ChannelOnChainView, StakeView
from scapp.runtime.document_types import AddressText as AddressText
from scapp.runtime.document_types import AmountText as AmountText
from scapp.runtime.document_types import Document as Document
from scapp.runtime.document_types import Endpoint as Endpoint
from scapp.runtime.document_types import HashText as HashText
from scapp.runtime.document_types import HexText as HexText
from scapp.runtime.document_types import Name as Name
from scapp.runtime.document_types import Permission as Permission
from scapp.runtime.document_types import RequestDocument as RequestDocument
from scapp.runtime.document_types import Sequence as Sequence
from scapp.runtime.ledger_documents import BackingView

Phase = Literal[
    "proposed",
    "opening",
    "funding",
    "running",
    "disputed",
    "closing",
    "closed",
    "settled",
    "rejected",
    "recovering",
    "halted",
]


class ErrorBody(Document, frozen=True, kw_only=True):
    """`code` is stable and meant for programs; `message` and `hint` are meant for people."""

    code: str
    message: str
    hint: str = ""


class ErrorDocument(Document, frozen=True, kw_only=True):
    error: ErrorBody


class Health(Document, frozen=True, kw_only=True):
    """`ok` as long as the node signs; the database may be down meanwhile."""

    ok: bool
    database: str


class DatabaseView(Document, frozen=True, kw_only=True):
    """`state`: off, starting, up, down or foreign (another node's); `url` connects a reader (psql, an ORM)."""

    backend: str
    state: str
    detail: str = ""
    url: str = ""


class Status(Document, frozen=True, kw_only=True):
    """`channels`: how many by phase; `corrupt`: those that stay closed, with what is wrong, not among them;
    `log_failure`: why the log takes no more writes, and so nothing is signed, if that is so. `log_bytes`: what the log
    takes on the disk, `disk_free_bytes`: what is free there; None where the system does not tell."""

    address: AddressText
    version: str
    pid: int
    started_ms: int
    home: str
    listen: str
    database: DatabaseView
    channels: dict[str, int]
    peers_connected: int
    peers_known: int
    apps: int
    policy: str
    corrupt: dict[str, str] = {}
    log_failure: str = ""
    log_bytes: int | None = None
    disk_free_bytes: int | None = None


class PeerView(Document, frozen=True, kw_only=True):
    address: AddressText
    name: str
    endpoint: str
    connected: bool
    queued: int
    sent: int
    received: int
    refused: int
    last_error: str


class PeerList(Document, frozen=True, kw_only=True):
    peers: list[PeerView]


class PeerRequest(RequestDocument, frozen=True, kw_only=True):
    address: AddressText
    endpoint: Endpoint
    name: Name | None = None


class ColumnView(Document, frozen=True, kw_only=True):
    name: str
    type: str
    key: bool
    nullable: bool


class TableView(Document, frozen=True, kw_only=True):
    name: str
    columns: list[ColumnView]


class AppView(Document, frozen=True, kw_only=True):
    """One deployment. `schema`: the SQL schema its tables stand in, empty while there is no database."""

    name: str
    app_version: str
    deployment_id: HashText
    reducer: HashText
    abi: str
    encoding: str
    wasm_bytes: int
    limits: dict[str, int]
    tables: list[TableView]
    schema: str = ""


class AppList(Document, frozen=True, kw_only=True):
    deployments: list[AppView]


class SlotView(Document, frozen=True, kw_only=True):
    """An outcome slot: who may be paid in which asset. `destination` is an address or 32 bytes."""

    asset: AddressText
    destination: Annotated[str, Meta(pattern="^0x([0-9a-fA-F]{40}|[0-9a-fA-F]{64})$")]
    amount: AmountText


class DerivedView(Document, frozen=True, kw_only=True):
    """How far the database is: entries 0 .. sequence-1 are in its tables."""

    sequence: int
    turn: int | None
    state_root: str
    state: str
    detail: str = ""


class ChannelView(Document, frozen=True, kw_only=True):
    """`waiting_for` says in words what the channel waits for; `reason` why it was rejected or halted; `chain` is null
    for a channel without deposits, `backing` for one that does not stand over ledgers. `renews`: the channel that this
    one takes over from; `successor`: the one that takes over from this one, or is to; empty where there is none."""

    channel_id: HashText
    phase: Phase
    waiting_for: str
    participants: list[AddressText]
    my_index: int
    app: str
    deployment_id: HashText
    slots: list[SlotView]
    turn: int | None
    signed_turn: int | None
    sequence: int
    log_root: HashText
    state_root: HashText
    amounts: list[AmountText]
    time_ms: int
    pending: int
    reason: str
    derived: DerivedView | None
    chain: ChannelOnChainView | None = None
    backing: BackingView | None = None
    renews: str = ""
    successor: str = ""


class ChannelList(Document, frozen=True, kw_only=True):
    """`next` is the `after` of the following page, null at the end of the list."""

    channels: list[ChannelView]
    next: HashText | None = None


class OpenChannelRequest(RequestDocument, frozen=True, kw_only=True):
    """`peers`: the other participants in order, by address or name; `app`: a deployed app's name or id (a prefix
    of 8 digits will do); `wait_s`: how long to wait for the channel to run.

    `fund` "direct": everybody deposits on chain. What is deposited and where it is paid out are the `slots`, or, where
    all deposit the same, `stakes` in their place: they are paid to the participants' channel addresses, unless
    `payouts` (participant by address or name, to account) say otherwise. "virtual": ledgers put the stakes up instead,
    those of this node, of the hubs in `via` (each gets its item of `fees`) and of the one peer. `routed`: hubs and
    fees, `fee_max` at most together, are found, and others while `wait_s` lasts and some refuse."""

    peers: Annotated[list[str], Meta(min_length=1, max_length=254)]
    app: str
    params: Any = None
    slots: list[SlotView] = []
    fund: Literal["none", "direct", "virtual"] = "none"
    via: Annotated[list[str], Meta(max_length=16)] = []
    fees: Annotated[list[AmountText], Meta(max_length=16)] = []
    routed: bool = False
    fee_max: AmountText | None = None
    stakes: Annotated[list[StakeView], Meta(max_length=16)] = []
    payouts: dict[str, AddressText] = {}
    challenge_duration_s: Annotated[int, Meta(ge=1, le=2**48 - 1)] = 86_400
    wait_s: Annotated[float, Meta(ge=0, le=300)] = 0.0


class WaitRequest(RequestDocument, frozen=True, kw_only=True):
    wait_s: Annotated[float, Meta(ge=0, le=300)] = 0.0


class RejectRequest(RequestDocument, frozen=True, kw_only=True):
    reason: Annotated[str, Meta(max_length=256)] = "rejected by the operator"


class MessageItem(RequestDocument, frozen=True, kw_only=True):
    """Exactly one of the three. `json` is written in the app's own encoding, where `{"$hex": "0x…"}` stands for
    bytes; `base64` and `hex` are payload bytes as they are."""

    json: Any | msgspec.UnsetType = msgspec.UNSET
    base64: str | msgspec.UnsetType = msgspec.UNSET
    hex: str | msgspec.UnsetType = msgspec.UNSET


class SendRequest(RequestDocument, frozen=True, kw_only=True):
    """`tick` submits the passing of time instead of messages. `timeout_s`: how long to wait for decisions."""

    messages: Annotated[list[MessageItem], Meta(max_length=10_000)] = []
    tick: bool = False
    timeout_s: Annotated[float, Meta(ge=0, le=300)] = 30.0


class ReceiptView(Document, frozen=True, kw_only=True):
    """accepted (co-signed by all, at `sequence`), refused (`code`, `reason`), or pending (undecided, still queued)."""

    counter: int
    status: Literal["accepted", "refused", "pending"]
    sequence: int | None
    turn: int | None
    code: str
    reason: str


class SendAnswer(Document, frozen=True, kw_only=True):
    receipts: list[ReceiptView]


class EntryView(Document, frozen=True, kw_only=True):
    """`payload` is decoded when the app's encoding is known and the bytes follow it, else null. `state_root` is what
    all signed at the end of the entry's turn."""

    sequence: int
    turn: int
    kind: str
    author: int
    author_address: str
    counter: int
    time_ms: int
    payload: Any
    payload_base64: str
    hash: HashText
    state_root: HashText


class EntryPage(Document, frozen=True, kw_only=True):
    """`next` is the `from` of the following page, null at the end of the log."""

    channel_id: HashText
    entries: list[EntryView]
    next: int | None


class QueryRequest(RequestDocument, frozen=True, kw_only=True):
    """One read-only statement; `params` fill its places `$1`, `$2` and so on."""

    sql: Annotated[str, Meta(min_length=1, max_length=100_000)]
    params: list[Any] = []
    rows_max: Annotated[int, Meta(ge=1, le=100_000)] = 1_000
    timeout_s: Annotated[float, Meta(gt=0, le=300)] = 10.0


class QueryColumn(Document, frozen=True, kw_only=True):
    name: str
    type: str


class QueryAnswer(Document, frozen=True, kw_only=True):
    """`truncated`: there were more than `rows_max` rows."""

    columns: list[QueryColumn]
    rows: list[list[Any]]
    truncated: bool


class DifferenceView(Document, frozen=True, kw_only=True):
    """One row of the database that is not what the log gives: `found` stands there, `expected` should; null for a
    row that is not there. `text` says it in words."""

    table: str
    kind: Literal["missing", "extra", "changed"]
    key: dict[str, Any]
    found: dict[str, Any] | None
    expected: dict[str, Any] | None
    text: str


class VerifyAnswer(Document, frozen=True, kw_only=True):
    """The database's rows of one channel against the co-signed state at the database's own sequence.

    `differences` are the first of `difference_count`, `notes` what cannot be named as one; `detail` says all of it."""

    channel_id: HashText
    ok: bool
    sequence: int
    turn: int | None
    expected_root: str
    found_root: str
    rows: int
    detail: str = ""
    difference_count: int = 0
    differences: list[DifferenceView] = []
    notes: list[str] = []


class TokenView(Document, frozen=True, kw_only=True):
    """The token of the request."""

    name: str
    permissions: list[Permission]


class Counters(Document, frozen=True, kw_only=True):
    counters: dict[str, int]
    """Name to count since the process started."""


class StreamItem(Document, frozen=True, kw_only=True):
    """What one server-sent event carries, by `kind` (its SSE event name): `entries` (a co-signed batch), `rows`
    (tables changed), `app` (an event the reducer emitted), `node` (a change of phase, a refusal, a link),
    `reset` (row changes before `sequence` are gone: read the tables). `resume` is the `from` to go on with after it."""

    kind: Literal["entries", "rows", "app", "node", "reset"]
    channel_id: str | None = None
    sequence: int | None = None
    turn: int | None = None
    entries: list[EntryView] = []
    tables: list[TableChangeView] = []
    topic: str | None = None
    data: Any = None
    data_base64: str | None = None
    event: str | None = None
    peer: str | None = None
    detail: str | None = None
    resume: str | None = None


class TableChangeView(Document, frozen=True, kw_only=True):
    """Net change of one table: whole rows and deleted keys, as JSON objects by column name."""

    table: str
    upserts: list[dict[str, Any]]
    deletes: list[dict[str, Any]]


class NodeFile(Document, frozen=True, kw_only=True):
    """`HOME/node.json`, written when the node answers and removed when it stops: how local clients find it."""

    pid: int
    address: AddressText
    api: str
    listen: str
    started_ms: int
