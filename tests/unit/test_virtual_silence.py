"""A participant says nothing more, from any moment on: the others stop where nobody loses, and go on when it returns.

What each of the others can do without it is in docs/reference/virtual.md, "When somebody is silent".
"""

from __future__ import annotations

import pytest

from scapp.channels.ledger.proposals import Add
from scapp.channels.types import Address, ChannelId
from scapp.channels.virtual import defunding
from scapp.channels.virtual.agreement import state_of
from scapp.channels.virtual.record import RIGHT, VirtualRecord
from scapp.channels.virtual.standing import phase
from tests.support.virtual_net import Net, Party, describe

FEES = {0: (), 1: (7,), 2: (7, 11)}
STEP = {0: 1, 1: 1, 2: 5}  # how many messages apart the moments are


def others(net: Net) -> list[Party]:
    return [party for party in net.parties if party.address not in net.silent]


def guaranteed(party: Party, record: VirtualRecord) -> list[int]:
    """The sides on which this party's co-signed ledgers hold the guarantee."""
    return [
        at
        for at, side in record.sides
        if any(each.find(record.channel_id) for each in party.ledgers[Address(side.peer)].current.assets)
    ]


def safe(net: Net, channel: ChannelId) -> None:
    """Whoever has a guarantee in a ledger has a state under all signatures that settles it; and nobody has bound itself
    to a state that only one of its two ledgers would pay for, or, a payee, none. A payer, whom none pays, has proposed
    its guarantee: it may sign the end, too, before it hears that its hub has agreed to that."""
    net.check()
    for party in others(net):
        record = party.records.get(channel)
        if record is None:
            continue
        held = guaranteed(party, record)
        assert not held or record.strongest is not None
        if record.signed(record.postfund) and len(held) < len(record.sides) and record.ended is None:
            assert proposed(party, record), describe(net)
        if record.signed(record.final):
            assert record.guaranteed or (record.funded and proposed(party, record)), describe(net)


def proposed(party: Party, record: VirtualRecord) -> bool:
    """Is this the payer, with its guarantee in the queue of its ledger?"""
    queue = party.ledgers[Address(record.sides[0][1].peer)].queue
    added = [each.proposal.target for each in queue if isinstance(each.proposal, Add)]
    return record.my_index == 0 and record.channel_id in added


def settled(net: Net, channel: ChannelId, fees: tuple[int, ...], paid: int) -> None:
    """Everybody is at the same end."""
    phases = set(net.phases(channel))
    if phases == {"running"}:
        return
    assert net.guarantees() == 0, describe(net)
    assert all(record.over for party in net.parties for record in party.records.values()), describe(net)
    if phases == {"released"}:
        assert net.gains() in ([-sum(fees) - paid, *fees, paid], [-sum(fees), *fees, 0])
    else:
        assert phases <= {"failed", "rejected"}
        assert set(net.gains()) == {0}


@pytest.mark.parametrize("hubs", [0, 1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.no_cover
def test_silence_while_it_is_funded(hubs: int) -> None:
    """From after each number of messages on, each participant; the others run into their time limit; it returns."""
    for who in range(hubs + 2):
        for after in range(0, 60, STEP[hubs]):
            net = Net(hubs + 2, f"{who}/{after}")
            channel = net.open(net.agreement(fees=FEES[hubs]))
            net.run(lambda net=net, after=after: net.delivered >= after)
            if not net.bag:
                break
            net.silent.add(net.parties[who].address)
            net.run()
            net.pass_time(61)
            net.run(rounds=5)
            safe(net, channel)
            net.silent.clear()
            net.run()
            settled(net, channel, FEES[hubs], 0)


@pytest.mark.parametrize("hubs", [0, 1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.no_cover
def test_silence_while_it_ends(hubs: int) -> None:
    """The same while the final state goes round and the guarantees go."""
    for who in range(hubs + 2):
        for asks in (0, hubs + 1)[: 3 - hubs]:
            for after in range(0, 60, STEP[hubs]):
                net = Net(hubs + 2, f"{who}/{asks}/{after}")
                channel = net.open(net.agreement(fees=FEES[hubs]))
                net.run()
                net.parties[0].promised[channel] = net.parties[-1].promised[channel] = 25
                net.parties[asks].take(defunding.end(net.parties[asks].records[channel], "done"))
                net.parties[asks].settle()
                net.flush()
                until = net.delivered + after
                net.run(lambda net=net, until=until: net.delivered >= until)
                if not net.bag:
                    break
                net.silent.add(net.parties[who].address)
                net.run(rounds=5)
                safe(net, channel)
                net.silent.clear()
                net.run()
                assert net.phases(channel) == ["released"] * (hubs + 2)
                settled(net, channel, FEES[hubs], 25)


@pytest.mark.parametrize("number", range(30))
@pytest.mark.no_cover
def test_silence_of_any_number_over_a_bad_network(number: int, seed: str) -> None:
    silent_over_a_bad_network(f"{seed}/{number}", number)


def test_a_payer_signs_the_end_before_it_hears_that_its_hub_has_agreed_to_its_guarantee() -> None:
    """Hub and payee fall silent just then."""
    silent_over_a_bad_network("30469/s/19", 19)


def silent_over_a_bad_network(seed: str, number: int) -> None:
    hubs = number % 3
    net = Net(hubs + 2, seed, lossy=True)
    for party in net.parties:
        party.crashing = True
    channel = net.open(net.agreement(fees=FEES[hubs]))
    for _ in range(4):
        moment = net.delivered + net.random.randrange(25)
        net.run(lambda moment=moment: net.delivered >= moment, rounds=3)
        net.silent = {party.address for party in net.parties if net.random.random() < 0.4}
        if net.random.random() < 0.5:
            net.pass_time(40)
        net.run(rounds=3)
        safe(net, channel)
        net.silent.clear()
        if net.random.random() < 0.3:
            party = net.random.choice(net.parties)
            record = party.records.get(channel)
            if record is not None and not record.over and record.ended is None:
                party.take(defunding.end(record, "enough"))
                party.settle()
                net.flush()
    net.run(rounds=400)
    settled(net, channel, FEES[hubs], 0)


def test_a_payee_can_redeem_whenever_its_channel_runs() -> None:
    """It takes vouchers only with the complete postfund state in its hands: the proof that the chain wants."""
    for after in range(40):
        net = Net(3, after)
        channel = net.open(net.agreement())
        net.run(lambda net=net, after=after: net.delivered >= after)
        if channel in net.parties[2].records and net.phases(channel)[-1] == "running":
            assert net.parties[2].records[channel].strongest == "postfund"


def test_what_the_chain_decides_is_taken_into_the_ledger_of_those_who_still_speak() -> None:
    """The payer is gone, a voucher of 30 was redeemed on chain: hub and payee remove the guarantee with that."""
    net = Net(3)
    channel = net.open(net.agreement(fees=(7,)))
    net.run()
    net.silent.add(net.parties[0].address)
    for party in others(net):
        record = party.records[channel]
        outcome = state_of(record.agreement, "prefund", 2, ((70, 30),), b"redemption")
        party.take(defunding.settled_on_chain(record, outcome))
        party.settle()
    net.flush()
    net.run(rounds=5, check=False)
    hub, payee = others(net)
    assert payee.worth(net.assets[0]) - payee.start_worth[net.assets[0]] == 30
    assert net.phases(channel)[1:] == ["disputed", "released"]
    hub.take(defunding.ledger_settled(hub.records[channel], 0))
    assert net.phases(channel)[1:] == ["released", "released"]


@pytest.mark.parametrize("payer_leads", [True, False])
def test_a_hub_returns_no_fee_that_it_does_not_get_back(payer_leads: bool) -> None:
    """The second hub vanishes with its fee while the channel is given up. The first one never returns what it passed
    on; once the chain has ended the channel, payer and first hub go on without it."""
    net = Net(4, leads=[payer_leads, True, True])
    channel = net.open(net.agreement(fees=(7, 11)))
    payer, hub, second, payee = net.parties
    net.run(lambda: channel in second.records and second.records[channel].prefund.complete)
    net.silent.add(payee.address)
    net.run(lambda: second.records[channel].held[0])
    net.silent.clear()
    hub.take(defunding.end(hub.records[channel], "no longer"))
    hub.settle()
    net.flush()
    net.run(lambda: hub.records[channel].ended is not None and payer.records[channel].ended is not None)
    net.silent |= {second.address, payee.address}
    net.run(rounds=5)
    assert phase(hub.records[channel]) == phase(payer.records[channel]) == "failed"
    assert guaranteed(payer, payer.records[channel]) == [RIGHT]
    hub.take(defunding.ledger_settled(hub.records[channel], RIGHT))
    hub.settle()
    net.run(rounds=5)
    assert guaranteed(payer, payer.records[channel]) == [RIGHT], "a fee was returned that never came back"
    for party in (payer, hub):
        outcome = state_of(party.records[channel].agreement, "prefund", 2, ((100, 0),), b"")
        party.take(defunding.settled_on_chain(party.records[channel], outcome))
        party.settle()
    net.flush()
    net.run(rounds=5, check=False)
    assert payer.records[channel].cleared
    assert hub.records[channel].cleared
    assert net.gains()[0] == -18
