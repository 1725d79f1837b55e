"""Ledger channels: two parties' money off chain, parts of it guaranteed to other channels (docs/reference/nitro.md, 9).

Pure. Read `balances` (who has what, and the bytes under the signatures), then `proposals` (what changes it), then
`consensus` (how two parties agree on the changes, one leading).
"""
