"""A process of its own that answers stale challenges for others (docs/reference/watchtower.md)."""
