"""From the node's own types to the documents of the API. Hexadecimal begins here."""

from __future__ import annotations

import base64
from collections import Counter
from contextlib import suppress

import msgspec

from scapp.channels.chain.port import ChainService, TransactionInfo
from scapp.channels.channel.standing import BackingInfo, ChannelOnChainInfo
from scapp.channels.crypto import keccak256
from scapp.channels.entries import Kind, decode_entry
from scapp.channels.errors import ScappError
from scapp.channels.onchain import Protection
from scapp.channels.service import ChannelInfo, NodeService, Receipt
from scapp.channels.transport.port import PeerStatus
from scapp.channels.types import ChannelId
from scapp.runtime.api.context import ApiContext
from scapp.runtime.api.entries import StoredEntry
from scapp.runtime.api.payloads import decode_payload
from scapp.runtime.chain_documents import AssetOnChainView, ChainStatusView, ChannelOnChainView, TransactionView
from scapp.runtime.changes import AppEvent, TableChange
from scapp.runtime.deployments import App
from scapp.runtime.documents import (
    AppView,
    ChannelView,
    ColumnView,
    DerivedView,
    EntryView,
    PeerView,
    ReceiptView,
    SlotView,
    StreamItem,
    TableChangeView,
    TableView,
)
from scapp.runtime.follow import Committed
from scapp.runtime.ledger_documents import BackingView
from scapp.runtime.peerbook import Peer
from scapp.runtime.row_json import row_as_json


def hexed(data: bytes) -> str:
    """`0x` and lower-case digits."""
    return "0x" + bytes(data).hex()


def encoding_of(app: App | None) -> str:
    """The payload encoding; `raw` for an app that is not known here."""
    return app.manifest.encoding if app else "raw"


def phases(service: NodeService) -> Counter[str]:
    """How many channels are in each phase."""
    found = Counter(info.phase for info in service.channels())
    found.update(each.phase for each in service.archived().values())
    return found


async def unfinished(context: ApiContext) -> list[ChannelInfo]:
    """Channels that are over and left on the disk, and of which the database lacks something: mostly none. None as well
    while the disk cannot be read."""
    archived = context.service.archived()
    with suppress(ScappError):
        return await context.service.read_archived([each for each in context.derived.followed() if each in archived])
    return []


def derived_view(info: ChannelInfo, context: ApiContext) -> DerivedView | None:
    """How far the channel's rows are; None while that is not known."""
    found = context.derived.cursor(info.channel_id)
    if found is None and info.turn is not None and context.derived.has_all_of(info.channel_id):
        return DerivedView(
            sequence=info.sequence, turn=info.turn, state_root=hexed(info.state_root), state="following", detail=""
        )
    return found


def channel_view(info: ChannelInfo, context: ApiContext) -> ChannelView:
    app = context.apps.get(info.deployment_id)
    return ChannelView(
        channel_id=hexed(info.channel_id),
        phase=info.phase,  # type: ignore[arg-type]  # the service's words are the document's
        waiting_for=info.waiting_for,
        participants=[hexed(participant) for participant in info.participants],
        my_index=info.my_index,
        app=app.name if app else "",
        deployment_id=hexed(info.deployment_id),
        slots=[slot_view(slot) for slot in info.slots],
        turn=info.turn,
        signed_turn=info.signed_turn,
        sequence=info.sequence,
        log_root=hexed(info.log_root),
        state_root=hexed(info.state_root),
        amounts=[str(amount) for amount in info.amounts],
        time_ms=info.time_ms,
        pending=info.pending,
        reason=info.reason,
        derived=derived_view(info, context),
        chain=on_chain_view(info.channel_id, info.chain, context.chain),
        backing=None if info.backing is None else _backing(info.backing),
        renews="" if info.renews is None else hexed(info.renews),
        successor="" if info.successor is None else hexed(info.successor),
    )


def _backing(found: BackingInfo) -> BackingView:
    return BackingView(
        hubs=[hexed(hub) for hub in found.hubs],
        fees=[str(fee) for fee in found.fees],
        stage=found.stage,
        detail=found.detail,
        exit_reason=found.exit_reason,
    )


def on_chain_view(
    channel: ChannelId, found: ChannelOnChainInfo | None, chain: ChainService | None
) -> ChannelOnChainView | None:
    """What the chain shows of a channel or a ledger, and what became of its transactions; None where it shows none."""
    if found is None:
        return None
    columns = zip(found.assets, found.needed, found.own, found.holdings, found.confirmed, strict=True)
    return ChannelOnChainView(
        mode=found.mode,  # type: ignore[arg-type]  # the service's words are the document's
        turn_record=found.turn_record,
        finalizes_at_s=found.finalizes_at,
        challenge_duration_s=found.challenge_duration,
        exit_reason=found.exit_reason,
        settled=found.settled,
        assets=[
            AssetOnChainView(asset=hexed(asset), needed=str(needed), own=str(own), held=str(held), confirmed=str(sure))
            for asset, needed, own, held, sure in columns
        ],
        transactions=[transaction_view(each) for each in chain.transactions(channel)] if chain else [],
    )


def transaction_view(found: TransactionInfo) -> TransactionView:
    return TransactionView(
        kind=found.purpose.kind,
        status=found.status,
        transaction=hexed(found.transaction_hash) if found.transaction_hash else "",
        block=found.block,
        gas_used=found.gas_used,
        detail=found.detail,
    )


def chain_status_view(chain: ChainService | None) -> ChainStatusView:
    if chain is None:
        return ChainStatusView(connected=False)
    found = chain.status()
    return ChainStatusView(
        connected=True,
        chain_id=found.chain_id,
        adjudicator=hexed(found.adjudicator),
        consensus_app=hexed(found.consensus_app),
        account=hexed(found.account),
        balance=None if found.balance is None else str(found.balance),
        head=found.head,
        head_time_s=found.head_time_s,
        processed=found.processed,
        confirmations=found.confirmations,
        lag_blocks=found.lag_blocks,
        endpoints=list(found.endpoints),
        endpoint=found.endpoint,
        watched=found.watched,
        pending=found.pending,
        fault=found.fault,
        behind_s=found.behind_s,
        unprotected={k: v for k, v in msgspec.structs.asdict(found.protection or Protection()).items() if v},
    )


def slot_view(slot: tuple[bytes, bytes, int]) -> SlotView:
    """A destination that is an address is shown as one."""
    asset, destination, amount = slot
    shown = destination[12:] if destination[:12] == bytes(12) else destination
    return SlotView(asset=hexed(asset), destination=hexed(shown), amount=str(amount))


def app_view(app: App, schema: str) -> AppView:
    limits = msgspec.structs.asdict(app.deployment.limits)
    return AppView(
        name=app.name,
        app_version=app.manifest.version,
        deployment_id=hexed(app.id),
        reducer=hexed(app.deployment.reducer),
        abi=app.deployment.abi,
        encoding=app.manifest.encoding,
        wasm_bytes=app.wasm_bytes,
        limits=limits,
        tables=[
            TableView(
                name=table.name,
                columns=[
                    ColumnView(name=column.name, type=column.type, key=index < table.key, nullable=column.nullable)
                    for index, column in enumerate(table.columns)
                ],
            )
            for table in app.manifest.tables
        ],
        schema=schema,
    )


def peer_view(peer: Peer | None, status: PeerStatus | None) -> PeerView:
    """One of the two may be missing: a peer that is not in the list, or one not heard of since the start."""
    assert peer or status
    return PeerView(
        address=hexed(status.address) if status else peer.address if peer else "",
        name=peer.name if peer else "",
        endpoint=(status.endpoint if status and status.endpoint else peer.endpoint if peer else ""),
        connected=status.connected if status else False,
        queued=status.queued if status else 0,
        sent=status.sent if status else 0,
        received=status.received if status else 0,
        refused=status.refused if status else 0,
        last_error=(status.last_error if status else None) or "",
    )


def receipt_view(receipt: Receipt) -> ReceiptView:
    return ReceiptView(
        counter=receipt.counter,
        status=receipt.status,  # type: ignore[arg-type]  # the service's words are the document's
        sequence=receipt.sequence,
        turn=receipt.turn,
        code=receipt.code,
        reason=receipt.reason,
    )


def entry_view(stored: StoredEntry, participants: tuple[bytes, ...], encoding: str) -> EntryView:
    entry = decode_entry(stored.data)
    author = participants[entry.author] if entry.author < len(participants) else b""
    known = "msgpack" if entry.kind is Kind.OPEN else encoding
    return EntryView(
        sequence=stored.sequence,
        turn=stored.turn,
        kind=entry.kind.name.lower(),
        author=entry.author,
        author_address=hexed(author),
        counter=entry.counter,
        time_ms=entry.time_ms,
        payload=decode_payload(entry.payload, known),
        payload_base64=base64.b64encode(entry.payload).decode(),
        hash=hexed(keccak256(stored.data)),
        state_root=hexed(stored.state_root),
    )


def rows_item(derivation: Committed, app: App | None) -> StreamItem:
    """The row changes of one derived batch; tables of an app that is not known here are left out."""
    views = [_table_change(change, app) for change in derivation.changes.tables]
    return StreamItem(
        kind="rows",
        channel_id=hexed(derivation.channel_id),
        sequence=derivation.end_sequence,
        turn=derivation.turn,
        tables=[view for view in views if view is not None],
    )


def _table_change(change: TableChange, app: App | None) -> TableChangeView | None:
    table = app.table(change.table) if app else None
    if table is None:
        return None
    return TableChangeView(
        table=change.table,
        upserts=[row_as_json(table.columns, row) for row in change.rows()],
        deletes=[row_as_json(table.columns, key) for key in change.deleted_keys()],
    )


def app_event_item(channel_id: bytes, event: AppEvent, encoding: str) -> StreamItem:
    return StreamItem(
        kind="app",
        channel_id=hexed(channel_id),
        sequence=event.sequence,
        topic=event.topic,
        data=decode_payload(event.data, encoding),
        data_base64=base64.b64encode(event.data).decode(),
    )
