"""Virtual channels from proposal to release, over 0 to 3 hubs, over networks good and bad."""

from __future__ import annotations

import itertools

import pytest

from scapp.channels.types import ZERO_ADDRESS, ChannelId
from scapp.channels.virtual import defunding
from tests.support.virtual_net import TOKEN, Net


def closed(net: Net, channel: ChannelId, paid: int, by: int = -1) -> None:
    """End a running payment channel in which `paid` has been promised; participant `by` asks."""
    record = net.parties[by].records[channel]
    for address in (record.agreement.participants[0], record.agreement.participants[-1]):
        net.by_address[address].promised[channel] = paid
    net.parties[by].take(defunding.end(record, "done"))
    net.parties[by].settle()
    net.flush()


@pytest.mark.parametrize("left_leads", [True, False])
@pytest.mark.parametrize("hubs", [0, 1, 2, 3])
def test_a_payment_channel_lives_and_ends_over_any_number_of_hubs(hubs: int, left_leads: bool) -> None:
    net = Net(hubs + 2, leads=[left_leads] * (hubs + 1))
    channel = net.open(net.agreement(fees=[5 + hub for hub in range(hubs)]))
    net.run(lambda: net.phases(channel) == ["running"] * (hubs + 2))
    fees = [5 + hub for hub in range(hubs)]
    assert net.phases(channel) == ["running"] * (hubs + 2)
    assert net.gains() == [-sum(fees), *fees, 0]
    closed(net, channel, paid=30)
    net.run()
    assert net.phases(channel) == ["released"] * (hubs + 2)
    assert net.gains() == [-sum(fees) - 30, *fees, 30]
    assert net.guarantees() == 0


@pytest.mark.parametrize("by", [0, 1, 2, 3])
def test_any_participant_can_ask_for_the_end(by: int) -> None:
    net = Net(4)
    channel = net.open(net.agreement())
    net.run(lambda: net.phases(channel) == ["running"] * 4)
    closed(net, channel, paid=77, by=by)
    net.run()
    assert net.phases(channel) == ["released"] * 4
    assert net.gains() == [-79, 1, 1, 77]


@pytest.mark.parametrize("number", range(12))
def test_losing_doubling_and_reordering_messages_changes_nothing_but_the_time(number: int, seed: str) -> None:
    hubs = number % 4
    net = Net(hubs + 2, f"{seed}/{number}", lossy=True)
    for party in net.parties:
        party.crashing = True
    channel = net.open(net.agreement())
    net.run(lambda: net.phases(channel) == ["running"] * (hubs + 2), rounds=200)
    assert net.phases(channel) == ["running"] * (hubs + 2)
    closed(net, channel, paid=40, by=number % (hubs + 2))
    net.run(rounds=200)
    assert net.phases(channel) == ["released"] * (hubs + 2)
    assert net.gains() == [-40 - hubs, *[1] * hubs, 40]
    assert net.guarantees() == 0


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_channels_over_the_same_ledgers_close_in_any_order(order: tuple[int, ...]) -> None:
    net = Net(3)
    channels = [net.open(net.agreement(amounts=((100 + number, 0),))) for number in range(3)]
    net.run(lambda: all(net.phases(each) == ["running"] * 3 for each in channels))
    assert net.guarantees() == 3 * 4  # each of the two ledgers as its two parties see it
    for number in order:
        closed(net, channels[number], paid=10 * number)
        net.run(lambda each=channels[number]: net.phases(each) == ["released"] * 3)
    net.run()
    assert net.gains() == [-33, 3, 30]


def test_many_channels_open_and_close_at_once_in_both_directions(seed: str) -> None:
    net = Net(3, seed, lossy=True)
    there = [net.open(net.agreement(amounts=((20, 0),))) for _ in range(6)]
    back = [net.open(net.agreement(amounts=((20, 0),), path=net.parties[::-1])) for _ in range(6)]
    net.run(lambda: all(net.phases(each) == ["running"] * 3 for each in there + back), rounds=200)
    for number, channel in enumerate(there + back):
        closed(net, channel, paid=number, by=number % 3)
    net.run(rounds=300)
    assert all(net.phases(each) == ["released"] * 3 for each in there + back)
    paid_there, paid_back = sum(range(6)), sum(range(6, 12))
    assert net.gains() == [-6 - paid_there + paid_back, 12, paid_there - paid_back - 6]


def test_an_app_channel_in_several_assets_ends_as_its_parties_say(seed: str) -> None:
    net = Net(4, seed, assets=(ZERO_ADDRESS, TOKEN), lossy=True)
    channel = net.open(net.agreement("app", ((60, 40), (0, 500)), fees=(3, 4)))
    net.run(lambda: net.phases(channel) == ["running"] * 4, rounds=200)
    assert net.phases(channel) == ["running"] * 4
    net.run(rounds=200, final={channel: ((10, 90), (500, 0))})
    assert net.phases(channel) == ["released"] * 4
    assert net.gains() == [-57, 3, 4, 50]
    assert net.gains(TOKEN) == [500, 0, 0, -500]


@pytest.mark.parametrize("leads", [True, False])
@pytest.mark.parametrize("kind", ["payment", "app"])
def test_a_payer_that_leads_its_ledger_signs_the_postfund_state_with_its_proposal(kind: str, leads: bool) -> None:
    """Nobody else, and no app party, signs before its ledgers hold the guarantee."""
    net = Net(4, leads=[leads, True, False])
    channel = net.open(net.agreement(kind, amounts=((60, 40 if kind == "app" else 0),)))
    early: set[int] = set()

    def runs() -> bool:
        for number, party in enumerate(net.parties):
            record = party.records.get(channel)
            if record is not None and record.signed(record.postfund) and not record.guaranteed:
                early.add(number)
        return net.phases(channel) == ["running"] * 4

    net.run(runs)
    assert runs()
    assert early == ({0} if leads and kind == "payment" else set())


def test_a_network_that_loses_nothing_needs_few_messages() -> None:
    """Those of ledgers included. From each to all, go-nitro needs 6, 16 and 30 to open and 4, 10 and 18 to close."""
    counted = []
    for hubs in (0, 1, 2):
        net = Net(hubs + 2, leads=[True] * (hubs + 1))
        channel = net.open(net.agreement())
        net.run(lambda net=net, channel=channel, hubs=hubs: net.phases(channel) == ["running"] * (hubs + 2))
        opened = net.delivered
        closed(net, channel, paid=1, by=0)
        net.run()
        counted.append((opened, net.delivered - opened))
    assert counted == [(6, 4), (14, 9), (27, 16)]
