"""App channels: how messages are ordered and signed (docs/reference/app-channel.md). Pure: no I/O, clock or own keys.

Read in this order: `setup` (with `state_hash`), `events`, `model` (the fold), `session` (what a restart forgets),
`messages`, `effects`, `signing_rules`, then the decisions `opening`, `decided`, `ordering` (participant 0), `checking`
(everyone else), `signatures`, `full_set`, `catchup`, `recovery`, and `engine`, which dispatches. A funded channel has
besides: `terms`, `shares`, `chain_view`, `chain_rules`, `settling` (with `finalized`), `leaving` and `standing`, and
for its successor `redirect`, `succession` and `wishes`; one that ledgers fund has `backed` in the place of
`chain_view` and `settling`.
"""
