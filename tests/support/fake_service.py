"""A node without signatures or network, for tests of the API and the CLI: channels are facts a test states.

`FakeService` implements `scapp.channels.service.NodeService` for one node; `FakeDerived` the database side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.channels.crypto import keccak256
from scapp.channels.deployment import Deployment, deployment_id
from scapp.channels.entries import EMPTY_LOG_ROOT, Kind, OpenPayload, Slot, encode_entry, extend_log_root
from scapp.channels.errors import CorruptionError, LocalError
from scapp.channels.reading import Archived, SignedState, SupportedBatch
from scapp.channels.service import ChannelInfo, NodeEvent, OpenRequest, Receipt
from scapp.channels.transport.port import PeerStatus
from scapp.channels.types import Address, ChannelId, Hash
from scapp.runtime.api.errors import ApiError
from scapp.runtime.changes import AppEvent
from scapp.runtime.deployments import App
from scapp.runtime.documents import DatabaseView, DerivedView, QueryAnswer, QueryColumn, VerifyAnswer
from scapp.runtime.follow import Committed

ALICE = Address(bytes.fromhex("a11ce00000000000000000000000000000000001"))
BOB = Address(bytes.fromhex("b0b0000000000000000000000000000000000002"))
CAROL = Address(bytes.fromhex("ca20100000000000000000000000000000000003"))
NOW_MS = 1_790_000_000_000


class FakeSource:
    """Supported batches as the service made them; positions are list indices."""

    def __init__(self) -> None:
        self.of: dict[ChannelId, list[SupportedBatch]] = {}
        self.known: dict[ChannelId, ChannelContext] = {}

    def contexts(self) -> list[ChannelContext]:
        return list(self.known.values())

    def archived(self) -> dict[ChannelId, Archived]:
        return {}

    def archive_version(self) -> int:
        return 0

    def context(self, channel_id: ChannelId) -> ChannelContext | None:
        return next((each for each in self.contexts() if each.channel_id == channel_id), None)

    def batches(self, channel_id: ChannelId, position: int = 0) -> Iterator[SupportedBatch]:
        yield from list(self.of.get(channel_id, ()))[position:]


class FakeService:
    """Every message is accepted at once, unless its payload is in `refused`; `stuck` leaves submissions undecided."""

    def __init__(self, address: Address = ALICE) -> None:
        self.address = address
        self.source = FakeSource()
        self.refused: dict[bytes, str] = {}
        self.damaged: dict[ChannelId, str] = {}
        self.stuck = False
        self.opens_to = "running"
        self.infos: dict[ChannelId, ChannelInfo] = {}
        self.on_disk: set[ChannelId] = set()  # channels that are over and were left there
        self.revived: set[ChannelId] = set()
        self.linked: dict[Address, str] = {}
        self.modules: dict[ChannelId, bytes] = {}
        self.requests: list[OpenRequest] = []
        self.topped_up: list[tuple[ChannelId, Address, int]] = []
        self.resized: list[tuple[ChannelId, dict[Address, int], Any]] = []
        self.enforceable: dict[ChannelId, SignedState] = {}
        self.listeners: list[Callable[[NodeEvent], None]] = []
        self._nonce = 0

    def counters(self) -> dict[str, int]:
        return {"batches": sum(map(len, self.source.of.values()))}

    def peers(self) -> list[PeerStatus]:
        return [PeerStatus(a, e, True, 0, 3, 4, 0, None) for a, e in self.linked.items()]

    def add_peer(self, address: Address, endpoint: str) -> None:
        self.linked[address] = endpoint

    def archived(self) -> dict[ChannelId, Archived]:
        return {c: Archived(i.phase, i.turn or -1, i.deployment_id) for c, i in self.infos.items() if c in self.on_disk}

    def was_archived(self, channel_id: ChannelId) -> bool:
        return channel_id in self.revived

    async def read_archived(self, channels: Sequence[ChannelId]) -> list[ChannelInfo]:
        return [self.infos[channel_id] for channel_id in channels if channel_id in self.on_disk]

    def remove_peer(self, address: Address) -> None:
        del self.linked[address]

    def corrupt(self) -> dict[ChannelId, str]:
        return dict(self.damaged)

    def channels(self) -> list[ChannelInfo]:
        return [info for channel_id, info in self.infos.items() if channel_id not in self.on_disk]

    def channel(self, channel_id: ChannelId) -> ChannelInfo:
        if channel_id in self.damaged:
            raise CorruptionError(f"channel 0x{channel_id.hex()} is corrupt: {self.damaged[channel_id]}")
        if channel_id not in self.infos:
            raise LocalError(f"no channel 0x{channel_id.hex()}")
        return self.infos[channel_id]

    async def recover(self, channel_id: ChannelId) -> None:
        info = self.channel(channel_id)
        if info.phase != "recovering":
            raise LocalError(f"the channel is {info.phase}, there is nothing to recover from")
        self.infos[channel_id] = msgspec.structs.replace(info, phase="running", waiting_for="")

    async def top_up(self, channel_id: ChannelId, asset: Address, amount: int) -> None:
        info = self.channel(channel_id)
        if info.phase != "running":
            raise LocalError(f"the channel is {info.phase}: only a running one can be topped up")
        self.topped_up.append((channel_id, asset, amount))

    async def resize(
        self, channel_id: ChannelId, withdrawn: Mapping[Address, int], params: Any = None
    ) -> ChannelId | None:
        info = self.channel(channel_id)
        if info.phase != "running":
            raise LocalError(f"the channel is {info.phase}: only a directly funded one that runs can be resized")
        self.resized.append((channel_id, dict(withdrawn), params))
        if info.my_index != 0:
            return None
        self._nonce += 1
        successor = ChannelId(keccak256(b"channel" + self._nonce.to_bytes(8, "big")))
        self.state(successor, info.participants, info.deployment, "running", params)
        self.infos[successor] = msgspec.structs.replace(self.infos[successor], renews=channel_id)
        self.infos[channel_id] = msgspec.structs.replace(info, successor=successor)
        return successor

    async def open_channel(self, request: OpenRequest) -> ChannelId:
        self._nonce += 1
        self.requests.append(request)
        channel_id = ChannelId(keccak256(b"channel" + self._nonce.to_bytes(8, "big")))
        self.state(channel_id, (self.address, *request.peers), request.deployment, self.opens_to, request.params)
        return channel_id

    def state(
        self,
        channel_id: ChannelId,
        participants: tuple[Address, ...],
        deployment: Deployment,
        phase: str,
        params: Any = None,
        slots: tuple[tuple[bytes, bytes, int], ...] = (),
    ) -> ChannelInfo:
        """Say that this channel exists, in this phase; a running one has its entry 0."""
        self.infos[channel_id] = ChannelInfo(
            channel_id=channel_id, phase=phase, waiting_for="" if phase == "running" else "bob's signature",
            participants=participants, my_index=participants.index(self.address), deployment=deployment,
            deployment_id=deployment_id(deployment), slots=slots, turn=None, signed_turn=None, sequence=0,
            log_root=EMPTY_LOG_ROOT, state_root=bytes(32), amounts=tuple(s[2] for s in slots), time_ms=NOW_MS,
            pending=0, reason="",
        )  # fmt: skip
        self.source.known[channel_id] = ChannelContext(channel_id, participants, deployment, slots)
        if phase == "running":
            payload = msgspec.msgpack.encode(
                OpenPayload(participants, tuple(Slot(a, d, n.to_bytes(32, "big")) for a, d, n in slots), params)
            )
            self._support(channel_id, [encode_entry(Kind.OPEN, 0, 0, NOW_MS, payload)], 0)
        return self.infos[channel_id]

    def _support(self, channel_id: ChannelId, entries: list[bytes], turn: int) -> SupportedBatch:
        info = self.infos[channel_id]
        root = extend_log_root(Hash(info.log_root), entries)
        stored = self.source.of.setdefault(channel_id, [])
        batch = SupportedBatch(
            turn, info.sequence, tuple(entries), root, keccak256(root), info.amounts, NOW_MS, False, len(stored) + 1
        )
        stored.append(batch)
        self.infos[channel_id] = msgspec.structs.replace(
            info, sequence=batch.end_sequence, turn=turn, signed_turn=turn, log_root=root, state_root=batch.state_root
        )
        self.tell(NodeEvent(kind="supported", channel_id=channel_id, sequence=batch.end_sequence, turn=turn))
        return batch

    def set_phase(self, channel_id: ChannelId, phase: str, reason: str = "") -> None:
        self.infos[channel_id] = msgspec.structs.replace(self.infos[channel_id], phase=phase, reason=reason)
        self.tell(NodeEvent(kind=phase, channel_id=channel_id, detail=reason))

    def tell(self, event: NodeEvent) -> None:
        for listener in list(self.listeners):
            listener(event)

    async def accept(self, channel_id: ChannelId) -> None:
        self._must_be(channel_id, "proposed")
        self.state(channel_id, self.infos[channel_id].participants, self.infos[channel_id].deployment, "running")

    async def fetch_module(self, channel_id: ChannelId, timeout: float) -> bytes:  # the port's
        self._must_be(channel_id, "proposed")
        return self.modules[channel_id]

    async def reject(self, channel_id: ChannelId, reason: str) -> None:
        self._must_be(channel_id, "proposed")
        self.set_phase(channel_id, "rejected", reason)

    def _must_be(self, channel_id: ChannelId, phase: str) -> None:
        found = self.channel(channel_id).phase
        if found != phase:
            raise LocalError(f"channel 0x{channel_id.hex()} is {found}; this is allowed only while {phase}")

    async def submit(
        self,
        channel_id: ChannelId,
        payloads: Sequence[bytes],
        *,
        tick: bool = False,
        timeout: float = 30.0,  # the port's
    ) -> list[Receipt]:
        self._must_be(channel_id, "running")
        info = self.infos[channel_id]
        receipts = []
        kind = Kind.TICK if tick else Kind.MESSAGE
        for counter, payload in enumerate(payloads, 1):
            if self.stuck:
                receipts.append(Receipt(counter=counter, status="pending"))
            elif payload in self.refused:
                reason = self.refused[payload]
                receipts.append(Receipt(counter=counter, status="refused", code="rejected", reason=reason))
            else:
                entry = encode_entry(kind, info.my_index, counter, NOW_MS, payload)
                batch = self._support(channel_id, [entry], len(self.source.of[channel_id]))
                receipts.append(
                    Receipt(counter=counter, status="accepted", sequence=batch.first_sequence, turn=batch.turn)
                )
        return receipts

    async def close_channel(self, channel_id: ChannelId) -> None:
        self._must_be(channel_id, "running")
        self.set_phase(channel_id, "closing" if self.stuck else "closed")

    async def challenge(self, channel_id: ChannelId) -> None:
        self._must_be(channel_id, "running")
        self.set_phase(channel_id, "disputed")

    def enforceable_state(self, channel_id: ChannelId) -> SignedState | None:
        return self.enforceable.get(channel_id)

    async def checkpoint(self, channel_id: ChannelId) -> None:
        self._must_be(channel_id, "running")

    async def withdraw(self, channel_id: ChannelId) -> None:
        self._must_be(channel_id, "closed")
        self.set_phase(channel_id, "settled")

    async def wait_phase(
        self,
        channel_id: ChannelId,
        phases: Sequence[str],
        timeout: float,  # the port's
    ) -> ChannelInfo:
        changed = asyncio.Event()
        end = self.subscribe(lambda _: changed.set())
        try:
            async with asyncio.timeout(timeout):
                while self.channel(channel_id).phase not in phases:
                    await changed.wait()
                    changed.clear()
        finally:
            end()
        return self.channel(channel_id)

    def subscribe(self, listener: Callable[[NodeEvent], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)


class FakeDerived:
    """A database that answers what it was told to; `down` makes it unreachable."""

    def __init__(self) -> None:
        self.down = False
        self.answer = QueryAnswer(columns=[QueryColumn(name="n", type="int4")], rows=[[1]], truncated=False)
        self.asked: list[tuple[str, list[Any]]] = []
        self.cursors: dict[ChannelId, DerivedView] = {}
        self.whole: set[ChannelId] = set()  # channels on the disk that are in the database to the end
        self.verdicts: dict[ChannelId, VerifyAnswer] = {}
        self.events: dict[ChannelId, list[AppEvent]] = {}
        self.listeners: list[Callable[[Committed], None]] = []

    def followed(self) -> list[ChannelId]:
        return list(self.cursors)

    def has_all_of(self, channel_id: ChannelId) -> bool:
        return channel_id in self.whole

    def view(self) -> DatabaseView:
        return DatabaseView(backend="fake", state="down" if self.down else "up")

    def cursor(self, channel_id: ChannelId) -> DerivedView | None:
        return self.cursors.get(channel_id)

    def schema_of(self, deployment_id: bytes) -> str:
        return "duel"

    def prepare(self, app: App) -> str:
        return "" if self.down else "duel"

    def _must_be_up(self) -> None:
        if self.down:
            raise ApiError("database_down", "the database is down: connection refused", "it is retried by itself")

    def query(self, sql: str, params: Sequence[Any], rows_max: int, timeout_s: float) -> QueryAnswer:
        self._must_be_up()
        self.asked.append((sql, list(params)))
        if "syntax" in sql:
            raise ApiError("bad_sql", f'syntax error at or near "{sql}"')
        return self.answer

    def verify(self, channel_id: ChannelId) -> VerifyAnswer:
        self._must_be_up()
        if channel_id not in self.verdicts:
            raise ApiError("refused", "nothing of this channel is derived yet")
        return self.verdicts[channel_id]

    def app_events(self, channel_id: ChannelId, first_sequence: int, end_sequence: int) -> list[AppEvent]:
        self._must_be_up()
        return [e for e in self.events.get(channel_id, ()) if first_sequence <= e.sequence < end_sequence]

    def subscribe(self, listener: Callable[[Committed], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def derive(self, derivation: Committed) -> None:
        """As the worker does: tell, then move the cursor."""
        self.events.setdefault(derivation.channel_id, []).extend(derivation.changes.app_events())
        for listener in list(self.listeners):
            listener(derivation)
        self.cursors[derivation.channel_id] = DerivedView(
            sequence=derivation.end_sequence, turn=derivation.turn, state_root="0x" + "00" * 32, state="following"
        )
