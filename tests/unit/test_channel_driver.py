"""The order in which a driver stores and acts: what may wait for the next append, and what never does."""

from __future__ import annotations

from typing import Any

import pytest

from scapp.channels.channel.events import StateCompleted, StateSigned, StateSupported, decode_event
from scapp.channels.driver import load
from tests.support.sim import Sim


def running(players: int = 2) -> tuple[Sim, bytes]:
    """A network with one open channel of which `sim.nodes[0]` is the sequencer."""
    sim = Sim(players)
    channel = sim.nodes[0].open(sim.nodes[1:])
    sim.run()
    return sim, channel


def pages(sim: Sim, channel: bytes, node: int = 0) -> list[list[type]]:
    """Types of the events of each append."""
    return [[type(decode_event(data)) for data in page.events] for page in sim.nodes[node].log.read(channel)]


def folded(sim: Sim, channel: bytes) -> Any:
    """What a restart of the sequencer would find."""
    return load(sim.nodes[0].log, channel, sim.nodes[0].signer)


def test_a_supported_state_and_the_next_proposal_share_an_append() -> None:
    sim, channel = running()
    alice = sim.nodes[0]
    alice.submit(channel, b"first")
    before = len(pages(sim, channel))
    alice.submit(channel, b"second")  # waits: the first is in flight
    sim.run()
    assert pages(sim, channel)[before:] == [[StateSupported, StateSigned], [StateSupported]]


def test_a_supported_state_is_stored_at_once_when_nothing_follows() -> None:
    sim, channel = running()
    sim.nodes[0].submit(channel, b"only")
    sim.run()
    assert pages(sim, channel)[-1] == [StateSupported]
    assert folded(sim, channel).engine.state.turn == sim.nodes[0].engine(channel).state.turn


def test_a_countersigner_keeps_nothing_back() -> None:
    sim, channel = running()
    sim.nodes[0].submit(channel, b"first")
    sim.nodes[0].submit(channel, b"second")
    sim.run()
    assert pages(sim, channel, 1)[-2:] == [[StateCompleted]] * 2


def test_nothing_leaves_while_a_supported_state_waits_for_its_append(monkeypatch: pytest.MonkeyPatch) -> None:
    sim, channel = running()
    alice = sim.nodes[0]
    alice.submit(channel, b"first")
    alice.submit(channel, b"second")
    seen: list[int] = []
    send = sim.send

    def watched(sender: Any, to: Any, data: bytes, acked: Any) -> None:
        if sender is alice:
            seen.append(alice.engine(channel).state.turn - folded(sim, channel).engine.state.turn)
        send(sender, to, data, acked)

    monkeypatch.setattr(sim, "send", watched)
    sim.run()
    assert seen
    assert set(seen) == {0}


def test_a_broken_run_leaves_the_supported_state_to_the_next_append(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is stored later is stored after it: the stream never contradicts itself."""
    sim, channel = running()
    alice = sim.nodes[0]
    alice.submit(channel, b"first")
    alice.submit(channel, b"second")
    ask = alice._ask

    def broken(driver: Any, batch: Any) -> object:
        raise RuntimeError("the worker thread died")

    monkeypatch.setattr(alice, "_ask", broken)
    with pytest.raises(RuntimeError, match="the worker thread died"):
        sim.run()
    driver = alice.drivers[channel]
    assert driver.engine.state.turn == folded(sim, channel).engine.state.turn + 1
    monkeypatch.setattr(alice, "_ask", ask)
    driver.engine.session.work = None
    alice.tick()
    again = folded(sim, channel)
    assert again.version == driver.version
    assert again.engine.state.head == driver.engine.state.head
    assert again.engine.state.candidates == ()
    assert pages(sim, channel)[-1][0] is StateSupported
