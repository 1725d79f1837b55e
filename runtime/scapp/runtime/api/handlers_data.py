"""Handlers about derived data: SQL queries and verification. Both block and run on threads."""

from __future__ import annotations

import msgspec

from scapp.runtime.api.call import Call
from scapp.runtime.derived_documents import ReplayAnswer, ReplayRequest
from scapp.runtime.documents import QueryAnswer, QueryRequest, VerifyAnswer
from scapp.runtime.proof_format import ProofDocument, ProveRequest
from scapp.runtime.work_documents import WorkList, WorkView


async def query(call: Call) -> QueryAnswer:
    request = call.document(QueryRequest)
    return await call.context.blocking(
        call.context.derived.query, request.sql, request.params, request.rows_max, request.timeout_s
    )


async def work(call: Call) -> WorkList:
    return WorkList(work=[WorkView(**msgspec.structs.asdict(each)) for each in call.context.meters.read()])


async def verify(call: Call) -> VerifyAnswer:
    return await call.context.blocking(call.context.derived.verify, call.channel().channel_id)


async def prove(call: Call) -> ProofDocument:
    request = call.document(ProveRequest)
    return await call.context.blocking(call.context.proving.prove, call.channel().channel_id, request)


async def replay(call: Call) -> ReplayAnswer:
    request = call.document(ReplayRequest)
    return await call.context.blocking(call.context.replaying.replay, call.channel().channel_id, request)
