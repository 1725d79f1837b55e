"""Read port for whoever follows the supported log (derivation, API, CLI); implemented by the node.

Only supported batches are visible here: entries without all signatures do not exist for a reader.
"""

from __future__ import annotations

from collections.abc import Iterator
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


class EntrySource(Protocol):
    """Thread-safe."""

    def contexts(self) -> list[ChannelContext]:
        """Every channel whose prefund state is supported, closed ones included."""
        ...

    def batches(self, channel_id: ChannelId, position: int = 0) -> Iterator[SupportedBatch]:
        """Supported batches from a position on. The first batch of a channel (turn 0) is entry 0 alone."""
        ...

    def signed_state(self, channel_id: ChannelId, position: int) -> SignedState | None:
        """The state of the first batch from a position on, with all signatures; None when there is none."""
        ...
