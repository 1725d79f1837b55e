"""Whole lives drawn from a seed: channels of any kind and length, silence, time limits, restores, a bad network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scapp.channels.errors import LocalError
from scapp.channels.types import ChannelId
from scapp.channels.virtual import defunding
from scapp.channels.virtual.record import VirtualRecord
from scapp.channels.virtual.standing import phase
from tests.support.virtual_net import Net, Party, describe


def opened(net: Net, kind: str, fees: tuple[int, ...]) -> Iterator[ChannelId]:
    """One to three channels over the whole path."""
    for _ in range(net.random.randrange(1, 4)):
        last = 0 if kind == "payment" else net.random.randrange(300)
        yield net.open(net.agreement(kind, ((net.random.randrange(1, 300), last),), fees=fees))


def happens(net: Net, channels: list[ChannelId], falls: Party) -> None:
    """One misfortune; `falls` is the one who is restored, if anybody is."""
    chance = net.random.random()
    if chance < 0.25:
        net.silent = {party.address for party in net.parties if net.random.random() < 0.3}
        net.pass_time(net.random.choice((0, 20, 61)))
        net.run(rounds=3)
        net.silent = set()
    elif chance < 0.5:
        party = net.random.choice(net.parties)
        record = party.records.get(net.random.choice(channels))
        if record is not None:
            try:
                party.take(defunding.end(record, "enough"))
            except LocalError:
                return  # it has ended, or is its app's to end
            party.settle()
            net.flush()
    elif chance < 0.75:
        net.restore(falls, max(0, len(falls.events) - net.random.randrange(1, 8)))
    else:
        net.pass_time(net.random.choice((20, 61)))


def known(net: Net, channel: ChannelId) -> list[VirtualRecord]:
    return [party.records[channel] for party in net.parties if channel in party.records]


@pytest.mark.parametrize("number", range(25))
def test_every_life_ends_the_same_for_all_and_costs_no_hub_anything(number: int, seed: str) -> None:
    """`Net.check` looks at hubs, sums and signatures after each message."""
    hubs = number % 4
    net = Net(hubs + 2, f"{seed}/{number}", lossy=True)
    fees = tuple(net.random.randrange(20) for _ in range(hubs))
    channels = list(opened(net, net.random.choice(("payment", "app")), fees))
    falls = net.random.choice(net.parties)
    for _ in range(net.random.randrange(1, 6)):
        moment = net.delivered + net.random.randrange(40)
        net.run(lambda moment=moment: net.delivered >= moment, rounds=4)
        happens(net, channels, falls)
    net.run(rounds=150)
    net.pass_time(61)  # one that a restore has brought back begins to count anew
    net.run(rounds=150)
    for channel in channels:
        records = known(net, channel)
        phases = {phase(record) for record in records}
        assert phases <= {"running"} or all(record.over for record in records), describe(net)
        assert phases <= {"running"} or phases <= {"released"} or phases <= {"failed", "rejected"}, describe(net)
