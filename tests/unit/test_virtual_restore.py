"""A node that goes on from a backup: it signs nothing before both neighbours have told what it had signed (rule 10)."""

from __future__ import annotations

import pytest

from scapp.channels.errors import LocalError
from scapp.channels.types import ChannelId
from scapp.channels.virtual import defunding, opening
from scapp.channels.virtual.crank import ledger_wants
from scapp.channels.virtual.events import EndWanted, GuaranteeGone, GuaranteeHeld, NeighbourTold, VirtualRestored
from scapp.channels.virtual.record import create, evolve
from scapp.channels.virtual.standing import phase, waiting_for
from tests.support.virtual_net import STORED, Net, describe


def wake(net: Net, channel: ChannelId) -> None:
    """A neighbour asks about the channel, as it does whenever it waits for something of it."""
    for party in net.parties:
        record = party.records.get(channel)
        if record is not None and not record.over:
            party.take(defunding.end(record, "done"))
            party.settle()
            net.flush()
            return


@pytest.mark.parametrize("who", [0, 1, 2, 3])
def test_a_restored_participant_learns_what_it_had_signed_and_goes_on(who: int) -> None:
    """At each number of messages, back to a backup of each age; the channel ends for all as it does without."""
    for after in range(who, 44, 6):
        for forgotten in (1, 3, 100):
            net = Net(4, f"{after}/{forgotten}")
            channel = net.open(net.agreement(fees=(7, 11)))
            net.run(lambda net=net, after=after: net.delivered >= after)
            if after > 38:
                wake(net, channel)
                net.run(lambda net=net: net.delivered >= 60)
            party = net.parties[who]
            if channel not in party.records:
                continue
            net.restore(party, max(0, len(party.events) - forgotten))
            net.run()
            if not net.phases(channel):
                continue  # nobody had heard of it
            if set(net.phases(channel)) != {"running"} and not all(
                each.records[channel].over for each in net.parties if channel in each.records
            ):
                net.pass_time(61)
                net.run()
            else:
                wake(net, channel)
                net.run()
            phases = {phase(each.records[channel]) for each in net.parties if channel in each.records}
            assert phases in ({"released"}, {"failed"}, {"rejected"}, {"rejected", "failed"}), describe(net)
            assert net.guarantees() == 0
            assert net.gains() == ([-18, 7, 11, 0] if phases == {"released"} else [0, 0, 0, 0]), describe(net)


@pytest.mark.parametrize("who", [0, 1, 2])
def test_one_whose_backup_is_from_any_moment_of_a_channel_that_has_ended_knows_its_end(who: int) -> None:
    net = Net(3)
    channel = net.open(net.agreement(fees=(7,)))
    net.run()
    wake(net, channel)
    net.run()
    party = net.parties[who]
    whole = list(party.events)
    for kept in range(2, len(whole)):
        party.events = list(whole)
        net.restore(party, kept)
        net.run()
        assert net.phases(channel) == ["released"] * 3, f"{kept}: {describe(net)}"


def running(promised: int) -> tuple[Net, ChannelId]:
    """A payment channel over a hub, with a voucher from one end to the other."""
    net = Net(3)
    channel = net.open(net.agreement(fees=(7,)))
    net.run()
    promise(net, channel, promised)
    return net, channel


def promise(net: Net, channel: ChannelId, total: int) -> None:
    net.parties[0].promised[channel] = net.parties[-1].promised[channel] = total


def test_a_final_state_that_reached_nobody_is_signed_anew_with_what_was_paid_since() -> None:
    """It was on its way when the payer's disk was lost. Turn 2 is the only one that a payment channel can end with."""
    net, channel = running(7)
    payer = net.parties[0]
    backup = len(payer.events)
    payer.take(defunding.end(payer.records[channel], "done"))
    payer.settle()
    first = payer.records[channel].final
    assert first is not None
    assert first.amounts == ((93, 7),)
    assert payer.records[channel].signed(first)
    net.restore(payer, backup)
    payer.lost.clear()  # else `Net.run` objects to the second one: this one is in no hands
    net.run()
    assert net.phases(channel) == ["running"] * 3
    promise(net, channel, 13)
    wake(net, channel)
    net.run()
    assert net.phases(channel) == ["released"] * 3, describe(net)
    assert net.gains() == [-20, 7, 13]


def test_a_final_state_that_reached_the_hub_is_the_restored_payers_only_one() -> None:
    """It signs no other, though its owner wants the end at once: it waits for what the hub tells."""
    net, channel = running(7)
    payer, hub, _ = net.parties
    backup = len(payer.events)
    payer.take(defunding.end(payer.records[channel], "done"))
    payer.settle()
    net.flush()
    net.run(lambda: hub.records[channel].final is not None)
    net.bag.clear()  # the payee has not heard of it
    net.restore(payer, backup)
    payer.promised[channel] = 5
    payer.take(defunding.end(payer.records[channel], "done"))
    payer.settle()
    net.flush()
    net.run()
    assert net.phases(channel) == ["released"] * 3, describe(net)
    assert net.gains() == [-14, 7, 7]


def test_one_that_recovers_asks_even_those_who_have_turned_the_channel_down() -> None:
    net = Net(3)
    channel = net.open(net.agreement())
    payer, hub, _ = net.parties
    net.run(lambda: channel in hub.records)
    net.bag = []
    hub.take(defunding.end(hub.records[channel], "no longer"))
    hub.settle()
    hub.sends = []
    net.restore(payer, len(payer.events))
    net.run()
    assert net.phases(channel)[:2] == ["rejected", "rejected"]


def test_it_wants_nothing_of_its_ledgers_meanwhile() -> None:
    """Not even as their follower, who agrees to what its record wants: it may have been given up, or have ended."""
    net = Net(3, leads=[True, True])
    channel = net.open(net.agreement())
    hub = net.parties[1]
    net.run(lambda: channel in hub.records and hub.records[channel].prefund.complete)
    record = hub.records[channel]
    assert ledger_wants(record)
    assert ledger_wants(evolve(record, VirtualRestored(channel, b"\x01" * 16))) == ()


def test_a_leader_that_has_forgotten_a_guarantee_and_its_end_does_not_propose_it_again() -> None:
    """Its neighbours tell it of the final state; its ledger, which has recovered, is looked at afterwards. The follower
    would never sign a second guarantee, and the ledger's queue would wait for that."""
    net = Net(3, leads=[False, True])
    channel = net.open(net.agreement())
    net.run()
    wake(net, channel)
    net.run()
    hub = net.parties[1]
    created, *events = (STORED.decode(data) for data in hub.events)
    record = create(created)
    for event in events:
        if not isinstance(event, EndWanted | GuaranteeHeld | GuaranteeGone):
            record = evolve(record, event)
    assert record.ended is not None
    assert all(peer != record.right.peer for peer, _ in ledger_wants(record) if record.right is not None)


def test_it_signs_nothing_meanwhile_and_says_whom_it_waits_for() -> None:
    net = Net(3)
    channel = net.open(net.agreement())
    net.run()
    hub = net.parties[1]
    record = evolve(hub.records[channel], VirtualRestored(channel, b"\x01" * 16))
    assert phase(record) == "recovering"
    for party in (net.parties[0], net.parties[2]):
        assert party.address.hex() in waiting_for(record)
    assert ledger_wants(record) == ()
    with pytest.raises(LocalError, match="nothing to accept"):
        opening.approve(record, hub.context)
    one_told = evolve(record, NeighbourTold(channel, 0, record.token))
    assert phase(one_told) == "recovering"
    assert phase(evolve(one_told, NeighbourTold(channel, 1, record.token))) == "running"


def test_a_neighbour_that_recovers_itself_vouches_for_nothing() -> None:
    net = Net(2)
    channel = net.open(net.agreement())
    net.run()
    for party in net.parties:
        party.restore(len(party.events))
    net.flush()
    net.run(rounds=4)
    assert net.phases(channel) == ["recovering", "recovering"]


def test_a_channel_from_before_the_restore_is_not_begun_again() -> None:
    net = Net(3)
    hub = net.parties[1]
    hub.restored_ms, hub.token = hub.now_ms + 1, b"\x02" * 16
    channel = net.open(net.agreement())
    net.run(rounds=3)
    assert channel not in hub.records
    assert any("before this node was restored" in text for text in hub.refused)
