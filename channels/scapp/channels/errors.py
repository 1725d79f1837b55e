"""The error families of the channel stack.

`LocalError`: our own caller asked for something illegal. `PeerError`: a peer sent something illegal; it is
logged and counted, and never crashes the node. `CorruptionError`: what is stored contradicts itself; the
affected channel halts. Anything else is a bug.
"""

from __future__ import annotations


class ScappError(Exception):
    """Base of every expected error; its text says what was found and what was allowed."""


class LocalError(ScappError):
    """We were asked for something that is not allowed now; nothing changed."""


class PeerError(ScappError):
    """A peer sent something that is not allowed; it was refused and nothing changed."""


class CorruptionError(ScappError):
    """Stored data contradicts itself or a signed commitment; nothing may be written over it."""
