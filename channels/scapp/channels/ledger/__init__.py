"""Ledger channels: two parties' money off chain, parts of it guaranteed to other channels (docs/reference/ledgers.md).

Pure. Read `balances` (who has what, and the bytes under the signatures), then `proposals` (what changes it), then
`consensus` (how two parties agree on the changes, one leading). A ledger's life stands in `record` (the fold of
`events`); what is decided about it, over `messages`:

- `opening.propose(order, known, rules, context) -> Step` and `opening.receive_open(message, peer, known, rules,
  context) -> Step`; `known` are the ledgers with that peer, and the step's events may concern one of them;
- `opening.accept(record, context)`, `opening.reject(record, reason)` -> Step;
- `receiving.receive(record, session, message, context) -> Step` for every other message of the other party;
- `crank.crank(record, context) -> Step`: what follows by itself; until it gives nothing more;
- `updating.pursue(record, session, wants, context) -> Pursuit`: this node's wants, into signed changes;
- `asking.request(record, session, proposal, context) -> Step`: a transfer or a deposit that the operator wants, or
  stands by if a restore has made this node forget it (`asking.forgotten`);
- `closing.close(record) -> Step`; `recovery.override(record) -> Step`;
- `resending.pending(record) -> tuple[LedgerMessage, ...]`: all that the other party may lack, and
  `resending.waits_for_peer(record)`: whether to say it again after a while;
- `funding.wanted(record, context) -> tuple[Transaction, ...]`; `standing.waiting_for(record, session) -> str`.

Each raises PeerError for a message, and LocalError for a request, that changes nothing.
"""
