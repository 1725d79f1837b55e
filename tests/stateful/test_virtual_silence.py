"""One party falls silent at every step of a virtual channel's life: the others get out what is theirs, by the chain."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from scapp.channels.types import ChannelId
from scapp.channels.virtual import defunding
from tests.support.dispute_net import DisputeNet, model_net

STEPS_MAX = 200
FEE, FUNDS, PAID = 1, 1_000, 40
BROUGHT = {"payment": (100, 0), "app": (100, 50)}
AFTER = ((60, 90),)  # of the app's newest state, and of its final one


@dataclass
class Life:
    """A channel that is opened, used and ended; `used` once its ends have moved `PAID`."""

    net: DisputeNet
    kind: str
    channel: ChannelId | None = None
    used: bool = False
    steps: int = 0

    def run(self, steps: int = STEPS_MAX) -> None:
        """Up to a number of messages."""
        channel = self.channel = self.net.open(self.net.agreement(self.kind, [BROUGHT[self.kind]]))
        while self.steps < steps:
            self.net.engines({channel: AFTER} if self.used and self.kind == "app" else {})
            if self.net.bag:
                self.net.deliver()
                self.steps += 1
            elif self.used:
                return
            else:
                self._use()

    def _use(self) -> None:
        assert self.channel is not None
        net, ends = self.net, (self.net.parties[0], self.net.parties[-1])
        assert net.phases(self.channel) == ["running"] * len(net.parties)
        if self.kind == "payment":
            net.pay(self.channel, PAID)
            ends[1].take(defunding.end(ends[1].records[self.channel], "done"))
            ends[1].settle()
            net.flush()
        else:
            net.app_turn(self.channel, 5, AFTER, ends)
        self.used = True

    def check(self, silent: int) -> None:
        """Hubs have what they had at least; the ends no less than the channel says."""
        moved, fees = PAID if self.used else 0, FEE * (len(self.net.parties) - 2)
        for at, party in enumerate(self.net.parties):
            if at == silent:
                continue
            least = FUNDS - moved - fees if at == 0 else FUNDS + moved if party is self.net.parties[-1] else 2 * FUNDS
            assert self.net.has(party) >= least, f"participant {at} has {self.net.has(party)}, {least} were its own"


def play(kind: str, hubs: int, leads: list[bool], steps: int, silent: int) -> None:
    """The life up to a step, then one is silent: its neighbours leave it, and the chain does the rest."""
    net = model_net(hubs + 2, f"{kind}{steps}", leads=leads)
    life = Life(net, kind)
    life.run(steps)
    mute = net.parties[silent]
    net.silence(mute)
    net.bag.clear()
    for side in net.sides:
        if mute.address in side.ledgers:
            side.leave(mute.address)
    net.until_settled()
    life.check(silent)


def steps_of(kind: str, hubs: int, leads: list[bool]) -> int:
    life = Life(model_net(hubs + 2, 0, leads=leads), kind)
    life.run()
    assert life.steps < STEPS_MAX
    assert life.channel is not None
    assert life.net.phases(life.channel) == ["released"] * (hubs + 2)
    return life.steps


@pytest.mark.parametrize("kind", ["payment", "app"])
def test_silence_at_some_steps_costs_the_others_nothing(kind: str, seed: str) -> None:
    """A sample of those below."""
    draw = random.Random(f"{seed}/{kind}")
    for _ in range(3):
        hubs = draw.choice([0, 1, 1, 2])
        leads = [draw.random() < 0.5 for _ in range(hubs + 1)]
        play(kind, hubs, leads, draw.randrange(steps_of(kind, hubs, leads) + 1), draw.randrange(hubs + 2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["payment", "app"])
@pytest.mark.parametrize(
    ("hubs", "leads"), [(0, [True]), (1, [True, True]), (1, [False, True]), (2, [True, False, True])]
)
def test_silence_at_every_step_costs_the_others_nothing(kind: str, hubs: int, leads: list[bool]) -> None:
    for steps in range(steps_of(kind, hubs, leads) + 1):
        for silent in range(hubs + 2):
            play(kind, hubs, leads, steps, silent)
