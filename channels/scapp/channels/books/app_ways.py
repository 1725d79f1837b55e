"""An app channel over the best route, then over the next one while that fails: `books/routes.py` finds and counts them,
the node's app channels open them."""

from __future__ import annotations

import msgspec

from scapp.channels.abi import InvalidValue, group_slots
from scapp.channels.books.info import BooksPort, RouteRequest, WayEnd
from scapp.channels.errors import LocalError
from scapp.channels.routing.paths import Route
from scapp.channels.service import NodeService, OpenRequest
from scapp.channels.types import Address, ChannelId

DECIDED = ("running", "disputed", "closing", "closed", "settled", "rejected", "recovering", "halted")


async def open_over_routes(
    service: NodeService, books: BooksPort, request: OpenRequest, fee_max: int, timeout_s: float
) -> ChannelId:
    """Open an app channel with one peer over ledgers; hubs and fees of `request` are found. Returns the channel that
    runs, or that is under way when the time is over. Raises LocalError when no way is left: what was tried, and why it
    failed; or when the peer does not want it."""
    if len(request.peers) != 1:
        raise LocalError("a channel over ledgers has one peer")
    (peer,) = request.peers

    async def begin(route: Route) -> ChannelId:
        return await service.open_channel(msgspec.structs.replace(request, via=route.hubs, fees=route.fees))

    async def end(channel: ChannelId, route: Route, left_s: float) -> WayEnd:
        info = await service.wait_phase(channel, DECIDED, left_s)
        known = any(each.channel_id == channel for each in books.virtuals())
        # What the ledgers do not know was refused by the peer: for a reason of its own, or of its ledger with a hub.
        hub = route.hubs[-1].hex() if route.hubs else ""
        final = not known and not (hub and hub in info.reason)
        return WayEnd(runs=info.phase != "rejected", reason=info.reason, final=final)

    question = RouteRequest(
        to=peer, amounts=_amounts(request), challenge_duration_s=request.challenge_duration, fee_max=fee_max
    )
    return await books.over_routes(question, begin, end, timeout_s)


def _amounts(request: OpenRequest) -> tuple[tuple[Address, int, int], ...]:
    """By asset what this node puts in and what the peer does."""
    found = []
    try:
        groups = group_slots(request.slots)
    except InvalidValue as error:
        raise LocalError(str(error)) from error
    for asset, group in groups:
        if len(group) != 2:
            raise LocalError(f"a channel over ledgers has two slots of each asset, this one {len(group)}")
        found.append((Address(asset), group[0][2], group[1][2]))
    return tuple(found)
