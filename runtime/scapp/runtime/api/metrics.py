"""The node in numbers, as text that Prometheus reads; docs/reference/metrics.md says what each is.

Everything comes from memory but two looks at the file system and channels that are over and not in the database yet, so
a reading waits neither for chain nor database. Names and labels are kept: people's alarms are made of them.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from scapp.channels.books.info import BooksPort
from scapp.channels.errors import ScappError
from scapp.channels.service import ChannelInfo
from scapp.channels.types import ChannelId
from scapp.runtime.api.context import ApiContext
from scapp.runtime.api.views import chain_status_view, hexed, phases, unfinished
from scapp.runtime.sizes import disk_free_bytes, log_bytes, memory_bytes

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Kind = Literal["gauge", "counter"]
Samples = Iterable[tuple[Mapping[str, str], int | float]]


class _Text:
    """Families of samples in the order in which they come. A family without samples is left out."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def family(self, name: str, about: str, samples: Samples, kind: Kind = "gauge") -> None:
        lines = [f"scapp_{name}{_labels(labels)} {_shown(value)}" for labels, value in samples]
        if lines:
            self._lines += [f"# HELP scapp_{name} {about}", f"# TYPE scapp_{name} {kind}", *lines]

    def one(self, name: str, about: str, value: float | None) -> None:
        """A single number; none where it is not known."""
        self.family(name, about, [] if value is None else [({}, value)])

    def __str__(self) -> str:
        return "".join(line + "\n" for line in self._lines)


async def metrics_text(context: ApiContext, now_s: Callable[[], float]) -> str:
    """All of it, now."""
    unwritten = [*await unfinished(context), *context.service.channels()]
    text = _Text()
    text.family("info", "The node: its version and address", [(_who(context), 1)])
    text.one("start_time_seconds", "When it started, since 1970", context.started_ms / 1000)
    text.one("time_seconds", "Its clock, since 1970", round(now_s(), 3))
    text.one("signing", "1 as long as its log takes writes; without that nothing is signed", not context.log_failure())
    text.one(
        "corrupt_channels", "Channels that stay closed because their log is damaged", len(context.service.corrupt())
    )
    _machine(text, context)
    _database(text, context, unwritten)
    peers = context.service.peers()
    text.one("peers_known", "Peers it has an address of", len(peers))
    text.one("peers_connected", "Peers it has a link with", sum(peer.connected for peer in peers))
    _chain(text, context, now_s())
    if context.books is not None:
        with contextlib.suppress(ScappError):  # corrupt: `corrupt_channels` tells
            _books(text, context.books)
    for name, count in sorted(context.counters().items()):
        text.family(f"{name}_total", "Counted since the start", [({}, count)], "counter")
    return str(text)


def _who(context: ApiContext) -> Mapping[str, str]:
    return {"version": context.version, "address": hexed(context.service.address)}


def _machine(text: _Text, context: ApiContext) -> None:
    text.one("log_bytes", "What the event log takes on the disk", log_bytes(context.home))
    text.one("disk_free_bytes", "What is free there", disk_free_bytes(context.home))
    text.one("memory_bytes", "Memory that the process has in use", memory_bytes())


def _database(text: _Text, context: ApiContext, channels: Sequence[ChannelInfo]) -> None:
    """`channels`: those that are not known to be in the database to the end."""
    view = context.derived.view()
    if view.backend != "none":
        text.one("database_up", "1 while the database answers", view.state == "up")
    found = sorted(phases(context.service).items())
    text.family("channels", "App channels by phase", [({"phase": phase}, count) for phase, count in found])
    cursors = [(channel.sequence, context.derived.cursor(channel.channel_id)) for channel in channels]
    behind = sum(max(0, sequence - cursor.sequence) for sequence, cursor in cursors if cursor is not None)
    text.one("database_behind_entries", "Signed entries whose rows the database lacks", behind)


def _chain(text: _Text, context: ApiContext, now_s: float) -> None:
    chain = chain_status_view(context.chain)
    if not chain.connected:
        return
    text.one("chain_up", "1 while an endpoint of the chain answers as it should", not chain.fault)
    text.one("chain_block", "The newest block", chain.head)
    age_s = None if chain.head_time_s is None else int(now_s) - chain.head_time_s
    text.one("chain_age_seconds", "How much older than the node's clock that is", age_s)
    text.one("chain_lag_blocks", "Blocks seen and not processed yet", chain.lag_blocks)
    text.one("chain_balance", "Coin of the chain account, in wei", _number(chain.balance))
    text.one("chain_transactions", "Transactions under way", chain.pending)


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _books(text: _Text, books: BooksPort) -> None:
    ledgers, virtuals = books.ledgers(), books.virtuals()
    found = sorted(Counter(ledger.phase for ledger in ledgers).items())
    text.family("ledgers", "Ledgers by phase", [({"phase": phase}, count) for phase, count in found])
    amounts = [
        (
            {"ledger": _short(ledger.channel_id), "peer": hexed(ledger.peer), "asset": hexed(each.asset), "of": of},
            amount,
        )
        for ledger in ledgers
        if ledger.phase not in ("settled", "rejected")
        for each in ledger.assets
        for of, amount in (("mine", each.mine), ("theirs", each.theirs), ("locked", each.locked))
    ]
    text.family("ledger_amount", "What is in a ledger, in the asset's smallest unit", amounts)
    kinds = sorted(Counter((each.kind, each.role, each.phase) for each in virtuals).items())
    text.family(
        "virtual_channels",
        "Channels over ledgers",
        [({"kind": kind, "role": role, "phase": phase}, count) for (kind, role, phase), count in kinds],
    )
    waiting = {
        "ledger": sum(bool(ledger.waiting_for) for ledger in ledgers),
        "virtual": sum(bool(each.waiting_for) for each in virtuals),
    }
    text.family("waiting", "How many wait for somebody or something", [({"what": w}, n) for w, n in waiting.items()])


def _short(channel: ChannelId) -> str:
    """As the command line takes it: enough to tell one ledger from others."""
    return hexed(channel)[:12]


def _shown(value: float) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _labels(labels: Mapping[str, str]) -> str:
    quoted = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{quoted}}}" if quoted else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
