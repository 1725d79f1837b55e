"""Handlers about projections: add, list, upgrade, remove. All of it blocks and runs on threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scapp.channels.errors import LocalError, ScappError
from scapp.reducers.manifest import ManifestError
from scapp.runtime.api.call import Call, find_app
from scapp.runtime.api.errors import ApiError
from scapp.runtime.api.handlers_node import limits_of
from scapp.runtime.derived_documents import ProjectionList, ProjectionView, projection_view
from scapp.runtime.projections import ProjectionStatus


async def projections(call: Call) -> ProjectionList:
    found = await call.context.blocking(call.context.projections.all)
    return ProjectionList(projections=[projection_view(each) for each in found])


async def projection(call: Call) -> ProjectionView:
    return projection_view(await call.context.blocking(call.context.projections.status, call.path["projection"]))


async def add(call: Call) -> ProjectionView:
    app = find_app(call.context, call.query.get("app", ""))
    name, limits = call.query.get("name", ""), limits_of(call.query.get("limits"))
    return await _kept(call, call.context.projections.add, name, app, call.body, limits)


async def upgrade(call: Call) -> ProjectionView:
    limits = limits_of(call.query.get("limits"))
    return await _kept(call, call.context.projections.upgrade, call.path["projection"], call.body, limits)


async def _kept(call: Call, function: Callable[..., ProjectionStatus], *arguments: Any) -> ProjectionView:
    try:
        return projection_view(await call.context.blocking(function, *arguments))
    except LocalError:
        raise
    except (ScappError, ManifestError, ValueError) as error:
        raise ApiError("bad_module", str(error), "docs/reference/abi.md says what a module must be") from error


async def remove(call: Call) -> ProjectionList:
    await call.context.blocking(call.context.projections.remove, call.path["projection"])
    return await projections(call)
