"""Every path of the API: method, permission, documents in and out, and who handles it.

`server.py` serves this table and `openapi.py` describes it; nothing else lists the paths. Those of ledgers stand in
`routes_ledgers.py`.
"""

from __future__ import annotations

from scapp.runtime.api import handlers_channels, handlers_data, handlers_node, handlers_projections
from scapp.runtime.api.route import Query
from scapp.runtime.api.route import Route as Route
from scapp.runtime.api.routes_invoices import INVOICE_ROUTES
from scapp.runtime.api.routes_ledgers import LEDGER_ROUTES
from scapp.runtime.chain_documents import ChainStatusView, ResizeRequest, TopUpRequest
from scapp.runtime.derived_documents import ProjectionList, ProjectionView, ReplayAnswer, ReplayRequest
from scapp.runtime.documents import (
    AppList,
    AppView,
    ChannelList,
    ChannelView,
    Counters,
    EntryPage,
    Health,
    OpenChannelRequest,
    PeerList,
    PeerRequest,
    PeerView,
    QueryAnswer,
    QueryRequest,
    RejectRequest,
    SendAnswer,
    SendRequest,
    Status,
    StreamItem,
    TokenView,
    VerifyAnswer,
    WaitRequest,
)
from scapp.runtime.proof_format import ProofDocument, ProveRequest
from scapp.runtime.recovery_documents import BackupRequest, BackupView, RecoverRequest
from scapp.runtime.work_documents import WorkList

_CHANNEL = "/v1/channels/{channel}"
_PROJECTION = "/v1/projections/{projection}"
ROUTES: tuple[Route, ...] = (
    Route(
        method="GET", path="/v1/health", name="health", summary="Whether the node answers", permission=None,
        response=Health, handler=handlers_node.health,
    ),
    Route(
        method="GET", path="/v1/openapi.json", name="openapi", summary="This description", permission=None,
    ),
    Route(
        method="GET", path="/v1/status", name="status", summary="The node at a glance",
        response=Status, handler=handlers_node.status,
    ),
    Route(
        method="GET", path="/v1/token", name="own_token", summary="What the token of this request permits",
        response=TokenView,
    ),
    Route(
        method="GET", path="/v1/counters", name="counters", summary="What was counted since the start",
        response=Counters, handler=handlers_node.counters,
    ),
    Route(
        method="GET", path="/v1/metrics", name="metrics", summary="The node in numbers, as Prometheus reads them",
        response=str, handler=handlers_node.metrics,
    ),
    Route(
        method="GET", path="/v1/chain", name="chain", summary="How the node stands to its chain",
        response=ChainStatusView, handler=handlers_node.chain,
    ),
    Route(
        method="GET", path="/v1/peers", name="list_peers", summary="Peers and their links",
        response=PeerList, handler=handlers_node.peers,
    ),
    Route(
        method="POST", path="/v1/peers", name="add_peer", summary="Add or change a peer", permission="channels",
        request=PeerRequest, response=PeerView, handler=handlers_node.add_peer,
    ),
    Route(
        method="POST", path="/v1/peers/{peer}/remove", name="remove_peer", permission="channels",
        summary="Take a peer out of the list that policies trust", response=PeerView, handler=handlers_node.remove_peer,
    ),
    Route(
        method="GET", path="/v1/deployments", name="list_deployments", summary="Apps known to this node",
        response=AppList, handler=handlers_node.deployments,
    ),
    Route(
        method="POST", path="/v1/deployments", name="deploy", permission="admin",
        summary="Check and keep a reducer module (body: its bytes)", request=bytes, response=AppView,
        query=(Query("limits", "JSON object of signed limits that differ from the defaults"),),
        handler=handlers_node.deploy,
    ),
    Route(
        method="GET", path="/v1/deployments/{app}", name="get_deployment", summary="One app, by name or id",
        response=AppView, handler=handlers_node.deployment,
    ),
    Route(
        method="GET", path="/v1/deployments/{app}/module", name="get_module", summary="The app's module",
        response=bytes, handler=handlers_node.module,
    ),
    Route(
        method="GET", path="/v1/channels", name="list_channels", summary="Channels of this node",
        response=ChannelList, query=(
            Query("phase", "only channels in this phase"),
            Query("over", "`no`: without those that are over and were not used lately, which else come last"),
            Query("limit", "at most so many of these"),
            Query("after", "`next` of the page before"),
        ),
        handler=handlers_channels.channels,
    ),
    Route(
        method="POST", path="/v1/channels", name="open_channel", summary="Propose a channel", permission="channels",
        request=OpenChannelRequest, response=ChannelView, handler=handlers_channels.open_channel,
    ),
    Route(
        method="GET", path=_CHANNEL, name="get_channel", summary="One channel",
        response=ChannelView, handler=handlers_channels.channel,
    ),
    Route(
        method="POST", path=_CHANNEL + "/accept", name="accept_channel", summary="Accept a proposed channel",
        permission="channels", request=WaitRequest, response=ChannelView, handler=handlers_channels.accept,
    ),
    Route(
        method="POST", path=_CHANNEL + "/deploy", name="deploy_of_channel", permission="admin",
        summary="Fetch a proposed channel's module from its proposer, check and keep it",
        request=WaitRequest, response=AppView, handler=handlers_node.deploy_of_channel,
    ),
    Route(
        method="POST", path=_CHANNEL + "/reject", name="reject_channel", summary="Reject a proposed channel",
        permission="channels", request=RejectRequest, response=ChannelView, handler=handlers_channels.reject,
    ),
    Route(
        method="POST", path=_CHANNEL + "/close", name="close_channel", summary="Ask for the final state",
        permission="channels", request=WaitRequest, response=ChannelView, handler=handlers_channels.close,
    ),
    Route(
        method="POST", path=_CHANNEL + "/top-up", name="top_up_channel", permission="funds",
        summary="Let this node deposit more into a running channel, once the app has everybody sign that it does",
        request=TopUpRequest, response=ChannelView, handler=handlers_channels.top_up,
    ),
    Route(
        method="POST", path=_CHANNEL + "/resize", name="resize_channel", permission="funds",
        summary="Take money out of a running channel: a successor channel takes over the rest",
        request=ResizeRequest, response=ChannelView, handler=handlers_channels.resize,
    ),
    Route(
        method="POST", path=_CHANNEL + "/challenge", name="challenge_channel", permission="admin",
        summary="Leave a funded channel without the others: its newest co-signed state goes to the chain",
        request=WaitRequest, response=ChannelView, handler=handlers_channels.challenge,
    ),
    Route(
        method="POST", path=_CHANNEL + "/checkpoint", name="checkpoint_channel", permission="admin",
        summary="Record a funded channel's newest co-signed state on chain", response=ChannelView,
        handler=handlers_channels.checkpoint,
    ),
    Route(
        method="POST", path=_CHANNEL + "/withdraw", name="withdraw_channel", permission="admin",
        summary="Have a closed or finalized channel paid out now", request=WaitRequest, response=ChannelView,
        handler=handlers_channels.withdraw,
    ),
    Route(
        method="POST", path=_CHANNEL + "/recover", name="recover_channel", permission="admin",
        summary="End the recovery of a restored channel without the others' answers, at the operator's risk",
        request=RecoverRequest, response=ChannelView, handler=handlers_channels.recover,
    ),
    Route(
        method="POST", path=_CHANNEL + "/messages", name="send", summary="Submit messages or a tick",
        permission="send", request=SendRequest, response=SendAnswer, handler=handlers_channels.send,
    ),
    Route(
        method="GET", path=_CHANNEL + "/entries", name="list_entries", summary="A page of the co-signed log",
        response=EntryPage, handler=handlers_channels.entries,
        query=(
            Query("from", "first sequence, 0 by default", "integer"),
            Query("limit", f"1 to {handlers_channels.PAGE_MAX}, 100 by default", "integer"),
        ),
    ),
    Route(
        method="POST", path=_CHANNEL + "/verify", name="verify", response=VerifyAnswer, handler=handlers_data.verify,
        summary="Compare the database with the co-signed root",
    ),
    Route(
        method="POST", path=_CHANNEL + "/prove", name="prove", request=ProveRequest, response=ProofDocument,
        summary="Prove that a row is, or is not, in the co-signed tables", handler=handlers_data.prove,
    ),
    Route(
        method="POST", path=_CHANNEL + "/replay", name="replay", permission="admin", request=ReplayRequest,
        response=ReplayAnswer, summary="Derive a channel again beside its live rows", handler=handlers_data.replay,
    ),
    Route(
        method="GET", path="/v1/projections", name="list_projections", summary="Projections of this node",
        response=ProjectionList, handler=handlers_projections.projections,
    ),
    Route(
        method="POST", path="/v1/projections", name="add_projection", permission="admin", request=bytes,
        summary="Derive a module of one's own over an app's channels (body: its bytes)", response=ProjectionView,
        query=(
            Query("name", "name of the projection"),
            Query("app", "the app whose channels it follows"),
            Query("limits", "JSON object of limits that differ from the defaults"),
        ),
        handler=handlers_projections.add,
    ),
    Route(
        method="GET", path=_PROJECTION, name="get_projection", summary="One projection",
        response=ProjectionView, handler=handlers_projections.projection,
    ),
    Route(
        method="POST", path=_PROJECTION + "/upgrade", name="upgrade_projection", permission="admin", request=bytes,
        summary="Derive another module beside it, which then takes over (body: its bytes)", response=ProjectionView,
        query=(Query("limits", "JSON object of limits that differ from the defaults"),),
        handler=handlers_projections.upgrade,
    ),
    Route(
        method="POST", path=_PROJECTION + "/remove", name="remove_projection", permission="admin",
        summary="Stop a projection and drop its tables", response=ProjectionList, handler=handlers_projections.remove,
    ),
    *LEDGER_ROUTES,
    *INVOICE_ROUTES,
    Route(
        method="POST", path="/v1/backup", name="backup", permission="admin", request=BackupRequest,
        response=BackupView, summary="Write a backup of the running node on its machine",
        handler=handlers_node.backup,
    ),
    Route(
        method="GET", path="/v1/work", name="list_work", summary="Long work that goes on, with its progress",
        response=WorkList, handler=handlers_data.work,
    ),
    Route(
        method="POST", path="/v1/query", name="query", summary="Read the tables with SQL",
        request=QueryRequest, response=QueryAnswer, handler=handlers_data.query,
    ),
    Route(
        method="GET", path="/v1/stream", name="stream", response=StreamItem,
        summary="Server-sent events: entries, row changes, app events, node events",
        query=(
            Query("channel", "only this channel; may be repeated; all channels without it"),
            Query("from", "CHANNEL:ENTRIES[:DERIVED], the sequences to go on from; may be repeated; 0 is the start"),
            Query("kinds", "comma-separated: entries, rows, app, node"),
        ),
    ),
)  # fmt: skip
