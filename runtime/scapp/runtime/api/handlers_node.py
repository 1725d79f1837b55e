"""Handlers about the node itself: health, status, counters, peers, deployments."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from scapp.channels.deployment import Limits
from scapp.channels.errors import ScappError
from scapp.runtime.api.call import Call, address_of, find_app, find_peer
from scapp.runtime.api.errors import STORAGE_HINT, ApiError
from scapp.runtime.api.metrics import metrics_text
from scapp.runtime.api.views import app_view, chain_status_view, hexed, peer_view, phases
from scapp.runtime.chain_documents import ChainStatusView
from scapp.runtime.deployments import App
from scapp.runtime.documents import (
    AppList,
    AppView,
    Counters,
    Health,
    PeerList,
    PeerRequest,
    PeerView,
    Status,
    WaitRequest,
)
from scapp.runtime.module import ManifestRefused
from scapp.runtime.recovery_documents import BackupRequest, BackupView
from scapp.runtime.sizes import disk_free_bytes, log_bytes

FETCH_S = 30.0


async def health(call: Call) -> Health:
    if call.context.log_failure():
        # Without details: this path needs no token.
        raise ApiError("storage_failed", "the log takes no more writes, so nothing is signed", STORAGE_HINT)
    return Health(ok=True, database=call.context.derived.view().state)


async def status(call: Call) -> Status:
    context = call.context
    known = _peers(call)
    return Status(
        address=hexed(context.service.address),
        version=context.version,
        pid=context.pid,
        started_ms=context.started_ms,
        home=str(context.home),
        listen=context.listen,
        database=context.derived.view(),
        channels=dict(phases(context.service)),
        peers_connected=sum(peer.connected for peer in known),
        peers_known=len(known),
        apps=len(context.apps.all()),
        policy=context.policy,
        corrupt={hexed(channel_id): reason for channel_id, reason in context.service.corrupt().items()},
        log_failure=context.log_failure(),
        log_bytes=log_bytes(context.home),
        disk_free_bytes=disk_free_bytes(context.home),
    )


async def chain(call: Call) -> ChainStatusView:
    return chain_status_view(call.context.chain)


async def counters(call: Call) -> Counters:
    return Counters(counters=call.context.counters())


async def metrics(call: Call) -> str:
    return await metrics_text(call.context, time.time)


async def peers(call: Call) -> PeerList:
    return PeerList(peers=_peers(call))


async def add_peer(call: Call) -> PeerView:
    request = call.document(PeerRequest)
    address = address_of(request.address, "address")
    if address == call.context.service.address:
        raise ApiError("refused", f"{request.address} is this node itself", "add the other node's address")
    peer = await call.context.blocking(call.context.peers.add, address, request.endpoint, request.name)
    call.context.service.add_peer(address, request.endpoint)
    return peer_view(peer, next((s for s in call.context.service.peers() if s.address == address), None))


async def remove_peer(call: Call) -> PeerView:
    """Out of the list that policies trust; its link ends, and it is dialled no longer."""
    address = find_peer(call.context, call.path["peer"], "`scapp peers list` shows them all")
    peer = await call.context.blocking(call.context.peers.remove, address)
    if address not in call.context.peers:  # else it was added again meanwhile
        call.context.service.remove_peer(address)
    return peer_view(peer, next((s for s in call.context.service.peers() if s.address == address), None))


def _peers(call: Call) -> list[PeerView]:
    statuses = {status.address: status for status in call.context.service.peers()}
    listed = {peer.raw: peer for peer in call.context.peers.all()}
    return [peer_view(listed.get(a), statuses.get(a)) for a in sorted({*statuses, *listed})]


async def backup(call: Call) -> BackupView:
    """Reading and copying everything takes a while: not on the event loop."""
    request = call.document(BackupRequest)
    return await call.context.blocking(call.context.backup, Path(request.path), request.keys)


async def deployments(call: Call) -> AppList:
    return AppList(deployments=[await _view(call, app) for app in call.context.apps.all()])


async def deployment(call: Call) -> AppView:
    return await _view(call, find_app(call.context, call.path["app"]))


async def module(call: Call) -> bytes:
    """Anybody who may read can run it over the log for themselves."""
    app = find_app(call.context, call.path["app"])
    wasm = await call.context.blocking(call.context.apps.wasm, app.deployment.reducer)
    if wasm is None:
        raise ApiError("storage_failed", f"the file of the module of {app.name} is gone", "deploy it again")
    return wasm


async def _view(call: Call, app: App) -> AppView:
    """With the app's schema, made now if it is not there yet: `deploy` is what people expect to make tables."""
    derived = call.context.derived
    return app_view(app, derived.schema_of(app.id) or await call.context.blocking(derived.prepare, app))


async def deploy(call: Call) -> AppView:
    """Checking and compiling a module takes a while: not on the event loop."""
    assert isinstance(call.body, bytes)
    return await _deployed(call, call.body, limits_of(call.query.get("limits")))


async def deploy_of_channel(call: Call) -> AppView:
    """The bytes come from the proposer and are checked against the hash in the proposal, then like any module."""
    info = call.channel()
    wait_s = call.document(WaitRequest).wait_s or FETCH_S
    wasm = await call.context.service.fetch_module(info.channel_id, wait_s)
    return await _deployed(call, wasm, info.deployment.limits)


async def _deployed(call: Call, wasm: bytes, limits: Limits) -> AppView:
    try:
        app = await call.context.blocking(call.context.apps.add, wasm, limits)
    except (ScappError, ValueError) as error:
        raise bad_module(error) from error
    return await _view(call, app)


def bad_module(error: Exception) -> ApiError:
    """The answer for a module that was not taken, with the page that says what it must be like."""
    page, what = ("manifest", "manifest") if isinstance(error, ManifestRefused) else ("abi", "module")
    return ApiError("bad_module", str(error), f"docs/reference/{page}.md says what a {what} must be")


def limits_of(text: str | None) -> Limits:
    """The signed limits a query string asks for. Raises ApiError."""
    if not text:
        return Limits()
    try:
        wanted = msgspec.json.decode(text, type=dict[str, int])
    except msgspec.MsgspecError as error:
        raise ApiError("bad_request", f"limits is not a JSON object of integers: {error}") from None
    unknown = sorted(set(wanted) - set(Limits.__struct_fields__))
    if unknown:
        known = ", ".join(Limits.__struct_fields__)
        raise ApiError("bad_request", f"unknown limit {', '.join(unknown)}; known are {known}")
    if any(value < 1 or value >= 2**63 for value in wanted.values()):
        raise ApiError("bad_request", f"limits {wanted} has a value below 1 or above 2^63-1")
    return Limits(**wanted)
