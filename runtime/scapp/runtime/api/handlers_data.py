"""Handlers about derived data: SQL queries and verification. Both block and run on threads."""

from __future__ import annotations

from scapp.runtime.api.call import Call
from scapp.runtime.documents import QueryAnswer, QueryRequest, VerifyAnswer, WorkList


async def query(call: Call) -> QueryAnswer:
    request = call.document(QueryRequest)
    return await call.context.blocking(
        call.context.derived.query, request.sql, request.params, request.rows_max, request.timeout_s
    )


async def work(call: Call) -> WorkList:
    return WorkList(work=call.context.derived.work())


async def verify(call: Call) -> VerifyAnswer:
    return await call.context.blocking(call.context.derived.verify, call.channel().channel_id)
