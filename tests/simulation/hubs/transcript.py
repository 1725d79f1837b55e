"""A life of nodes with ledgers as text: acts (`--`), what is stored (`==`) and what is said (`>>`), line by line."""

from __future__ import annotations

from typing import Any

import msgspec

from scapp.channels.books.events import decode_event
from scapp.channels.books.messages import decode_message
from scapp.channels.books.step import BOOKS_STREAM
from scapp.channels.log.port import Append
from scapp.channels.payments.events import decode_purse_event, is_purse_event
from scapp.channels.payments.locked.events import LOCKS_STREAM, decode_locks_event
from scapp.channels.payments.locked.messages import decode_lock_message
from scapp.channels.payments.messages import decode_payment_message
from scapp.channels.types import Address
from tests.simulation.hubs.checks import Checks
from tests.simulation.hubs.life import HubLife
from tests.simulation.hubs.net import HubNet, HubNode
from tests.simulation.hubs.plan import HubPlan
from tests.simulation.plan import Act
from tests.support.node_cast import START_MS

_HIDDEN = ("signature", "signatures", "leader_signature", "channel", "latest", "confirmed", "seen")


def hub_transcript(plan: HubPlan) -> list[str]:
    """Play the plan and write it down; the last line says how it ended."""
    faults = f"drops {plan.drops}, duplication {plan.duplicate}, delay up to {plan.delay_ms} ms"
    lines = [f"seed {plan.seed}: {plan.count} nodes with ledgers, {faults}, {len(plan.acts)} acts"]
    if plan.hostile >= 0:
        lines[0] += f", Mallory is node {plan.hostile}"
    life = HubLife(plan, lambda act: _act(lines, life.net, act))
    life.watched = lambda net: _Writer(net, lines)
    try:
        life.play()
        lines.append("!! nothing is wrong")
    except Exception as error:
        lines.append(f"!! {type(error).__name__}: {error}")
    return lines


def _line(lines: list[str], net: HubNet, text: str) -> None:
    lines.append(f"{net.now_ms - START_MS:>9} ms  {text}")


def _act(lines: list[str], net: HubNet, act: Act) -> None:
    text = f": {act.text}" if act.text else ""
    _line(lines, net, f"-- {act.kind}{text} ({net.nodes[act.node].name}, {act.number})")


class _Writer(Checks):
    """The checks, and a line for whatever they look at."""

    def __init__(self, net: HubNet, lines: list[str]) -> None:
        super().__init__(net)
        self.lines = lines

    def begun(self, node: HubNode) -> None:
        _line(self.lines, self.net, f"{node.name} starts")
        super().begun(node)

    def stored(self, node: HubNode, append: Append) -> None:
        for write in append.writes:
            for data in write.events:
                _line(self.lines, self.net, f"{node.name} == {_event(write.stream, data)}")
        super().stored(node, append)

    def said(self, node: HubNode, peer: Address, message: bytes) -> None:
        said = _message(message)
        if said:
            _line(self.lines, self.net, f"{node.name} >> {self.net.by_address[peer].name}: {said}")
        super().said(node, peer, message)


def _event(stream: bytes, data: bytes) -> str:
    if stream == BOOKS_STREAM:
        return _show(decode_event(data))
    if stream == LOCKS_STREAM:
        return _show(decode_locks_event(data))
    return _show(decode_purse_event(data)) if is_purse_event(data) else f"{len(data)} bytes of another stream"


def _message(data: bytes) -> str:
    """Announcements are many and say little here."""
    for decode in (decode_message, decode_payment_message, decode_lock_message):
        try:
            return _show(decode(data))
        except Exception:
            continue
    return ""


def _show(what: Any) -> str:
    """In a few words: which channel, and what is not a signature."""
    channel = getattr(what, "channel", b"").hex()[:6]
    fields = [
        f"{name} {value.hex()[-8:] if isinstance(value, bytes) else value}"
        for name, value in msgspec.structs.asdict(what).items()
        if name not in _HIDDEN and isinstance(value, bytes | int | str) and value
    ]
    return f"{type(what).__name__}({' '.join([channel, ', '.join(fields)]).strip()})"
