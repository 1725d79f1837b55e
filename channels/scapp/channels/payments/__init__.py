"""Payments by vouchers, from a channel's first participant to its last (docs/reference/nitro.md section 11). Pure."""
