"""Ready reducers as compiled modules; their sources stand in `reducers/library` of the repository."""

from __future__ import annotations

from importlib.resources import files

NAMES = ("ledger", "chat", "auction", "orderbook", "crafting")


def wasm_bytes(name: str) -> bytes:
    """The module of a ready reducer; raises KeyError for a name that is not in `NAMES`."""
    if name not in NAMES:
        raise KeyError(f"no reducer {name!r} in the library: there are {', '.join(NAMES)}")
    return (files(__name__) / f"{name}.wasm").read_bytes()
