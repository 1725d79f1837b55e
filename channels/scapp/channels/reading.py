"""Read port for whoever follows the supported log (derivation, API, CLI); implemented by the node.

Only supported batches are visible here: entries without all signatures do not exist for a reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.channels.types import ChannelId


class SupportedBatch(msgspec.Struct, frozen=True, gc=False):
    """Entries `first_sequence ..` that turn `turn` put under all signatures, and the commitments after them.

    `position` is where in this node's own log the next batch is looked for; it means nothing elsewhere."""

    turn: int
    first_sequence: int
    entries: tuple[bytes, ...]
    log_root: bytes
    state_root: bytes
    amounts: tuple[int, ...]
    time_ms: int
    is_final: bool
    position: int

    @property
    def end_sequence(self) -> int:
        """Sequence after the last entry of the batch: `cursor.sequence` once it is derived."""
        return self.first_sequence + len(self.entries)


class SignedState(msgspec.Struct, frozen=True, gc=False):
    """A supported state as its signatures were made over it (`cosigned.py` checks them); the first four fields are
    the channel's fixed part. `outcome` is `abi.encode(Exit[])`."""

    participants: tuple[bytes, ...]
    nonce: int
    app_definition: bytes
    challenge_duration: int
    app_data: bytes
    outcome: bytes
    turn: int
    is_final: bool
    signatures: tuple[bytes, ...]  # one per participant, in their order; a hub's is empty where it has not signed


class Archived(msgspec.Struct, frozen=True, gc=False):
    """A channel that is over and was left on the disk: the phase it ended in, its latest supported turn (-1 for none),
    and its app."""

    phase: str
    turn: int
    deployment_id: bytes


class EntrySource(Protocol):
    """Thread-safe."""

    def contexts(self) -> list[ChannelContext]:
        """Every channel in memory whose prefund state is supported."""
        ...

    def archived(self) -> Mapping[ChannelId, Archived]:
        """Every channel that was left on the disk, as it is now."""
        ...

    def archive_version(self) -> int:
        """Another number whenever a channel was left on the disk."""
        ...

    def context(self, channel_id: ChannelId) -> ChannelContext | None:
        """Of any channel; None when its prefund state is not supported, or it is not here."""
        ...

    def batches(self, channel_id: ChannelId, position: int = 0) -> Iterator[SupportedBatch]:
        """Supported batches from a position on. The first batch of a channel (turn 0) is entry 0 alone."""
        ...

    def signed_state(self, channel_id: ChannelId, position: int) -> SignedState | None:
        """The state of the first batch from a position on, with all signatures; None when there is none."""
        ...
