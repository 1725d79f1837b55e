"""What a module says about itself and what a deployment of it would sign: `scapp describe`."""

from __future__ import annotations

import msgspec

from scapp.channels.deployment import deployment_id
from scapp.reducers.manifest import Message, Table, View
from scapp.runtime.kernel import Budget
from scapp.runtime.module import CheckedModule


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """`sets_outcome` is false when the module cannot change what the chain pays. The outcome's slots are each
    channel's own, so no module has them."""

    name: str
    version: str
    abi: str
    encoding: str
    reducer: str  # keccak256 of the bytes, 0x…
    deployment_id: str  # over reducer, ABI and limits, 0x…
    module_bytes: int
    sets_outcome: bool
    imports: tuple[str, ...]
    limits: dict[str, int]
    tables: tuple[Table, ...]
    views: tuple[View, ...]
    messages: tuple[Message, ...]


def describe(module: CheckedModule) -> Description:
    """From the bytes alone: nothing of the reducer runs."""
    manifest, deployment = module.manifest, module.deployment
    imports = tuple(sorted(item.name or "" for item in module.module(Budget.ORDER).imports))
    return Description(
        name=manifest.name,
        version=manifest.version,
        abi=deployment.abi,
        encoding=manifest.encoding,
        reducer=f"0x{deployment.reducer.hex()}",
        deployment_id=f"0x{deployment_id(deployment).hex()}",
        module_bytes=len(module.wasm),
        sets_outcome="set_outcome" in imports,
        imports=imports,
        limits=msgspec.structs.asdict(deployment.limits),
        tables=manifest.tables,
        views=manifest.views,
        messages=manifest.messages,
    )
