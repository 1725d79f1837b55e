"""Virtual channels: two parties' money, guaranteed by the ledgers of a path of hubs (docs/reference/virtual.md).

Pure. Read `agreement` (what is agreed, and the states under the signatures), then `events` and `record` (what is known
of one channel), then what this node does: `opening`, `funding`, `defunding`, `abort`; `crank` turns them, `pending`
says what to tell whom.
"""
