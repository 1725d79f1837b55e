"""What a batch admits when some of it is refused; `reference.py` runs the passes.

What is signed is always the result of a *clean run*: one fresh instance over exactly the accepted entries. A reducer
that keeps state outside its tables could decide differently once the refused entries are gone, so:

1. run everything; nothing refused: that was a clean run;
2. else run the accepted ones again in a fresh instance; all accepted: that is the result;
3. else one message at a time, each in a fresh instance, and that set once more as one clean run; when the two agree
   on decisions, root and amounts, that is the result;
4. else the first accepted message alone (a fresh instance by itself), and the others are refused to be sent again.

At most five passes, whatever the reducer does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from scapp.channels.admission import Refusal
from scapp.runtime.changes import LogLine

HIDDEN_STATE = "the reducer decides by state outside its tables, so this message has to come in a batch of its own"


class Pass(msgspec.Struct):
    """Result of one pass: indices accepted in order, the others refused."""

    accepted: list[int] = []
    refusals: list[Refusal] = []
    logs: list[LogLine] = []
    state_root: bytes = b""
    amounts: tuple[int, ...] = ()

    def add_logs(self, lines: Iterable[LogLine]) -> None:
        self.logs.extend(lines)

    def same_as(self, other: Pass) -> bool:
        """Whether both passes decided and computed the same."""
        return (self.accepted, self.state_root, self.amounts) == (other.accepted, other.state_root, other.amounts)


class Outcome(msgspec.Struct, frozen=True):
    """Everything decided about a batch; the last pass run is the clean run over `accepted`."""

    accepted: tuple[int, ...]
    refusals: tuple[Refusal, ...]
    logs: tuple[LogLine, ...]


Attempt = Callable[[Sequence[int], bool], Pass]
"""Runs the entries at given indices from the base; the flag asks for a fresh instance for each."""


def admit(count: int, attempt: Attempt) -> Outcome:
    """Decide a batch of `count` entries."""
    first = attempt(range(count), False)
    if not first.refusals:
        return _outcome(first, first)
    again = attempt(first.accepted, False)
    if not again.refusals:
        return _outcome(again, first)
    single = attempt(range(count), True)
    together = attempt(single.accepted, False)
    if together.same_as(single):
        return _outcome(together, single)
    alone = attempt(single.accepted[:1], False)
    outcome = _outcome(alone, single)
    repeated = tuple(Refusal(index, "undecidable", HIDDEN_STATE) for index in single.accepted[1:])
    refusals = tuple(sorted(outcome.refusals + repeated, key=lambda refusal: refusal.index))
    return Outcome(outcome.accepted, refusals, outcome.logs)


def _outcome(clean: Pass, filter_: Pass) -> Outcome:
    """Decisions of the clean pass, refusals and their logs of the pass that refused."""
    logs = list(clean.logs)
    if filter_ is not clean:
        refused = {refusal.index for refusal in filter_.refusals}
        logs += [line for line in filter_.logs if line.entry_index in refused]
    ordered = sorted(logs, key=lambda line: line.entry_index)
    return Outcome(tuple(clean.accepted), tuple(filter_.refusals), tuple(ordered))
