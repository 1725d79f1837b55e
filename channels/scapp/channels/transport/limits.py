"""What a transport may hold, send and wait for; one value shared by `session.py`, `tcp.py` and `fake.py`."""

from __future__ import annotations

import msgspec

from scapp.channels import deployment
from scapp.channels.entries import HEADER_BYTES

HANDSHAKE_FRAME_BYTES_MAX = 4_096
"""No frame before authentication is longer; a stranger can make this node hold no more than that."""

_ENTRY_OVERHEAD_BYTES = HEADER_BYTES + 16
"""An entry's header and the length prefixes that a message may put around it."""
_STATE_BYTES = 65_536
"""Room for the state, outcome, signatures and refusals that travel with a batch."""


class TransportLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds. Both ends of a link must use the same `frame_bytes_max`."""

    frame_bytes_max: int = 4 * 1024 * 1024
    queue_messages_max: int = 16_384  # per peer: queued and not yet acknowledged
    queue_bytes_max: int = 64 * 1024 * 1024
    window_messages: int = 4_096  # per peer: what it may send us before we have processed it
    window_bytes: int = 8 * 1024 * 1024
    peers_max: int = 1_024
    strangers_max: int = 64  # connections that have not proved who they are
    strangers_per_source_max: int = 16  # same, from one IPv4 address or IPv6 /64 network
    handshake_s: float = 10.0  # from accept or connect until both sides are authenticated
    ping_after_s: float = 10.0  # of silence
    dead_after_s: float = 30.0  # of silence
    probe_s: float = 5.0  # an older link that stands in a new one's way must answer within this
    close_s: float = 2.0  # for TLS shutdown, then the connection is cut
    stop_s: float = 5.0  # for running handlers when the node stops
    backoff_first_s: float = 0.1
    backoff_max_s: float = 30.0


def limits_for_frames(frame_bytes_max: int) -> TransportLimits:
    """The defaults, with window and queue large enough for frames of this size."""
    usual = TransportLimits()
    return TransportLimits(
        frame_bytes_max=frame_bytes_max,
        window_bytes=max(usual.window_bytes, 2 * frame_bytes_max),
        queue_bytes_max=max(usual.queue_bytes_max, 4 * frame_bytes_max),
    )


def frame_bytes_for(limits: deployment.Limits) -> int:
    """The longest frame that a deployment's signed limits can ask for: one full batch with its state."""
    entries = limits.batch_entries_max * _ENTRY_OVERHEAD_BYTES
    return limits.batch_bytes_max + limits.payload_bytes_max + entries + _STATE_BYTES
