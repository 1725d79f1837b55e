"""Handlers about channels: open, answer, close, send, read the log."""

from __future__ import annotations

import heapq

from scapp.channels.books.app_ways import open_over_routes
from scapp.channels.channel.shares import with_room
from scapp.channels.service import OpenRequest
from scapp.channels.types import U256_MAX, Address, ChannelId
from scapp.runtime.api.call import Call, address_of, find_app, find_peer
from scapp.runtime.api.errors import ApiError
from scapp.runtime.api.payloads import from_json, payload_of
from scapp.runtime.api.views import channel_view, encoding_of, entry_view, hexed, receipt_view, unfinished
from scapp.runtime.chain_documents import ResizeRequest, TopUpRequest
from scapp.runtime.documents import (
    ChannelList,
    ChannelView,
    EntryPage,
    OpenChannelRequest,
    RejectRequest,
    SendAnswer,
    SendRequest,
    SlotView,
    WaitRequest,
)
from scapp.runtime.recovery_documents import RecoverRequest

PAGE_MAX = 1_000
LISTED_MAX = 1_000_000
SETTLED = ("running", "disputed", "closed", "settled", "rejected", "halted")


async def channels(call: Call) -> ChannelList:
    phase, service = call.query.get("phase"), call.context.service
    after, limit = _after(call), call.integer("limit", LISTED_MAX, 1, LISTED_MAX)
    found = [info for info in service.channels() if phase in (None, info.phase)] if not after else []
    is_short = call.query.get("over") == "no"
    over = service.archived().items() if not is_short else ()
    wanted = (channel_id for channel_id, each in over if phase in (None, each.phase) and channel_id > after)
    page = heapq.nsmallest(limit + 1, wanted)
    found += await service.read_archived(page[:limit])
    if is_short and not after:  # what is halted or behind is to be seen
        found += [info for info in await unfinished(call.context) if phase in (None, info.phase)]
    following = hexed(page[limit - 1]) if len(page) > limit else None
    return ChannelList(channels=[channel_view(info, call.context) for info in found], next=following)


def _after(call: Call) -> bytes:
    """The last channel of the page before; nothing for the first page. Raises ApiError."""
    text = call.query.get("after", "").removeprefix("0x")
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ApiError("bad_request", f"after={text[:80]!r} is not a channel id; it is `next` of a page") from None


async def channel(call: Call) -> ChannelView:
    return channel_view(call.channel(), call.context)


async def open_channel(call: Call) -> ChannelView:
    request = call.document(OpenChannelRequest)
    if request.fund != "none":
        call.require("funds", "a channel with deposits")
    app = find_app(call.context, request.app)
    peers = tuple(find_peer(call.context, text) for text in request.peers)
    wish = OpenRequest(
        peers=peers,
        deployment=app.deployment,
        params=from_json(request.params),
        slots=_slots(call, request, peers),
        challenge_duration=request.challenge_duration_s,
        fund=request.fund,
        via=tuple(find_peer(call.context, text) for text in request.via),
        fees=tuple(map(int, request.fees)) or (0,) * len(request.via),
    )
    if not request.routed:
        return await _settled(call, await call.context.service.open_channel(wish), request.wait_s)
    if request.fund != "virtual" or request.via or call.context.books is None:
        raise ApiError("bad_request", "only a channel over ledgers is `routed`, and then it names no hubs in `via`")
    fee_max = U256_MAX if request.fee_max is None else int(request.fee_max)
    channel_id = await open_over_routes(call.context.service, call.context.books, wish, fee_max, request.wait_s)
    return channel_view(call.context.service.channel(channel_id), call.context)


def _slots(call: Call, request: OpenChannelRequest, peers: tuple[Address, ...]) -> tuple[tuple[bytes, bytes, int], ...]:
    """The outcome slots as given, or those that equal stakes stand for: slot i of each asset is participant i's."""
    if not request.stakes:
        if request.payouts:
            raise ApiError("bad_request", "`payouts` belong to `stakes`; `slots` name their destinations themselves")
        return tuple(_slot(slot) for slot in request.slots)
    if request.slots or request.fund == "none":
        raise ApiError("bad_request", "`stakes` are deposits: they need `fund`, and take the place of `slots`")
    own = call.context.service.address
    to: dict[Address, Address] = {}
    for text, account in request.payouts.items():
        who = own if text.lower() == hexed(own) else find_peer(call.context, text)
        if who not in (own, *peers):
            raise ApiError("bad_request", f"payout for {text}, who is no participant")
        to[who] = address_of(account, f"payout of {text}")
    slots: list[tuple[bytes, bytes, int]] = []
    for stake in request.stakes:
        paid = [hexed(to.get(participant, participant)) for participant in (own, *peers)]
        first = [_slot(SlotView(asset=stake.asset, destination=account, amount=stake.amount)) for account in paid]
        slots += with_room(first, len(first), int(stake.headroom)) if int(stake.headroom) else first
    return tuple(slots)


def _slot(slot: SlotView) -> tuple[bytes, bytes, int]:
    address = len(slot.destination) == 42
    destination = address_of(slot.destination, "destination") if address else bytes.fromhex(slot.destination[2:])
    amount = int(slot.amount)
    if amount >= 2**256:
        raise ApiError("bad_request", f"amount {slot.amount} does not fit 256 bits")
    return address_of(slot.asset, "asset"), destination.rjust(32, b"\x00"), amount


async def accept(call: Call) -> ChannelView:
    info = call.channel()
    if call.context.apps.get(info.deployment_id) is None:
        raise ApiError(
            "unknown_app",
            f"channel {hexed(info.channel_id)} runs deployment {hexed(info.deployment_id)}, which is not known here",
            "`scapp deploy --from CHANNEL` fetches it from the proposer; then accept",
        )
    if info.chain is not None or info.backing is not None:
        call.require("funds", "a channel with deposits")
    await call.context.service.accept(info.channel_id)
    return await _settled(call, info.channel_id, call.document(WaitRequest).wait_s)


async def reject(call: Call) -> ChannelView:
    info = call.channel()
    await call.context.service.reject(info.channel_id, call.document(RejectRequest).reason)
    return channel_view(call.context.service.channel(info.channel_id), call.context)


async def recover(call: Call) -> ChannelView:
    info = call.channel()
    if not call.document(RecoverRequest).override:
        raise ApiError(
            "bad_request",
            "a restored channel recovers by itself once every other participant has told its highest signed state",
            "with `override`: true it goes on without them, and may contradict what this node has signed before",
        )
    await call.context.service.recover(info.channel_id)
    return channel_view(call.context.service.channel(info.channel_id), call.context)


async def close(call: Call) -> ChannelView:
    info = call.channel()
    await call.context.service.close_channel(info.channel_id)
    return await _settled(call, info.channel_id, call.document(WaitRequest).wait_s, ("closed", "settled", "halted"))


async def top_up(call: Call) -> ChannelView:
    info = call.channel()
    request = call.document(TopUpRequest)
    await call.context.service.top_up(info.channel_id, address_of(request.asset, "asset"), int(request.amount))
    return channel_view(call.context.service.channel(info.channel_id), call.context)


async def resize(call: Call) -> ChannelView:
    info = call.channel()
    request = call.document(ResizeRequest)
    withdrawn = {address_of(each.asset, "asset"): int(each.amount) for each in request.withdraw}
    if len(withdrawn) != len(request.withdraw):
        raise ApiError("bad_request", "an asset stands in `withdraw` twice")
    successor = await call.context.service.resize(info.channel_id, withdrawn, request.params)
    if successor is None:
        return channel_view(call.context.service.channel(info.channel_id), call.context)
    return await _settled(call, successor, request.wait_s, ("running", "rejected", "halted"))


async def challenge(call: Call) -> ChannelView:
    info = call.channel()
    await call.context.service.challenge(info.channel_id)
    return await _settled(call, info.channel_id, call.document(WaitRequest).wait_s, ("settled", "halted"))


async def withdraw(call: Call) -> ChannelView:
    info = call.channel()
    await call.context.service.withdraw(info.channel_id)
    return await _settled(call, info.channel_id, call.document(WaitRequest).wait_s, ("settled", "halted"))


async def checkpoint(call: Call) -> ChannelView:
    info = call.channel()
    await call.context.service.checkpoint(info.channel_id)
    return channel_view(call.context.service.channel(info.channel_id), call.context)


async def _settled(call: Call, channel_id: ChannelId, wait_s: float, phases: tuple[str, ...] = SETTLED) -> ChannelView:
    """The channel as it stands when it settles or the wait ends: what was asked is durable either way."""
    service = call.context.service
    info = service.channel(channel_id)
    if wait_s > 0:
        try:
            info = await service.wait_phase(channel_id, phases, wait_s)
        except TimeoutError:
            info = service.channel(channel_id)
    return channel_view(info, call.context)


async def send(call: Call) -> SendAnswer:
    info = call.channel()
    request = call.document(SendRequest)
    if bool(request.messages) == request.tick:
        raise ApiError("bad_request", "allowed is either `messages` with at least one or `tick`: true, not both")
    encoding = encoding_of(call.context.apps.get(info.deployment_id))
    payloads = [payload_of(item, encoding, index) for index, item in enumerate(request.messages)]
    limit = info.deployment.limits.payload_bytes_max
    for index, payload in enumerate(payloads):
        if len(payload) > limit:
            raise ApiError("bad_payload", f"message {index} has {len(payload)} bytes; the signed limit is {limit}")
    receipts = await call.context.service.submit(
        info.channel_id, payloads or [b""], tick=request.tick, timeout=request.timeout_s
    )
    return SendAnswer(receipts=[receipt_view(receipt) for receipt in receipts])


async def entries(call: Call) -> EntryPage:
    info = call.channel()
    start = call.integer("from", 0, 0, 2**63 - 1)
    limit = call.integer("limit", 100, 1, PAGE_MAX)
    stored, following = await call.context.blocking(call.context.entries.page, info.channel_id, start, limit)
    encoding = encoding_of(call.context.apps.get(info.deployment_id))
    return EntryPage(
        channel_id=hexed(info.channel_id),
        entries=[entry_view(entry, info.participants, encoding) for entry in stored],
        next=following,
    )
