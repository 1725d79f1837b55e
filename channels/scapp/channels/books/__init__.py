"""A node's ledger channels and the virtual channels they fund: one engine, one stream of events (ADR 0013)."""
