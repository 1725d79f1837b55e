"""App channels: how messages are ordered and signed (docs/reference/app-channel.md). Pure: no I/O, clock or own keys.

Read in this order: `setup`, `events`, `model` (the fold), `messages`, `effects`, then the decisions `opening`,
`decided`, `ordering` (participant 0), `checking` (everyone else), `signatures`, `catchup`, and `engine`, which
dispatches.
"""
