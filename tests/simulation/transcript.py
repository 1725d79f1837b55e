"""A life as text: what happens (`--`), what is stored (`==`), what is said (`>>`) and heard (`<<`), line by line."""

from __future__ import annotations

from typing import Any

from scapp.channels.channel.events import decode_event
from scapp.channels.channel.messages import decode_message
from scapp.channels.errors import PeerError
from scapp.channels.log.port import Append
from scapp.channels.types import Address
from tests.simulation.hubs.plan import HubPlan
from tests.simulation.hubs.transcript import hub_transcript
from tests.simulation.life import Life
from tests.simulation.plan import Act, Plan
from tests.support.sim import START_MS, SimNode

_SHOWN = ("turn", "supported_turn", "signed_turn", "first_counter", "first_sequence", "first", "code", "is_final")


def transcript(plan: Plan | HubPlan) -> list[str]:
    """Play the plan and write it down; the last line says how it ended."""
    return _Writer(plan).lines if isinstance(plan, Plan) else hub_transcript(plan)


class _Writer:
    def __init__(self, plan: Plan) -> None:
        self.lines = [f"seed {plan.seed}: {plan.count} nodes, {_network(plan)}"]
        try:
            self.life = Life(plan)
            self._listen()
            self.life.play(self._act)
            self.lines.append("!! nothing is wrong")
        except Exception as error:
            self.lines.append(f"!! {type(error).__name__}: {error}")

    def _listen(self) -> None:
        sim = self.life.sim
        inner = sim.tap
        assert inner is not None

        def tap(sender: int, to: Address, data: bytes) -> bytes | None:
            said = inner(sender, to, data)
            lost = "" if said is not None else "  (not sent)"
            altered = "" if said in (None, data) else "  (altered)"
            self._line(f"{sim.nodes[sender].name} >> {self._name(to)}: {_message(said or data)}{lost}{altered}")
            return said

        sim.tap = tap
        for node in sim.nodes:
            self._listen_to(node)

    def _listen_to(self, node: SimNode) -> None:
        append, receive = node.append, node.receive

        def stored(what: Append, *, durable: bool) -> None:
            append(what, durable=durable)
            events = [_show(decode_event(data)) for write in what.writes for data in write.events]
            if events:
                self._line(f"{node.name} == {'' if durable else 'unsynced: '}{', '.join(events)}")

        def heard(sender: Address, data: bytes) -> None:
            before = len(node.refused)
            self._line(f"{node.name} << {self._name(sender)}: {_message(data)}")
            receive(sender, data)
            for reason in node.refused[before:]:
                self._line(f"{node.name} -- refuses it: {reason}")

        node.append, node.receive = stored, heard  # type: ignore[method-assign]

    def _name(self, address: Address) -> str:
        return self.life.sim.nodes[self.life.sim.index_of[address]].name

    def _act(self, act: Act) -> None:
        node = self.life.sim.nodes[act.node].name
        self._line(f"-- {act.kind}{': ' + act.text if act.text else ''} ({node}, {act.number})")

    def _line(self, text: str) -> None:
        if " Status(" in text:
            return  # they are many, and say little
        self.lines.append(f"{self.life.sim.now_ms - START_MS:>9} ms  {text}")


def _network(plan: Plan) -> str:
    parts = [f"loss {plan.loss}", f"duplication {plan.duplicate}", f"reordering {plan.reorder}"]
    parts += [f"delay up to {plan.delay_ms} ms", f"{len(plan.acts)} acts"]
    parts += [f"Mallory is node {plan.hostile}"] if plan.hostile >= 0 else []
    parts += ["real kernel"] if plan.kernel else []
    return ", ".join(parts)


def _message(data: bytes) -> str:
    try:
        return _show(decode_message(data))
    except PeerError:
        return f"{len(data)} bytes that are no message"


def _show(what: Any) -> str:
    """An event or a message in a few words."""
    inner = getattr(what, "state", what)
    fields = [f"{name} {getattr(inner, name)}" for name in _SHOWN if hasattr(inner, name)]
    fields += [f"{len(inner.entries)} entries"] if getattr(inner, "entries", ()) else []
    fields += [f"{len(inner.refused)} refused"] if getattr(inner, "refused", ()) else []
    return f"{type(what).__name__}({', '.join(fields)})"
