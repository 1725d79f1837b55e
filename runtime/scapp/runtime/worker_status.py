"""How the derivation worker (`worker.py`) is doing: each channel, and the database."""

from __future__ import annotations

import enum

import msgspec

from scapp.channels.types import ChannelId
from scapp.runtime.database.write import Cursor
from scapp.runtime.derive import Halt


class State(enum.StrEnum):
    """How a channel's derivation is doing."""

    FOLLOWING = "following"
    RETRYING = "retrying"  # the database does not take it now
    BLOCKED = "blocked"  # something is missing here, e.g. the app is not deployed; looked at again in every round
    HALTED = "halted"


class ChannelStatus(msgspec.Struct, frozen=True, gc=False):
    """`cursor`: what is in the database, None before the first look; `detail` says why it does not go on."""

    channel_id: ChannelId
    state: State
    cursor: Cursor | None = None
    detail: str = ""
    halt: Halt | None = None


class DatabaseStatus(msgspec.Struct, frozen=True, gc=False):
    """`state`: starting, up, down, or foreign, which is another node's; `detail` is the last error of the last two."""

    backend: str
    state: str
    detail: str = ""
