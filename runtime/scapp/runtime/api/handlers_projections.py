"""Handlers about projections: add, list, upgrade, remove. All of it blocks and runs on threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from scapp.runtime.api.call import Call, find_app
from scapp.runtime.api.errors import ApiError
from scapp.runtime.api.handlers_node import bad_module, limits_of
from scapp.runtime.derived_documents import ProjectionList, ProjectionView, projection_view
from scapp.runtime.module import ModuleRefused
from scapp.runtime.projections import UnknownProjection

T = TypeVar("T")


async def projections(call: Call) -> ProjectionList:
    found = await call.context.blocking(call.context.projections.all)
    return ProjectionList(projections=[projection_view(each) for each in found])


async def projection(call: Call) -> ProjectionView:
    return projection_view(await _done(call, call.context.projections.status, call.path["projection"]))


async def add(call: Call) -> ProjectionView:
    app = find_app(call.context, call.query.get("app", ""))
    name, limits = call.query.get("name", ""), limits_of(call.query.get("limits"))
    return projection_view(await _done(call, call.context.projections.add, name, app, call.body, limits))


async def upgrade(call: Call) -> ProjectionView:
    limits = limits_of(call.query.get("limits"))
    upgrade_it = call.context.projections.upgrade
    return projection_view(await _done(call, upgrade_it, call.path["projection"], call.body, limits))


async def _done(call: Call, function: Callable[..., T], *arguments: Any) -> T:
    """Raises ApiError for a projection that is not here, and for a module that may not run."""
    try:
        return await call.context.blocking(function, *arguments)
    except UnknownProjection as error:
        raise ApiError("unknown_projection", str(error), "`scapp projection list` shows them all") from None
    except ModuleRefused as error:
        raise bad_module(error) from error


async def remove(call: Call) -> ProjectionList:
    await _done(call, call.context.projections.remove, call.path["projection"])
    return await projections(call)
